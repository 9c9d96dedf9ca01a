"""What every defense is: settings that act at one or more of four doors, each the identity unless overridden."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import nn

from divulge.data import Dataset
from divulge.training import Epoch, Recipe, fit


@dataclass(frozen=True)
class Defense:
    """Base of every defense; a concrete one has a `name` and lives in a file of its own.

    The mechanism is public: an adaptive adversary is handed the same object and puts shadow models through it.
    """

    name: ClassVar[str] = ""
    source: ClassVar[str] = ""
    randomness: ClassVar[str] = "none"
    """What the defense draws at random, in words; an oracle adversary knows it too."""

    @property
    def needs_validation(self) -> bool:
        """Whether training under it takes validation records."""
        return False

    def architecture(self, model: nn.Module) -> nn.Module:
        """The network that is trained in place of `model`; `model` itself is left as it was."""
        return model

    def train(
        self,
        model: nn.Module,
        data: Dataset,
        recipe: Recipe,
        *,
        seed: int,
        validation: Dataset | None = None,
        watch: Callable[[int], None] = lambda epoch: None,
    ) -> list[Epoch]:
        """Train `model` in place; see `divulge.training.fit`."""
        return fit(model, data, recipe, seed=seed, validation=validation, watch=watch)

    def respond(self, posteriors: np.ndarray) -> np.ndarray:
        """The posteriors `(N, C)` that leave the building in place of `posteriors`."""
        return posteriors
