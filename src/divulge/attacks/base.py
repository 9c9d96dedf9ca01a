"""What every attack is: a frozen dataclass of settings with one verb, `run`."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from divulge.data import Dataset

Adversary = Literal["blind", "adaptive", "oracle"]


@dataclass(frozen=True)
class Knowledge:
    """What the adversary knows besides the release.

    Args:
        data: records of the same kind as the private ones.
        recipe: how the target was trained.
        defense: the mechanism that protects the target, if the adversary knows of one.
        randomness: what the defense drew, if the adversary knows even that.
    """

    data: Dataset | None = None
    recipe: Any = None
    defense: Any = None
    randomness: Any = None

    @property
    def adversary(self) -> Adversary:
        """`blind` without the defense, `adaptive` with it, `oracle` with its randomness too."""
        if self.randomness is not None:
            return "oracle"
        return "blind" if self.defense is None else "adaptive"

    def blinded(self) -> "Knowledge":
        """The same knowledge without the defense and its randomness."""
        return replace(self, defense=None, randomness=None)


@dataclass(frozen=True)
class Attack:
    """Base of every attack; a concrete one has a `name` and lives in a file of its own."""

    name: ClassVar[str] = ""
    source: ClassVar[str] = ""
