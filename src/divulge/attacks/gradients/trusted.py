"""Which entries of a record an attack believes that takes every equation at its word."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from divulge.attacks.gradients.adapt import take_back
from divulge.attacks.gradients.layers import Linear
from divulge.attacks.gradients.rounds import Round
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.releases import GradientRecord, Tampering


@dataclass(frozen=True, eq=False)
class Trusted:
    """A record, and what an adversary knows of how it came about.

    Args:
        record: what was shared, without noise that an oracle adversary knows.
        known: what is publicly known of the defense.
        kept: which entries an oracle adversary knows to be left, bool, by parameter name.
    """

    record: GradientRecord
    known: Tampering
    kept: Mapping[str, Tensor]

    def tensor(self, name: str) -> tuple[Tensor, Tensor]:
        """A shared tensor in float64 on the CPU, and which of its entries to believe, 1 or 0."""
        value = self.record.gradients[name].detach().double().cpu()
        if self.known.withholds(name):
            return value, torch.zeros_like(value)
        if name in self.kept:
            return value, self.kept[name].cpu().double()
        return value, (value != 0).double() if self.known.zeros else torch.ones_like(value)

    def entered(self, top: Linear) -> tuple[Tensor, Tensor]:
        """The input of a linear layer, and which of its entries its gradients tell, 1 or 0; float64 `(in,)` each.

        Raises:
            BadInputError: the gradient of its bias is withheld, without which nothing is told.
        """
        if self.known.withholds(f"{top.name}.bias"):
            raise BadInputError(f"the gradient of {top.name}.bias is withheld, and with it the signal. Use a search.")
        weight, believed = self.tensor(f"{top.name}.weight")
        weights = believed.T @ top.biased().square()
        told = weights > 0
        return torch.where(told, (believed * weight).T @ top.biased() / weights, 0.0), told.double()


def trusted(
    records: list[GradientRecord], model: nn.Module, knowledge: Knowledge
) -> tuple[list[Trusted], dict[str, object]]:
    """What to believe of each record; and facts: what was done with the knowledge, and what could not be used.

    An unknown scale needs no care: it cancels from what entered a linear layer, and from all equations with a signal.
    """
    known, kept, facts = Tampering(), [dict[str, Tensor]()] * len(records), dict[str, object]()
    if knowledge.defense is not None:
        known = knowledge.defense.tampering(model)
        one, known, words = take_back(Round(records, model, knowledge.randomness), known)
        records, kept = list(one.records), [dict(each) for each in one.kept or kept]
        facts["adapted"] = (
            *words,
            *([f"left out {', '.join(known.withheld)}"] if known.withheld else []),
            *(["left out zeros"] if known.zeros else []),
        )
        unused = [f"{known.noise} noise of {known.std:g}"] if known.std else []
        unused += [f"rounding to {known.rounding}"] if known.rounding != "none" else []
        if unused:
            facts["not used"] = " and ".join(unused)
    return [Trusted(record, known, each) for record, each in zip(records, kept, strict=True)], facts
