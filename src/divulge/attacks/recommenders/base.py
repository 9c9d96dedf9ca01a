"""The contract of every attack on a recommender: from what a client shares and the public model to its items."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from divulge.attacks.base import Attack
from divulge.attacks.gradients.base import alike
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.releases import GradientRecord

NOTHING = Knowledge()


@dataclass(frozen=True, eq=False)
class Baskets:
    """What an attack says that the private baskets were; the truth is not here.

    Args:
        items: bool `(victims, sets, items)`. A set is one user, in no order, or all users of a record together where
            the attack tells only their union.
        scores: float32 of the same shape: the higher, the likelier an item is in the set.
        matching: how badly each victim's answer explains what the attack looked at `(victims,)`, from 0.
        exact: whether the attack claims the baskets, rather than something like them.
        facts: what else it has to say.
    """

    items: Tensor
    scores: Tensor
    matching: Tensor
    exact: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RecommenderAttack(Attack):
    """Base of every attack on a recommender; a concrete one has a `name` and writes `read`.

    One that does nothing with a defense it is told of does not `adapt`, and says so in its facts.
    """

    adapts: ClassVar[bool] = False

    @property
    def each(self) -> int:
        """How many records of one victim, one after another, make one answer."""
        return 1

    @property
    def together(self) -> int:
        """How many victims are best attacked at once; their answers do not depend on each other."""
        return 1

    def run(
        self,
        record: GradientRecord | Sequence[GradientRecord],
        model: nn.Module,
        *,
        knowledge: Knowledge = NOTHING,
        generator: torch.Generator,
    ) -> Baskets:
        """Name the items behind some records; the model, the records and the global random state stay as they are.

        Args:
            record: of one victim or of several, whose public facts are the same.
            model: what the clients were given, with its weights.
            knowledge: what the adversary knows besides; its defense is a `divulge.releases.baskets.BasketSharing`, and
                its randomness what that drew for each record. Noise that is known is taken back, and items that are
                known to be fake are left out of what `read` says.
            generator: of everything that the attack draws.

        Raises:
            BadInputError: no record, records with different facts, not of this model, or of no recommender; or
                randomness of another number of records, or without the defense that drew it.
        """
        records = [record] if isinstance(record, GradientRecord) else list(record)
        if len({one.facts for one in records}) != 1 or not all(_usable(one, model) for one in records):
            alike(self.name, records, model)
        if records[0].shape != (records[0].classes,):
            raise BadInputError(
                f"{self.name}: expected the gradient of a recommender, which has a logit for each item of its input, "
                f"got {records[0].classes} logits for a record of shape {records[0].shape}."
            )
        if knowledge.randomness is None:
            found = self.read(records, model, knowledge=knowledge, generator=generator)
            if knowledge.defense is None or self.adapts:
                return found
            # with items known to be fake in it, no basket is the user's own
            exact = found.exact and not knowledge.defense.fakes
            return replace(found, exact=exact, facts={**found.facts, "not used": "what the defense is"})
        drawn = list(knowledge.randomness)
        if len(drawn) != len(records) or knowledge.defense is None:
            raise BadInputError(
                f"{self.name}: expected the defense and what it drew for each of {len(records)} records, got "
                f"{len(drawn)} draws of {knowledge.defense or 'no defense'}."
            )
        honest = [
            replace(one, gradients={name: g - own.noise.get(name, 0) for name, g in one.gradients.items()})
            for one, own in zip(records, drawn, strict=True)
        ]
        known = replace(knowledge, defense=replace(knowledge.defense, noise_multiplier=0.0, fakes=0.0), randomness=None)
        found = self.read(honest, model, knowledge=known, generator=generator)
        fakes = torch.stack([own.fakes for own in drawn[:: self.each]])[:, None]
        lowest = found.scores.amin(dim=2, keepdim=True) - 1
        return replace(found, items=found.items & ~fakes, scores=torch.where(fakes, lowest, found.scores))

    @abstractmethod
    def read(
        self, records: list[GradientRecord], model: nn.Module, *, knowledge: Knowledge, generator: torch.Generator
    ) -> Baskets:
        """The attack itself; `run` has seen that the records are of the model and alike."""


def _usable(record: GradientRecord, model: nn.Module) -> bool:
    """Whether `alike` would find nothing wrong with a record, told at a tenth of its cost for millions of items."""
    expected = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
    given = record.gradients
    return (
        list(expected.items()) == [(name, one.shape) for name, one in given.items()]
        and all(one.is_floating_point() and one.device.type == "cpu" for one in given.values())
        and all(bool(one.sum().isfinite()) for one in given.values())
        and any(bool(one.any()) for one in reversed(list(given.values())))
    )


def outer(name: str, model: nn.Module, *, first: bool = False) -> tuple[str, nn.Linear]:
    """The last linear layer of a recommender and its name, or the first: the one that gives or takes the items.

    Raises:
        BadInputError: there is no linear layer.
    """
    found = [(place, layer) for place, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if not found:
        raise BadInputError(f"{name}: expected a recommender with linear layers, got none.")
    return found[0] if first else found[-1]


def entry(place: str, what: str) -> str:
    """The name of a layer's parameter in the model."""
    return f"{place}.{what}" if place else what
