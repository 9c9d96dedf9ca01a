"""What a client of a federated recommender shares: the gradient of one user's basket, or of several users'."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from divulge.data.interactions import require_baskets
from divulge.errors import BadInputError
from divulge.models.multvae import multinomial
from divulge.releases.gradients import NOTHING, REDUCTIONS, GradientRecord, Reduction, Tampering, share


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a user drew at random before sharing, which only an oracle adversary knows.

    Args:
        fakes: the items that are not the user's own, bool `(items,)`.
        noise: what was added, by parameter name; empty for nothing.
    """

    fakes: Tensor
    noise: Mapping[str, Tensor]


@dataclass(frozen=True)
class BasketSharing:
    """What each user of a federated recommender does before anything is shared; nothing, unless said.

    The settings are public: an adaptive adversary is handed the same object.

    Args:
        clip: largest norm of a user's update over all tensors together; None for no clipping.
        noise_multiplier: standard deviation over `clip` of the Gaussian noise that each user adds to every entry of the
            clipped update.
        fakes: items that the user does not have and adds to the basket, as a share of its size.
        negatives: other items that the user's softmax runs over, for each item of the basket; None for all there are.
    """

    clip: float | None = None
    noise_multiplier: float = 0.0
    fakes: float = 0.0
    negatives: int | None = None

    def __post_init__(self) -> None:
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise BadInputError(f"basket sharing: expected a positive, finite clip, got {self.clip}.")
        if not 0 <= self.noise_multiplier < math.inf or (self.noise_multiplier and self.clip is None):
            raise BadInputError(
                f"basket sharing: expected a finite noise_multiplier of 0 or more with a clip, got "
                f"{self.noise_multiplier} with {self.clip}."
            )
        if not 0 <= self.fakes < math.inf or (self.negatives is not None and self.negatives < 1):
            raise BadInputError(
                f"basket sharing: expected fakes of 0 or more and negatives of 1 or more, got {self.fakes} and "
                f"{self.negatives}."
            )

    @property
    def std(self) -> float:
        """Of the noise on every entry of a user's update."""
        return self.noise_multiplier * (self.clip or 0.0)

    def tampering(self, model: nn.Module) -> Tampering:
        """What is publicly known of how a user's gradient is changed."""
        scaled = self.clip is not None
        return Tampering(scaled=scaled, noise="gaussian", std=self.std) if self.std else Tampering(scaled=scaled)

    def prepared(self, baskets: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """The baskets `(N, items)` with their fake items, and the negatives that each is trained against, if drawn."""
        if self.fakes:
            wanted = (self.fakes * baskets.sum(dim=1)).round()
            baskets = (baskets + _drawn(baskets == 0, wanted, generator)).clamp(max=1)
        if self.negatives is None:
            return baskets, None
        return baskets, _drawn(baskets == 0, self.negatives * baskets.sum(dim=1), generator)

    def clipped(self, record: GradientRecord) -> GradientRecord:
        """The record of one user, scaled down to `clip` where it is longer."""
        if self.clip is None:
            return record
        length = math.sqrt(sum(float(one.double().square().sum()) for one in record.gradients.values()))
        factor = min(1.0, self.clip / max(length, 1e-30))
        return replace(record, gradients={name: factor * one for name, one in record.gradients.items()})

    def share(
        self,
        model: nn.Module,
        basket: Tensor,
        *,
        generator: torch.Generator,
        stochastic: Mapping[str, Tensor] = NOTHING,
    ) -> tuple[GradientRecord, Drawn]:
        """All that one user `(1, items)` shares of a round, and what was drawn for it.

        Args:
            model: what the user was given.
            basket: of the user.
            generator: of everything drawn.
            stochastic: what stochastic layers use instead of drawing; see `share_baskets`.

        Raises:
            BadInputError: several users; see also `share_baskets`.
        """
        if len(basket) != 1:
            raise BadInputError(f"basket sharing: expected the basket of one user, got {len(basket)}.")
        seed = int(torch.randint(2**31, (), generator=generator))
        own, negatives = self.prepared(basket, generator=generator)
        record = self.clipped(share_baskets(model, own, negatives=negatives, seed=seed, noise=stochastic))
        fakes = (own != basket)[0]
        if not self.std:
            return record, Drawn(fakes, {})
        noise = {name: self.std * torch.randn(one.shape, generator=generator) for name, one in record.gradients.items()}
        noisy = {name: one + noise[name] for name, one in record.gradients.items()}
        return replace(record, gradients=noisy), Drawn(fakes, noise)


def _drawn(free: Tensor, wanted: Tensor, generator: torch.Generator) -> Tensor:
    """As many of each row's free items as wanted, or all, drawn at random: bool `(N, items)`."""
    order = torch.rand(free.shape, generator=generator).masked_fill(~free, 2.0).argsort(dim=1)
    count = torch.minimum(wanted, free.sum(dim=1)).long()[:, None]
    return torch.zeros_like(free).scatter(1, order, torch.arange(free.shape[1]) < count)


def share_baskets(
    model: nn.Module,
    baskets: Tensor,
    *,
    negatives: Tensor | None = None,
    reduction: Reduction = "sum",
    seed: int = 0,
    noise: Mapping[str, Tensor] = NOTHING,
) -> GradientRecord:
    """The gradient of the multinomial loss of some users' baskets, dropout and the code's noise on.

    The model and the global random state are left as they were.

    Args:
        model: maps `(N, items)` to logits `(N, items)`.
        baskets: `(N, items)` of zeros and ones; one row is the update of one user.
        negatives: bool `(N, items)`, items that are drawn against the basket: a user's softmax then runs over them and
            the basket alone. None for all items.
        reduction: how the losses of several users become one.
        seed: of what the model draws.
        noise: what stochastic layers use instead of drawing, by name; see `divulge.models.stochastic`.

    Raises:
        BadInputError: other values than zeros and ones, a user without an item, or a model of other items.
    """
    require_baskets(baskets, where="share_baskets")
    if negatives is not None and negatives.shape != baskets.shape:
        raise BadInputError(
            f"share_baskets: expected negatives of shape {tuple(baskets.shape)}, got {tuple(negatives.shape)}."
        )
    _require_items(model, baskets)

    def loss(logits: Tensor, targets: Tensor, *, reduction: Reduction) -> Tensor:
        if logits.shape != baskets.shape:
            raise BadInputError(
                f"share_baskets: expected a logit for each of {baskets.shape[1]} items, got {tuple(logits.shape)}."
            )
        if negatives is not None:
            logits = logits.masked_fill(~negatives & (baskets == 0), -torch.inf)
        return REDUCTIONS[reduction](multinomial(logits, baskets))

    nobody = torch.zeros(len(baskets), dtype=torch.int64)
    return share(model, baskets, nobody, reduction=reduction, training=True, loss=loss, seed=seed, noise=noise)


def _require_items(model: nn.Module, baskets: Tensor) -> None:
    first = next((module for module in model.modules() if isinstance(module, nn.Linear)), None)
    if first is not None and first.in_features != baskets.shape[1]:
        raise BadInputError(
            f"share_baskets: the model knows {first.in_features} items and the table has {baskets.shape[1]}. Number "
            "the items as the model does."
        )
