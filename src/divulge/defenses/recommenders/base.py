"""What every defense of a recommender's users is: settings that act on the model, on what a user shares, or on who sees
it.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from divulge.privacy.ledger import Ledger
from divulge.releases.baskets import BasketSharing
from divulge.settings import labelled


@dataclass(frozen=True)
class BasketDefense:
    """Base of every defense of baskets, each door the identity unless overridden.

    The mechanism is public: an adaptive adversary is handed `sharing`, and the model as `architecture` makes it.
    """

    name: ClassVar[str] = ""
    source: ClassVar[str] = ""
    randomness: ClassVar[str] = "none"
    """What the defense draws at random, in words; an oracle adversary knows it too."""
    adaptive: ClassVar[str] = ""
    """What knowing the mechanism changes for an adversary, in words."""

    @property
    def label(self) -> str:
        """The name, with the settings that are not the defaults."""
        return labelled(self.name, self)

    @property
    def in_training(self) -> bool:
        """Whether it changes what is trained, rather than only who sees it."""
        own = type(self)
        return own.sharing is not BasketDefense.sharing or own.architecture is not BasketDefense.architecture

    @property
    def sharing(self) -> BasketSharing:
        """What each user does before anything is shared."""
        return BasketSharing()

    @property
    def summed(self) -> int:
        """How many users' updates are added up before anyone sees them."""
        return 1

    def architecture(self, model: nn.Module) -> nn.Module:
        """The recommender that is trained in place of `model`; `model` itself is left as it was."""
        return model

    def ledger(self, *, users: int, rounds: int, sampling_rate: float = 1.0) -> Ledger | None:
        """What sharing spends of each user's privacy, all items of a user together; None where nothing is promised.

        Args:
            users: how many there are.
            rounds: updates that are seen.
            sampling_rate: the chance of each user to take part in one, by a coin of its own; 1 for all of them.
        """
        return None


@dataclass(frozen=True)
class Undefended(BasketDefense):
    """Every user shares the update as it is."""

    name: ClassVar[str] = "none"
    adaptive: ClassVar[str] = "knows nothing more, as nothing is changed"
