"""Records of a batch that had a neuron of the first layer to themselves: a closed form."""

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

FAINT = 1e-3
"""Neurons whose bias gradient is below this share of the largest are left out: rounding spoils their ratio."""
SETS = 2000
"""Sets of candidates compared at most."""


@dataclass(frozen=True)
class ActiveNeurons(GradientAttack):
    """Divides each row of the first weight gradient by its bias gradient; ratios that repeat are records.

    A ReLU neuron active for one record of the batch alone gives that record, and every such neuron gives the same one,
    while neurons shared by several records give mixtures that differ from neuron to neuron. Wide layers have such
    neurons for batches up to about eight.

    With two classes mixtures repeat too; then only a set that explains the whole gradient counts as found.

    Geiping et al. 2020 (arXiv 2003.14053), proposition D.1, for batches.

    Args:
        tolerance: relative distance within which two ratios are the same record.
    """

    name: ClassVar[str] = "active-neurons"
    source: ClassVar[str] = "Geiping et al. 2020, arXiv 2003.14053"

    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise BadInputError(f"active-neurons: expected a tolerance in (0, 1), got {self.tolerance}.")

    def invert(
        self, records: list[GradientRecord], model: nn.Module, *, knowledge: Knowledge, generator: torch.Generator
    ) -> Reconstructions:
        """Rebuild what can be; `matching` is the share of the first gradients that the found records leave over."""
        batch = records[0].batch_size
        door = entrance(records[0], model)
        inputs, targets, found, matching = unfound(records)
        for victim, record in enumerate(records):
            first = layer(record, model, door.layer)
            candidates = self._candidates(first)
            sets = itertools.combinations(range(len(candidates)), min(batch, len(candidates)))
            tried = [candidates[list(chosen)] for chosen in itertools.islice(sets, SETS)]
            left = [unexplained(first, one) for one in tried]
            best, matching[victim] = min(zip(tried, left, strict=True), key=lambda one: one[1])
            whole = len(best) == batch and bool(matching[victim] < self.tolerance)
            if len(best) and (whole or record.classes > 2):
                rebuilt = door.records(best)
                inputs[victim, : len(best)], found[victim, : len(best)] = rebuilt.float(), True
            if whole:
                targets[victim] = labels_given_inputs(record, model, rebuilt)
        return Reconstructions(
            inputs,
            targets,
            matching,
            exact=bool(found.all() and (matching < self.tolerance).all()),
            found=found,
            facts={"layer": door.layer},
        )

    def _candidates(self, first: Linear) -> Tensor:
        """Ratios that two neurons or more agree on and that activate them, float64 `(n, D)`; most neurons first."""
        bias = first.biased()
        clear = bias.abs() > FAINT * bias.abs().max()
        ratios, weights = first.weight[clear] / bias[clear, None], bias[clear].square()
        size = ratios.norm(dim=1)
        same = torch.cdist(ratios, ratios) <= self.tolerance * size
        free, found = torch.ones(len(ratios), dtype=torch.bool), []
        for row in same.sum(dim=1).argsort(descending=True):
            members = same[row] & free
            if free[row] and members.sum() > 1:
                one = weights[members] @ ratios[members] / weights[members].sum()
                if (first.outputs(one[None])[0, clear][members] > 0).all():
                    found.append(one)
            free &= ~members
        return torch.stack(found) if found else ratios[:0]


def unexplained(first: Linear, inputs: Tensor) -> float:
    """Share of a layer's gradients that is no combination, at each neuron, of the inputs that activate it under ReLU.

    Args:
        first: a biased linear layer.
        inputs: float64 `(n, in)`.

    Returns:
        From 0 for a batch that explains all, to 1.
    """
    shared = torch.cat([first.weight, first.biased()[:, None]], dim=1)
    if len(inputs) == 0 or not shared.any():
        return 1.0
    known = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1)
    patterns, which = torch.unique(first.outputs(inputs) > 0, dim=1, return_inverse=True)
    left = shared.clone()
    for number, pattern in enumerate(patterns.T):
        if pattern.any():
            basis = torch.linalg.qr(known[pattern].T)[0]
            rows = shared[which == number]
            left[which == number] = rows - rows @ basis @ basis.T
    return float(left.norm() / shared.norm())
