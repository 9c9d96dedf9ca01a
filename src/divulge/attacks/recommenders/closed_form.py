"""The closed form of one user's basket: what the last layer's gradient is, less what its softmax makes of it."""

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from divulge.attacks.knowledge import Knowledge
from divulge.attacks.recommenders.base import Baskets, RecommenderAttack, entry, outer
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.releases import GradientRecord, Tampering

ROWS = 256
"""Items, those with the strongest signal, from which the input of the last layer is read."""
WHOLE = 0.1
"""How close to a whole number an item and the size of a basket come where they are exact."""
STEPS = 20
"""Rounds of fitting size and scale of the basket under noise."""


@dataclass(frozen=True, eq=False)
class Signal:
    """What the last layer's gradient holds for one user.

    Args:
        features: what entered the layer `(F,)`.
        gradient: of the loss with respect to the logits `(items,)`, up to a common factor where the update was scaled.
        residual: the share of the layer's gradient, over the items with the strongest signal, left unexplained.
    """

    features: Tensor
    gradient: Tensor
    residual: float


@dataclass(frozen=True)
class BasketClosedForm(RecommenderAttack):
    """Names all items of one user out of the last layer's gradient, whatever dropout and the code drew.

    The gradient of the multinomial loss by the logits is `g = N p - x` for the basket `x` of N items. It stands in the
    last bias; the weights' gradient, its product with the layer's input, gives that input and so the softmax `p`. Any
    item that is not in the basket then tells `N = g_i / p_i`, the largest such ratio, and `x = N p - g` follows. A
    scaled gradient changes the unit of both alike. Without a last bias the input comes from the linear layer below. The
    basket is claimed exactly where all of this holds together: one direction in the layer, and whole items.

    Under noise, an adaptive adversary reads `g` from weights and bias together, which averages the noise down, fits N
    and the scale, and names what is likely to be in the basket, given how popular it is among the public users of
    `knowledge.data`. Where fake items were added, it weighs each item it finds by that popularity.

    Args:
        tolerance: share of the gradient that may be left unexplained before the record is taken for that of several
            users.
    """

    name: ClassVar[str] = "basket-closed-form"
    adapts: ClassVar[bool] = True

    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise BadInputError(f"{self.name}: expected a tolerance in (0, 1), got {self.tolerance}.")

    def read(
        self, records: list[GradientRecord], model: nn.Module, *, knowledge: Knowledge, generator: torch.Generator
    ) -> Baskets:
        """Solve each record; facts say how many items each user has as `sizes`.

        Raises:
            BadInputError: records of several users, told or not, or no linear layer with a bias.
        """
        if records[0].batch_size != 1:
            raise BadInputError(
                f"{self.name}: expected the record of one user, got one of {records[0].batch_size}. Use "
                "basket-separation, or encoder-columns for their union."
            )
        defense = knowledge.defense
        tampering = defense.tampering(model) if defense else Tampering()
        scores, items, matching = [], [], []
        exact = True
        for record in records:
            one = self._signal(record, model, tampering)
            shares = _shares(self.name, model, one)
            if tampering.std:
                popular = None if knowledge.data is None else knowledge.data.inputs
                found, score = _noisy(one, shares, tampering, popular)
                exact = False
            else:
                total = (one.gradient / shares).nan_to_num(neginf=-torch.inf, posinf=-torch.inf).max()
                score = total * shares - one.gradient
                found = score > score.max() / 2
                exact &= one.residual < self.tolerance and _whole(score, total)
            if defense and defense.fakes and knowledge.data is not None:
                popular = knowledge.data.inputs.mean(dim=0).double()
                size = float(found.sum()) / (1 + defense.fakes)
                fake = defense.fakes * size / len(popular)
                score = torch.where(found, popular / (popular + fake), score - score.max() - 1)
                found = found & (score > 0.5)
            items.append(found)
            scores.append(score)
            matching.append(one.residual)
        return Baskets(
            torch.stack(items)[:, None],
            torch.stack(scores)[:, None].float(),
            torch.tensor(matching),
            exact=exact and not (defense and defense.fakes),
            facts={"sizes": [int(found.sum()) for found in items]},
        )

    def _signal(self, record: GradientRecord, model: nn.Module, tampering: Tampering) -> Signal:
        place, layer = outer(self.name, model)
        weight = record.gradients[entry(place, "weight")]
        if layer.bias is None:
            features = _features_below(self.name, record, model, noisy=tampering.std > 0)
            gradient = (weight @ features.to(weight)).double() / features.square().sum()
        else:
            bias = record.gradients[entry(place, "bias")].double()
            if tampering.std:
                return _averaged(weight.double(), bias)
            gradient = bias
            rows = bias.abs().topk(min(ROWS, len(bias))).indices
            features = weight[rows].double().T @ bias[rows] / bias[rows].square().sum()
        rows = gradient.abs().topk(min(ROWS, len(gradient))).indices
        strong = weight[rows].double()
        residual = float((strong - gradient[rows, None] * features).norm() / strong.norm())
        if residual > self.tolerance and not tampering.std and _several(strong):
            raise BadInputError(
                f"{self.name}: expected the gradient of one user, got one that is the sum of several: a share of "
                f"{residual:.2g} of it fits no single user. Say how many in batch_size and use basket-separation."
            )
        return Signal(features, gradient, residual)


