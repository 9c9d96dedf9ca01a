"""One round of federated learning as an attacker sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from divulge.attacks.gradients.base import alike
from divulge.releases import GradientRecord


@dataclass(frozen=True, eq=False)
class Round:
    """What some clients shared in one round, each of the same private batch as in every other round observed.

    Args:
        records: one for each victim, whose public facts are the same.
        model: what the clients were given in this round.
        randomness: what the defense drew for each record, for an oracle adversary; see `Knowledge`.
        kept: which entries of each record the defense left, bool, by parameter name; None where nothing is known of it.
        steps: what the tensors of each record were rounded to multiples of, by name; None to see it in the record.

    Raises:
        BadInputError: as in `GradientAttack.run`.
    """

    records: Sequence[GradientRecord]
    model: nn.Module
    randomness: Any = None
    kept: Sequence[Mapping[str, Tensor]] | None = None
    steps: Sequence[Mapping[str, Tensor]] | None = None

    def __post_init__(self) -> None:
        alike("round", self.records, self.model)


def mean_record(records: Sequence[GradientRecord]) -> GradientRecord:
    """The record of a client's mean gradients over some rounds."""
    first = records[0]
    gradients = {name: torch.stack([one.gradients[name] for one in records]).mean(dim=0) for name in first.gradients}
    return replace(first, gradients=gradients)
