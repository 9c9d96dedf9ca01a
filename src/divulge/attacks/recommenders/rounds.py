"""One user asked several times: what was drawn differs from round to round, and the basket does not."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from divulge.attacks.knowledge import Knowledge
from divulge.attacks.recommenders.base import Baskets, RecommenderAttack
from divulge.attacks.recommenders.closed_form import BasketClosedForm, likely, popularity
from divulge.errors import BadInputError
from divulge.releases import GradientRecord


@dataclass(frozen=True)
class BasketRounds(RecommenderAttack):
    """The closed form on several updates of one user that were made with the same weights, put together.

    Without noise an item is in the basket if it is in every round's: fake items that are drawn anew are not. Under
    noise the odds of the rounds are multiplied, so that noise is averaged down.

    Args:
        rounds: updates of each victim, which come one after another.
    """

    name: ClassVar[str] = "basket-rounds"
    adapts: ClassVar[bool] = True

    rounds: int = 4

    def __post_init__(self) -> None:
        if self.rounds < 2:
            raise BadInputError(
                f"{self.name}: expected rounds of 2 or more, got {self.rounds}. Use basket-closed-form."
            )

    @property
    def each(self) -> int:
        """As many as there are rounds."""
        return self.rounds

    def read(
        self, records: list[GradientRecord], model: nn.Module, *, knowledge: Knowledge, generator: torch.Generator
    ) -> Baskets:
        """Solve each record and put those of a victim together; `matching` is that of the worst.

        Raises:
            BadInputError: records that do not go into rounds, or what `BasketClosedForm` refuses.
        """
        if len(records) % self.rounds:
            raise BadInputError(
                f"{self.name}: expected {self.rounds} records of each victim, one after another, got {len(records)} in "
                "all."
            )
        defense = knowledge.defense
        # what is in every round needs no weighing by popularity, which would drop what few people have
        single = replace(knowledge, data=None) if defense and defense.fakes else knowledge
        alone = BasketClosedForm().read(records, model, knowledge=single, generator=generator)
        items, scores = (values[:, 0].unflatten(0, (-1, self.rounds)) for values in (alone.items, alone.scores))
        if defense is not None and defense.tampering(model).std:
            odds = scores.sum(dim=1) - (self.rounds - 1) * _prior(scores, single)
            found = likely(odds)
        else:
            odds, found = scores.amin(dim=1), items.all(dim=1)
        matching = alone.matching.unflatten(0, (-1, self.rounds)).amax(dim=1)
        agree = bool((items == found[:, None]).all())
        return Baskets(found[:, None], odds[:, None], matching, exact=alone.exact and agree)


def _prior(odds: Tensor, knowledge: Knowledge) -> Tensor:
    """The logarithm of the odds of items beforehand, which every round counts once: `(victims, items)`, or alike."""
    if knowledge.data is not None:
        return popularity(knowledge.data.inputs).logit().float()
    return odds.sigmoid().mean(dim=2).mean(dim=1, keepdim=True).logit()
