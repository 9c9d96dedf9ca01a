"""Several users' baskets out of the sum of their updates: the kept items, then the noise, then all items."""

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from divulge.attacks.knowledge import Knowledge
from divulge.attacks.recommenders.base import Baskets, RecommenderAttack, entry
from divulge.errors import BadInputError
from divulge.models.multvae import LogVariance, UnitLength
from divulge.models.stochastic import MaskedDropout
from divulge.releases import GradientRecord

RANK = 1e-5
"""Singular values below this share of the largest are rounding."""
ALIKE = 1e-3
"""Columns that differ by less than this share of their length are the same."""
WHOLE = 1e-5
"""How close the square of a root comes to a whole number, as a share of it."""


@dataclass(frozen=True, eq=False)
class Layers:
    """A MultVAE taken apart: names and layers in order."""

    dropout: MaskedDropout
    draw: LogVariance
    linear: dict[str, nn.Linear]


@dataclass(frozen=True)
class BasketSeparation(RecommenderAttack):
    """Tells apart the users of a summed update, such as secure aggregation shows, and names the items of each.

    The column of an item in the first layer's gradient is the sum, over the users who have it and did not drop it, of
    a vector of each user's own: all columns of items that a single user has are the same. They give those vectors, and
    every other column is solved in them for who has it. The first bias gives the sizes of the baskets. So each user's
    input is known with its dropout, then the mean of the code, then, from the encoder's second layer, the noise that
    was drawn, and with all users' last features known, the last layer is solved for each one's gradient by the logits
    and so for the whole basket.

    A user without an item of its own among those that are kept is not told apart; the facts say how many were.
    """

    name: ClassVar[str] = "basket-separation"

    def read(
        self, records: list[GradientRecord], model: nn.Module, *, knowledge: Knowledge, generator: torch.Generator
    ) -> Baskets:
        """Separate each record; users that were not found have no item, and `matching` is the share of them.

        Raises:
            BadInputError: a mean rather than a sum, or a model that is no MultVAE with an output bias.
        """
        if records[0].reduction != "sum" and records[0].batch_size > 1:
            raise BadInputError(f"{self.name}: expected the sum of the users' updates, got their mean. Multiply it.")
        parts = _apart(self.name, model)
        found = [_separated(record, parts) for record in records]
        count, width = records[0].batch_size, records[0].classes
        items = torch.zeros(len(records), count, width, dtype=torch.bool)
        for own, baskets in zip(items, found, strict=True):
            own[: len(baskets)] = baskets
        missing = torch.tensor([1 - len(baskets) / count for baskets in found])
        facts = {"separated": [len(baskets) for baskets in found]}
        return Baskets(items, items.float(), missing, exact=bool((missing == 0).all()), facts=facts)


def _apart(name: str, model: nn.Module) -> Layers:
    layers = list(model.children())
    kinds = (UnitLength, MaskedDropout, nn.Linear, nn.Tanh, nn.Linear, LogVariance, nn.Linear, nn.Tanh, nn.Linear)
    if tuple(map(type, layers)) != kinds or any(one.bias is None for one in layers if isinstance(one, nn.Linear)):
        raise BadInputError(f"{name}: expected a MultVAE with biases, got {type(model).__name__} of another form.")
    double = copy.deepcopy(model).double().cpu()
    linear = {own: layer for own, layer in double.named_children() if isinstance(layer, nn.Linear)}
    (dropout,) = (one for one in double.children() if isinstance(one, MaskedDropout))
    (draw,) = (one for one in double.children() if isinstance(one, LogVariance))
    return Layers(dropout, draw, linear)


