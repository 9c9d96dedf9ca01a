"""Soteria: what one fully connected layer shares of its input is pruned where it tells most of the record."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from divulge.defenses.base import Defense, Shared
from divulge.defenses.gradient_pruning import pruned_number
from divulge.defenses.jacobian import Inside, first_linear, inside
from divulge.defenses.lipschitz import lipschitz
from divulge.errors import BadInputError
from divulge.releases import GradientRecord, Tampering

SAME = 1e-3
"""Share of its length by which a gradient that is computed again may differ."""


@dataclass(frozen=True, eq=False)
class Certificate:
    """How far every record that agrees with a pruned representation is from the true one, in Euclidean distance.

    It speaks of an attacker who reads this layer's gradient alone. Those of the layers below are shared untouched, and
    from them the record may still be found exactly.

    Args:
        change: how far the shared representation is from the true one, float64 `(N,)`.
        slope: largest factor by which the network up to the layer stretches a small step away from the record, `(N,)`.
        lipschitz: a factor by which it stretches no step at all; None where a layer has no known bound.
    """

    change: Tensor
    slope: Tensor
    lipschitz: float | None

    @property
    def first_order(self) -> Tensor:
        """The paper's bound, `change / slope`: holds where the network is linear, and near the record, `(N,)`."""
        return self.change / self.slope

    @property
    def certified(self) -> Tensor | None:
        """The distance that no record which agrees can be below, `change / lipschitz`, `(N,)`; None without a bound."""
        return None if self.lipschitz is None else self.change / self.lipschitz

    @property
    def sentence(self) -> str:
        """Both for the record that is worst off, in words."""
        told = f"To first order, a record that agrees with what is shared is at least {self.first_order.min():.3g} away"
        if self.certified is None:
            return f"{told}; for larger distances there is no bound, since not every layer has a known one."
        return f"{told}; for certain, at least {self.certified.min():.3g}. This binds only who reads that layer alone."


