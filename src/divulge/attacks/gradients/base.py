"""The contract of every gradient attack: from what a client shares and the public model to its records."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from divulge.attacks.base import Attack
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.releases import GradientRecord

NOTHING = Knowledge()


@dataclass(frozen=True, eq=False)
class Reconstructions:
    """What an attack says that the private batches were; the truth is not here.

    Args:
        inputs: float32 `(victims, batch, *shape)`; the order within a batch means nothing.
        targets: class numbers `(victims, batch)`, in the order of `inputs`; None where the attack names none.
        matching: the attacker's own loss for each victim `(victims,)`: how badly the reconstruction explains what the
            attack looked at. Restarts are chosen by it.
        exact: whether the attack claims the records up to rounding, rather than something like them.
        found: which records it rebuilt, bool `(victims, batch)`; None for all. The others are zero in `inputs`.
        facts: what else it has to say, such as steps taken or restarts dropped.
    """

    inputs: Tensor
    targets: Tensor | None
    matching: Tensor
    exact: bool = False
    found: Tensor | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GradientAttack(Attack):
    """Base of every gradient attack; a concrete one has a `name` and writes `invert`."""

    def run(
        self,
        record: GradientRecord | Sequence[GradientRecord],
        model: nn.Module,
        *,
        knowledge: Knowledge = NOTHING,
        generator: torch.Generator,
    ) -> Reconstructions:
        """Rebuild the batches behind some records; the model, the records and the global random state stay as are.

        Args:
            record: of one victim or of several, whose public facts are the same.
            model: what the clients were given, with its weights.
            knowledge: what the adversary knows besides.
            generator: of everything that the attack draws.

        Raises:
            BadInputError: no record, records with different facts, records that are not of this model, or that this
                attack cannot use.
        """
        records = [record] if isinstance(record, GradientRecord) else list(record)
        if not records:
            raise BadInputError(f"{self.name}: expected one record or more, got none.")
        facts = {one.facts for one in records}
        if len(facts) > 1:
            raise BadInputError(
                f"{self.name}: victims attacked together share batch size, classes, shape, reduction, mode and steps; "
                f"got {len(facts)} kinds of records. Attack each kind in a run of its own."
            )
        for one in records:
            one.require(model)
        return self.invert(records, model, knowledge=knowledge, generator=generator)

    @abstractmethod
    def invert(
        self, records: list[GradientRecord], model: nn.Module, *, knowledge: Knowledge, generator: torch.Generator
    ) -> Reconstructions:
        """The attack itself; `run` has seen that the records are of the model and alike."""
