"""Fake items: what a user does not have, added to the basket before it is trained on."""

import math
from dataclasses import dataclass
from typing import ClassVar

from divulge.defenses.recommenders.base import BasketDefense
from divulge.errors import BadInputError
from divulge.releases.baskets import BasketSharing


@dataclass(frozen=True)
class FakeItems(BasketDefense):
    """Adds items that a user does not have to the basket, drawn anew for every update.

    Args:
        share: how many, as a share of the basket.
    """

    name: ClassVar[str] = "fake-items"
    source: ClassVar[str] = "Yuan et al. 2023 (Interaction-level Membership Inference Attack, WWW), noise items"
    randomness: ClassVar[str] = "the fake items of each update"
    adaptive: ClassVar[str] = "weighs each item by how popular it is, and asks again: fakes differ from round to round"

    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share < math.inf:
            raise BadInputError(f"{self.name}: expected a positive, finite share of the basket, got {self.share}.")

    @property
    def sharing(self) -> BasketSharing:
        """The basket with its fakes."""
        return BasketSharing(fakes=self.share)
