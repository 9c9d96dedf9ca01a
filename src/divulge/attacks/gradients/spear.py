"""Whole batches out of a linear layer before ReLU: its gradient has low rank and its signal many zeros."""

import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from divulge.attacks.gradients.base import GradientAttack, Reconstructions, unfound
from divulge.attacks.gradients.entrance import entrance
from divulge.attacks.gradients.labels import labels_given_inputs
from divulge.attacks.gradients.layers import Linear, layer
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.releases import GradientRecord

CHUNK = 512
"""Submatrices tried at once."""
LOOSE = 1e-3
"""Below this share of its row's length, a row's product with the direction of one submatrix counts as zero."""
TIGHT = 1e-5
"""The same for a direction refined on all rows it is orthogonal to."""
KEPT = 3
"""Directions kept for each record of the batch."""


@dataclass(frozen=True, eq=False)
class _Batch:
    """A batch that may be behind a gradient: layer inputs `(batch, D)`, and how well their ReLU patterns agree."""

    inputs: Tensor
    agreement: float


@dataclass(frozen=True)
class Spear(GradientAttack):
    """Rebuilds whole batches exactly from a biased first linear layer followed by ReLU.

    The weight gradient is `D X^T` for signals `D` `(out, batch)` and records `X`, so it has the batch's rank. Its
    factors are known up to a `(batch, batch)` matrix `Q`, whose columns make the signals sparse: a neuron that is
    inactive for a record sends exactly zero. Each column is orthogonal to the rows of all neurons inactive for its
    record; submatrices of `batch - 1` rows are drawn until all columns are found. The bias gradient gives their
    lengths, and the public weights say whether the rebuilt records really have those zeros.

    Dimitrov et al. 2024 (arXiv 2403.03945). About `2^(batch - 1)` draws a record: seconds up to 8, minutes at 16.

    Args:
        samples: submatrices drawn at most, for one victim.
        agreement: share of neurons and records whose zeros must agree for the batch to be claimed.
    """

    name: ClassVar[str] = "spear"
    source: ClassVar[str] = "Dimitrov et al. 2024, arXiv 2403.03945"

    samples: int = 200_000
    agreement: float = 0.99

    def __post_init__(self) -> None:
        if self.samples < 1 or not 0.5 < self.agreement <= 1:
            raise BadInputError(
                f"spear: expected 1 sample or more and an agreement in (0.5, 1], got {self.samples} and "
                f"{self.agreement}."
            )

    def invert(
        self, records: list[GradientRecord], model: nn.Module, *, knowledge: Knowledge, generator: torch.Generator
    ) -> Reconstructions:
        """Rebuild each batch; `matching` is the share of zeros that disagree with the public weights."""
        batch = records[0].batch_size
        door = entrance(records[0], model)
        inputs, targets, found, matching = unfound(records)
        for victim, record in enumerate(records):
            best = self._search(layer(record, model, door.layer), batch, generator)
            matching[victim] = 1 - best.agreement
            if best.agreement >= self.agreement:
                rebuilt = door.records(best.inputs)
                inputs[victim], found[victim] = rebuilt.float(), True
                targets[victim] = labels_given_inputs(record, model, rebuilt)
        return Reconstructions(inputs, targets, matching, exact=bool(found.all()), found=found)

    def _search(self, first: Linear, batch: int, generator: torch.Generator) -> _Batch:
        """Draw submatrices until a set of directions explains the gradient, and return the best set."""
        factors = _factors(first, batch)
        best = _Batch(first.weight.new_zeros(batch, first.weight.shape[1]), 0.0)
        if factors is None:
            return best
        if batch == 1:
            return _explain(first, factors, torch.ones_like(factors.rows[:1]))
        directions = factors.rows.new_zeros(0, batch)
        for _ in range(0, self.samples, CHUNK):
            known = directions[:batch]
            directions = _with_new(directions, _sparse(factors, generator), factors)
            if len(directions) >= batch and not torch.equal(directions[:batch], known):
                best = max(best, _climb(first, factors, directions), key=lambda one: one.agreement)
                if best.agreement >= self.agreement:
                    return best
        return best


@dataclass(frozen=True, eq=False)
class _Factors:
    """The gradient of the neurons that got a signal, as `rows @ shape`.

    Args:
        alive: which neurons got one, bool `(out,)`.
        rows: orthonormal columns `(alive, batch)`.
        shape: `(batch, D)`.
        noise: how far an entry of `rows` may be off.
    """

    alive: Tensor
    rows: Tensor
    shape: Tensor
    noise: float

    def zeros(self, directions: Tensor, tolerance: float) -> Tensor:
        """Which rows are orthogonal to which unit directions `(n, batch)`, bool `(alive, n)`."""
        near = tolerance * self.rows.norm(dim=1, keepdim=True) + 10 * self.noise
        return (self.rows @ directions.T).abs() <= near


