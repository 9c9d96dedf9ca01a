"""What every defense is: settings that act at one or more of four doors, each the identity unless overridden."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from divulge.data import Dataset
from divulge.privacy.ledger import Ledger
from divulge.releases import GradientRecord, Tampering
from divulge.settings import labelled
from divulge.training import Epoch, Recipe, fit


@dataclass(frozen=True)
class Trained:
    """What training under a defense came to.

    Args:
        history: one entry an epoch.
        ledger: what private training spent; None where nothing is promised.
    """

    history: list[Epoch]
    ledger: Ledger | None = None


@dataclass(frozen=True, eq=False)
class Shared:
    """What leaves a client of federated learning under a defense.

    Args:
        record: what the server, and so an attacker, receives.
        randomness: what the defense drew for this batch, which only an oracle adversary knows; None for nothing.
    """

    record: GradientRecord
    randomness: Any = None


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
    def label(self) -> str:
        """The name, with the settings that are not the defaults, such as `top-k (k=1)`."""
        return labelled(self.name, self)

    @property
    def in_training(self) -> bool:
        """Whether it acts before a model is released: on its architecture, its recipe or its training."""
        return self._overrides("architecture", "recipe", "train")

    @property
    def in_response(self) -> bool:
        """Whether it acts on what a released model answers."""
        return self._overrides("respond")

    @property
    def in_sharing(self) -> bool:
        """Whether it acts on the gradients that a client shares."""
        return self._overrides("share")

    def _overrides(self, *doors: str) -> bool:
        return any(getattr(type(self), door) is not getattr(Defense, door) for door in doors)

    @property
    def needs_validation(self) -> bool:
        """Whether training under it takes validation records."""
        return False

    def architecture(self, model: nn.Module) -> nn.Module:
        """The network that is trained in place of `model`; `model` itself is left as it was."""
        return model

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe that is followed in place of `recipe`."""
        return recipe

    def train(
        self,
        model: nn.Module,
        data: Dataset,
        recipe: Recipe,
        *,
        seed: int,
        validation: Dataset | None = None,
        watch: Callable[[int], None] = lambda epoch: None,
        checkpoint: Path | None = None,
    ) -> Trained:
        """Train `model` in place by `self.recipe(recipe)`; see `divulge.training.fit`.

        A training that can be taken up is saved in the file `checkpoint` and goes on from it; others start over.
        """
        return Trained(fit(model, data, self.recipe(recipe), seed=seed, validation=validation, watch=watch))

    def share(
        self, record: GradientRecord, *, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> Shared:
        """What a client shares in place of `record`; the record, the model and the batch stay as they are.

        Args:
            record: what an honest client would share of the batch.
            model: what the client was given.
            inputs: the private batch `(N, *shape)`.
            targets: its class numbers `(N,)`.
            generator: of everything that the defense draws.
        """
        return Shared(record)

    def tampering(self, model: nn.Module) -> Tampering:
        """What is publicly known of how `share` changes the gradients of `model`."""
        return Tampering()

    def respond(self, posteriors: np.ndarray) -> np.ndarray:
        """The posteriors `(N, C)` that leave the building in place of `posteriors`."""
        return posteriors