@dataclass(frozen=True)
class Soteria(Defense):
    """The gradient of one fully connected layer's weight is pruned in the columns that tell most of the record.

    Sun et al. 2021 (arXiv 2012.06043). Column i of that gradient tells entry `r_i` of the layer's input; pruned are
    those that move a reconstruction most, `|r_i|` times the length of column i of the inverse of `dr/dx`. All other
    gradients, the bias of the layer and the forward pass stay as they are. Exactly `ceil(rate * d)` of `d` columns are
    pruned, among equals the first ones. The published code takes a percentile, which prunes `ceil(rate * (d - 1))` and
    fewer among equals, and never all.

    Args:
        rate: share of the columns that are pruned, from 0 to 1; the published percentage is a hundred times that.
        inverse: `ratio` takes 1 over the length of row i of `dr/dx`, as the published code does; `exact` the length of
            column i of its pseudo-inverse, in float64, as its authors remark.
        layer: the fully connected layer to defend, by name; empty for the first one.
        offset: added to `|r_i|`: 0.1 in the published code for inverting gradients, 0 in that for DLG. With any, under
            `ratio`, entries that are 0 and have no slope, as behind ReLU, are the first to be pruned, though it changes
            nothing; else the last.
        batch: `each` record of a batch has columns of its own pruned, in its own gradient; `together` all have the same
            ones, by the sum of their scores, as in the published code. The latter also for an update over local steps,
            of which the batch at hand decides.
    """

    name: ClassVar[str] = "soteria"
    source: ClassVar[str] = "Sun et al. 2021, arXiv 2012.06043"
    randomness: ClassVar[str] = "nothing by chance: which columns it prunes follows from the private batch"

    rate: float = 0.8
    inverse: Literal["ratio", "exact"] = "ratio"
    layer: str = ""
    offset: float = 0.0
    batch: Literal["each", "together"] = "each"

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise BadInputError(f"soteria: expected a rate from 0 to 1, got {self.rate}; it is no percentage.")
        if not 0 <= self.offset < float("inf"):
            raise BadInputError(f"soteria: expected a finite offset of 0 or more, got {self.offset}.")

    def share(
        self, record: GradientRecord, *, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> Shared:
        """The gradient with columns pruned, and which were kept: `(d,)` by the weight's name, where all records agree.

        Raises:
            BadInputError: no such layer, one whose weight is not shared, or a batch that is not that of the record.
        """
        layer = self._layer(model)
        weight = _weight(layer)
        if len(inputs) == 0 or len(inputs) != len(targets):
            raise BadInputError(
                f"soteria: expected the batch behind the record, got {len(inputs)} records and {len(targets)} targets."
            )
        looked = self._inside(model, inputs, training=record.training)
        if weight not in record.gradients:
            raise BadInputError(f"soteria: layer {layer!r} learns nothing, so the record has no {weight!r} to prune.")
        together = self.batch == "together" or record.kind == "update"
        kept = self._kept(looked, together=together)
        gradient = record.gradients[weight]
        if len(kept) == 1:
            pruned, drawn = gradient.where(kept, 0), {weight: kept[0]}
        else:
            pruned = self._each(looked, kept, gradient, targets, record.reduction)
            drawn = {"kept by each record": kept}
        return Shared(replace(record, gradients={**record.gradients, weight: pruned}), drawn)

    def tampering(self, model: nn.Module) -> Tampering:
        """That a zero says nothing; of a batch of several under `each`, a column is the sum over those that kept it."""
        if not self.rate:
            return Tampering()
        return Tampering(zeros=True, partial=(_weight(self._layer(model)),) if self.batch == "each" else ())

    def scores(self, model: nn.Module, inputs: Tensor, *, training: bool = False) -> Tensor:
        """How little pruning each entry of the representation would move a reconstruction; the least are pruned.

        Args:
            model: what the client was given.
            inputs: records `(N, *shape)`.
            training: whether the model is in training mode.

        Returns:
            `(N, d)`: `|dr_i/dx| / |r_i|`, or 1 over the exact product.
        """
        return self._scores(self._inside(model, inputs, training=training))

    def certificate(self, model: nn.Module, inputs: Tensor, *, training: bool = False) -> Certificate:
        """How far from the truth a record must be that agrees with the pruned representation (theorem 1 of the paper).

        Args:
            model: what the client was given.
            inputs: records `(N, *shape)`.
            training: whether the model is in training mode.
        """
        looked = inside(model, self._layer(model), inputs, training=training, double=True)
        kept = self._kept(self._inside(model, inputs, training=training), together=self.batch == "together")
        change = (looked.features.detach() * ~kept).norm(dim=1)
        slope = torch.stack([torch.linalg.svdvals(one)[0] for one in _triangles(looked)])
        bound = lipschitz(model, self._layer(model), inputs[:1], training=training)
        return Certificate(change.cpu(), slope.cpu(), bound)

    def _layer(self, model: nn.Module) -> str:
        return self.layer or first_linear(model)

    def _inside(self, model: nn.Module, inputs: Tensor, *, training: bool) -> Inside:
        return inside(model, self._layer(model), inputs, training=training, double=self.inverse == "exact")

    def _scores(self, looked: Inside) -> Tensor:
        told = looked.features.detach().abs() + self.offset
        if self.inverse == "exact":
            moved = torch.stack([torch.linalg.pinv(one).norm(dim=0) for one in _triangles(looked)])
            return 1 / (moved * told)
        lengths = torch.cat([rows.flatten(2).square().sum(dim=2).sqrt() for rows in looked.rows()]).T
        return (lengths / told).where(told > 0, torch.inf)

    def _kept(self, looked: Inside, *, together: bool) -> Tensor:
        """Which columns are kept, bool `(N, d)`, or `(1, d)` together."""
        scores = self._scores(looked)
        if together:
            scores = scores.sum(dim=0, keepdim=True)
        order = scores.argsort(dim=1, stable=True)
        first = order[:, : pruned_number(scores.shape[1], self.rate)]
        return torch.ones_like(scores, dtype=torch.bool).scatter_(1, first, False)

    def _each(self, looked: Inside, kept: Tensor, gradient: Tensor, targets: Tensor, reduction: str) -> Tensor:
        """The weight's gradient with columns pruned in each record's own share of it.

        Raises:
            BadInputError: the batch does not give this gradient.
        """
        signal, features = looked.signal(targets, reduction), looked.features.detach()
        again = signal.T @ features
        if (again - gradient).norm() > SAME * gradient.norm():
            raise BadInputError(
                "soteria: the batch and its cross-entropy do not give the gradient in the record, so it cannot be "
                "pruned for each record. Was it of another loss or batch, or did the model draw at random, as dropout "
                "does? batch='together' needs neither."
            )
        return gradient.where(kept.all(dim=0), (signal.T @ (features * kept)).to(gradient))


def _weight(layer: str) -> str:
    return f"{layer}.weight" if layer else "weight"


def _triangles(looked: Inside) -> list[Tensor]:
    """For each record a matrix with the singular values of its Jacobian, and columns of the pseudo-inverse as long."""
    jacobians = torch.cat([rows.flatten(2) for rows in looked.rows()]).movedim(1, 0)
    return [torch.linalg.qr(one.T, mode="r").R.T for one in jacobians]