def _several(weight: Tensor) -> bool:
    """Whether a gradient has more than one direction and yet not all of them, as noise does."""
    size = torch.linalg.svdvals(weight)
    return 1 < int((size > 1e-4 * size[0]).sum()) < 0.5 * len(size)


def _shares(name: str, model: nn.Module, one: Signal) -> Tensor:
    """The softmax of the last layer over the items that took part in it, float64 `(items,)`."""
    _, layer = outer(name, model)
    with torch.no_grad():
        logits = layer(one.features.to(layer.weight)).double()
    drawn = one.gradient != 0
    return logits.masked_fill(~drawn, -torch.inf).softmax(dim=0)


def _averaged(weight: Tensor, bias: Tensor) -> Signal:
    """The leading direction of weights and bias together, which is that of the features and 1."""
    both = torch.cat([weight, bias[:, None]], dim=1)
    direction = both.T @ bias
    for _ in range(STEPS):
        direction = both.T @ (both @ (direction / direction.norm()))
    direction = direction / direction.norm()
    features = direction[:-1] / direction[-1]
    gradient = both @ direction * direction[-1]
    left = both - (both @ direction)[:, None] * direction
    return Signal(features, gradient, float(left.norm() / both.norm()))


def _noisy(one: Signal, shares: Tensor, tampering: Tampering, public: Tensor | None) -> tuple[Tensor, Tensor]:
    """The items to name, and the logarithm of the odds of each.

    `g = N c p - c x` plus noise; the size N, and the scale c where it is not known to be 1, are fitted in turns with x.
    The odds beforehand are those of how many of the public users have an item, else the same for all items.
    """
    std = tampering.std / (1 + one.features.square().sum()).sqrt()
    prior = None if public is None else popularity(public)
    scale = (-one.gradient).max() if tampering.scaled else one.gradient.new_tensor(1.0)
    total = scale.new_zeros(())
    odds = torch.zeros_like(shares)
    for _ in range(STEPS):
        error = total * shares - one.gradient
        rate = odds.sigmoid().mean().clamp(1 / len(shares), 0.5) if prior is None else prior
        odds = (error.square() - (error - scale).square()) / (2 * std**2) + (rate / (1 - rate)).log()
        inside = odds.sigmoid()
        if tampering.scaled:
            scale = (error @ inside / inside.sum().clamp(min=1e-9)).clamp(min=float(std))
        total = scale * inside.sum()
    return likely(odds), odds


def likely(odds: Tensor) -> Tensor:
    """The items to name where each is in the basket with some odds, given by their logarithm: bool, alike.

    As many of the likeliest as make the expected F1 largest: twice the expected hits over the number named and the
    expected size of the basket together.
    """
    chances, order = odds.double().sigmoid().sort(dim=-1, descending=True)
    count = torch.arange(1, odds.shape[-1] + 1)
    score = chances.cumsum(dim=-1) / (count + chances.sum(dim=-1, keepdim=True))
    first = count <= score.argmax(dim=-1, keepdim=True) + 1
    return torch.zeros_like(first).scatter(-1, order, first)


def _whole(score: Tensor, total: Tensor) -> bool:
    """Whether every item is in the basket once or not at all, and there are as many as the size says.

    A gradient that was not made by a single basket fails this, such as one with noise on it.
    """
    unit = score.max()
    items = score / unit
    whole = bool(((items - items.round()).abs() < WHOLE).all() and (items.round() >= 0).all())
    return whole and abs(float(total / unit) - float(items.round().sum())) < WHOLE


def popularity(public: Tensor) -> Tensor:
    """The share of users who have each item, float64, with one more user who has one item, any."""
    return (public.double().sum(dim=0) + 1 / public.shape[1]) / (len(public) + 1)


def _features_below(name: str, record: GradientRecord, model: nn.Module, *, noisy: bool) -> Tensor:
    """What entered the last layer, from the input of the last linear layer with a bias, passed on."""
    place, last = outer(name, model)
    lower = [
        (own, layer)
        for own, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and layer.bias is not None and own != place
    ]
    if not lower:
        raise BadInputError(f"{name}: expected a linear layer with a bias, got none.")
    own, _ = lower[-1]
    bias = record.gradients[entry(own, "bias")].double()
    weight = record.gradients[entry(own, "weight")].double()
    entered = _averaged(weight, bias).features if noisy else weight.T @ bias / bias.square().sum()
    asked, seen = copy.deepcopy(model).eval(), list[Tensor]()
    asked.get_submodule(own).register_forward_pre_hook(lambda _, given: (entered.to(given[0])[None],))
    asked.get_submodule(place).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad(), seeded(0):
        asked(last.weight.new_ones(1, *record.shape))
    return seen[0][0].double()
