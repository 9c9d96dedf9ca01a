"""What an adversary knows besides the release."""

from dataclasses import dataclass
from typing import Any

from divulge.data import Dataset
from divulge.training import Recipe


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What an adversary knows besides the release; nothing, unless said.

    The three adversaries that every defense is measured against differ in it alone: a *blind* one knows of no
    `defense`, an *adaptive* one knows it, and an *oracle* also knows the `randomness` that it drew.

    Args:
        data: of the same kind as the private data, and disjoint from it.
        recipe: how the model is trained.
        defense: the object that defends, with its settings.
        randomness: what the defense drew, as the defense says.
    """

    data: Dataset | None = None
    recipe: Recipe | None = None
    defense: Any = None
    randomness: Any = None
