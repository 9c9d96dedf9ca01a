"""Secure aggregation: nobody sees the update of a single user."""

from dataclasses import dataclass
from typing import ClassVar

from divulge.defenses.recommenders.base import BasketDefense
from divulge.errors import BadInputError


@dataclass(frozen=True)
class SecureSum(BasketDefense):
    """The updates of several users are added up under encryption, and only their sum is seen.

    Args:
        users: how many.
    """

    name: ClassVar[str] = "secure-sum"
    source: ClassVar[str] = "Bonawitz et al. 2017, doi 10.1145/3133956.3133982"
    adaptive: ClassVar[str] = (
        "tells the users apart by the items that one of them alone has, and solves each layer for all of them"
    )

    users: int = 8

    def __post_init__(self) -> None:
        if self.users < 2:
            raise BadInputError(f"{self.name}: expected users of 2 or more, got {self.users}.")

    @property
    def summed(self) -> int:
        """`users`."""
        return self.users
