"""The contract of every gradient attack: from what a client shares and the public model to its records."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from divulge.attacks.base import Attack
from divulge.attacks.gradients.stated import require_stated_batch
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
        noise: what stochastic layers of the model drew, by the name that `functional_call` takes for it, `(victims,
            batch, ...)` in the order of `inputs`; NaN where it was not rebuilt. Empty where the attack does not ask.
        facts: what else it has to say, such as steps taken or restarts dropped.
    """

    inputs: Tensor
    targets: Tensor | None
    matching: Tensor
    exact: bool = False
    found: Tensor | None = None
    noise: Mapping[str, Tensor] = field(default_factory=dict)
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
        alike(self.name, records, model)
        return self.invert(records, model, knowledge=knowledge, generator=generator)

    @abstractmethod
    def invert(
        self, records: list[GradientRecord], model: nn.Module, *, knowledge: Knowledge, generator: torch.Generator
    ) -> Reconstructions:
        """The attack itself; `run` has seen that the records are of the model and alike."""


def alike(name: str, records: Sequence[GradientRecord], model: nn.Module) -> None:
    """See that records can be attacked together.

    Raises:
        BadInputError: there is none, their public facts differ, one is not of the model, or one states a batch that is
            smaller than what stands behind it.
    """
    if not records:
        raise BadInputError(f"{name}: expected one record or more, got none.")
    facts = {one.facts for one in records}
    if len(facts) > 1:
        raise BadInputError(
            f"{name}: victims attacked together share batch size, classes, shape, reduction, mode and steps; got "
            f"{len(facts)} kinds of records. Attack each kind in a run of its own."
        )
    for one in records:
        one.require(model)
        require_stated_batch(one, model)


def unfound(records: Sequence[GradientRecord]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs, targets, found and matching of `Reconstructions` for victims of whom nothing is found yet."""
    victims, batch = len(records), records[0].batch_size
    inputs = torch.zeros(victims, batch, *records[0].shape)
    return inputs, torch.full((victims, batch), -1), torch.zeros(victims, batch, dtype=torch.bool), torch.ones(victims)