def _factors(first: Linear, batch: int) -> _Factors | None:
    """None where the gradient has no rank of `batch`: records that repeat, or too few neurons to tell them apart."""
    alive = first.weight.any(dim=1)
    left, sizes, right = torch.linalg.svd(first.weight[alive], full_matrices=False)
    if len(sizes) < batch or sizes[batch - 1] <= 1e-7 * sizes[0]:
        return None
    tail = float(sizes[batch:].norm()) / left.shape[0] ** 0.5 / max(1, right.shape[1]) ** 0.5
    return _Factors(alive, left[:, :batch], sizes[:batch, None] * right[:batch], tail / float(sizes[batch - 1]))


def _sparse(factors: _Factors, generator: torch.Generator) -> Tensor:
    """Unit directions `(n, batch)` orthogonal to many rows, and the only ones so, out of a chunk of submatrices."""
    count, batch = factors.rows.shape
    drawn = factors.rows[torch.randint(count, (CHUNK, batch - 1), generator=generator)]
    solved, singular = torch.linalg.solve_ex(drawn[..., :-1], -drawn[..., -1:])
    found = torch.cat([solved[..., 0], torch.ones(CHUNK, 1).to(solved)], dim=1)[singular == 0]
    found = found / found.norm(dim=1, keepdim=True)
    zeros = factors.zeros(found, LOOSE)
    found = found[zeros.sum(dim=0) >= max(2 * batch, count // 8)]
    zeros = factors.zeros(found, LOOSE).to(found)
    sizes = torch.linalg.eigvalsh(torch.einsum("mn,mi,mj->nij", zeros, factors.rows, factors.rows))
    return found[sizes[:, 1] > LOOSE**2 * sizes[:, -1]]


def _with_new(directions: Tensor, found: Tensor, factors: _Factors) -> Tensor:
    """Known directions and the new ones among those found, refined on all rows they are orthogonal to.

    Those with most zeros come first, and only some of them are kept: the batch's own have about twice as many as those
    that are orthogonal to the neurons silent for two records at once.
    """
    batch = factors.rows.shape[1]
    while len(found):
        one = found[0]
        for tolerance in (10 * TIGHT, TIGHT):
            zero = factors.zeros(one[None], tolerance)[:, 0]
            if zero.sum() < batch:
                break
            one = torch.linalg.svd(factors.rows[zero], full_matrices=False)[2][-1]
        if not _same(directions, one).any():
            directions = torch.cat([directions, one[None]])
        found = found[1:][~_same(found[1:], found[0])]
    order = factors.zeros(directions, TIGHT).sum(dim=0).argsort(descending=True, stable=True)
    return directions[order[: KEPT * batch]]


def _climb(first: Linear, factors: _Factors, directions: Tensor) -> _Batch:
    """The best set of directions: from the first independent ones, one is replaced while that agrees better."""
    batch = factors.rows.shape[1]
    chosen: list[int] = []
    for number in range(len(directions)):
        if len(chosen) < batch and torch.linalg.svdvals(directions[[*chosen, number]])[-1] > LOOSE:
            chosen.append(number)
    best, better = _explain(first, factors, directions[chosen]), True
    while better and best.agreement < 1:
        better = False
        for place, other in itertools.product(range(len(chosen)), range(len(directions))):
            swapped = [*chosen[:place], other, *chosen[place + 1 :]]
            tried = _explain(first, factors, directions[swapped])
            if tried.agreement > best.agreement:
                best, chosen, better = tried, swapped, True
    return best


def _explain(first: Linear, factors: _Factors, directions: Tensor) -> _Batch:
    """The batch that a set of directions means, and the share of its zeros that the public weights agree with."""
    none = _Batch(factors.shape, 0.0)
    if len(directions) < factors.rows.shape[1] or torch.linalg.svdvals(directions)[-1] < LOOSE:
        return none
    lengths = torch.linalg.lstsq(factors.rows @ directions.T, first.biased()[factors.alive, None]).solution[:, 0]
    if not (lengths != 0).all():
        return none
    inputs = torch.linalg.solve(directions.T * lengths, factors.shape)
    sends = torch.zeros(len(factors.alive), len(inputs), dtype=torch.bool)
    sends[factors.alive] = ~factors.zeros(directions, TIGHT)
    active = first.outputs(inputs).T > 0
    return _Batch(inputs, float((active == sends).double().mean()))


def _same(directions: Tensor, one: Tensor) -> Tensor:
    return (directions @ one).abs() > 1 - LOOSE**2