@torch.no_grad()
def _separated(record: GradientRecord, parts: Layers) -> Tensor:
    """The baskets of those users who can be told apart, bool `(users, items)`: what is left explains itself."""
    names = list(parts.linear)
    weights = [record.gradients[entry(name, "weight")].double() for name in names]
    biases = [record.gradients[entry(name, "bias")].double() for name in names]
    own = _own_columns(weights[0], record.batch_size)
    if own is None:
        return torch.zeros(0, record.classes, dtype=torch.bool)
    share = 1 - parts.dropout.p
    kept = torch.linalg.lstsq(own, weights[0]).solution.round()
    own, kept, roots = _untangled(own, kept, biases[0] / share)
    told = roots.square().round().clamp(min=1)[:, None]
    if len(told) < record.batch_size:  # a user of whom dropout left nothing has a signal in the bias alone
        kept = torch.cat([kept, kept.new_zeros(1, kept.shape[1])])
        told = torch.cat([told, told.new_ones(1, 1)])
    first, second, third, last = parts.linear.values()
    hidden = torch.tanh(first(kept / told.sqrt() / share))
    mean, std = parts.draw.moments(second(hidden))
    by_mean, by_raw = _solved(hidden, weights[1], biases[1]).chunk(2, dim=1)
    passed = by_mean - parts.draw.beta * mean
    drawn = (by_raw - parts.draw.beta / 2 * (std.square() - 1)) * 2 / (passed * std)
    features = torch.tanh(third(mean + std * drawn))
    shares = functional.softmax(last(features), dim=1)
    gradient = _solved(features, weights[3], biases[3])
    sizes = (gradient / shares).amax(dim=1, keepdim=True).round()
    items = sizes * shares - gradient
    whole = (items - items.round().clamp(0, 1)).abs().amax(dim=1) < 0.25
    right = (
        whole & (items.round().sum(dim=1) == sizes[:, 0]) & (sizes[:, 0] > 0) & ((items > 0.5) | (kept == 0)).all(dim=1)
    )
    return (items > 0.5)[right]


def _solved(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The signal of each user at a layer's outputs `(users, out)`, from what entered it `(users, in)`."""
    entered = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
    return torch.linalg.lstsq(entered.T, _joined(weight, bias).T).solution


def _untangled(own: Tensor, kept: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Take out of the found columns the users they are mixed with.

    A user's column is its signal times the entry `1 / (sqrt(N) (1 - p))` of its input, and the bias is the sum of all
    signals: in the columns, `bias`, divided by `1 - p`, is the square root of each user's N. Where the column of one
    user holds another's too, columns of the one are found to have the other once less, and the other's N is none.

    Returns:
        The columns, who has which item, and the square roots.
    """
    roots = torch.linalg.lstsq(own, bias[:, None]).solution[:, 0]
    for _ in range(len(roots) ** 2):
        found = _mixed(kept, roots)
        if found is None:
            break
        other, one = found
        kept[other] += kept[one]
        roots[other] += roots[one]
        own[:, one] -= own[:, other]
    return own, kept, roots


def _mixed(kept: Tensor, roots: Tensor) -> tuple[int, int] | None:
    """A user who was found once less than it is there, and the one whose column holds it too; None if there is none."""
    for other in (kept < 0).any(dim=1).nonzero()[:, 0].tolist():
        covers = (kept[:, kept[other] < 0] == 1).all(dim=1)
        covers[other] = False
        if covers.any():
            return other, int(covers.nonzero()[0])
    for other in (~_whole(roots)).nonzero()[:, 0].tolist():
        explains = _whole(roots + roots[other]) & _whole(roots) & (kept * kept[other] == 0).all(dim=1)
        if explains.any():
            return other, int(explains.nonzero()[0])
    return None


def _whole(roots: Tensor) -> Tensor:
    """Whether these are square roots of whole numbers from 1."""
    squares = roots.square()
    return (roots > 0.5) & ((squares - squares.round()).abs() < WHOLE * squares.clamp(min=1))


def _joined(weight: Tensor, bias: Tensor) -> Tensor:
    return torch.cat([weight, bias[:, None]], dim=1)


def _own_columns(weight: Tensor, users: int) -> Tensor | None:
    """The column of an item that each user alone has, `(width, users)`; None where they are not all found.

    Columns that come often are those of single users; the rarer ones that the found ones span are mixtures.
    """
    used = weight[:, weight.norm(dim=0) > RANK * weight.norm(dim=0).max()]
    # one projection of all columns tells which are the same, up to rounding
    sketch = torch.randn(weight.shape[0], 8, dtype=weight.dtype, generator=torch.Generator().manual_seed(0))
    seen = used.T @ sketch
    size = used.norm(dim=0)
    left = torch.ones(used.shape[1], dtype=torch.bool)
    groups = []
    while left.any():
        at = int(left.nonzero()[0])
        same = left & ((seen - seen[at]).norm(dim=1) < ALIKE * size[at])
        groups.append((int(same.sum()), used[:, same].mean(dim=1)))
        left &= ~same
    groups.sort(key=lambda group: -group[0])
    basis = weight.new_zeros(weight.shape[0], 0)
    found = []
    for _, column in groups:
        rest = column - basis @ (basis.T @ column)
        rest = rest - basis @ (basis.T @ rest)
        if rest.norm() > ALIKE * column.norm():
            basis = torch.cat([basis, (rest / rest.norm())[:, None]], dim=1)
            found.append(column)
        if len(found) == users:
            break
    return torch.stack(found, dim=1) if len(found) >= max(1, users - 1) else None
