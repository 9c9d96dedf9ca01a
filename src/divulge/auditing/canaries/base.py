"""What every kind of canary is: records made from data and a network, and a score of how well training took each."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from divulge.data import Dataset
from divulge.privacy.ledger import Ledger
from divulge.training import Recipe
from divulge.training.private import Privacy


class Planted(ABC):
    """Canaries made for one training run, and what is seen of them.

    Args:
        model: the network that is to be trained.
        records: what it is trained on besides canaries.
        canaries: one record each; a coin decides which of them are trained on too.
    """

    def __init__(self, model: nn.Module, records: Dataset, canaries: Dataset) -> None:
        self.model, self.records, self.canaries = model, records, canaries

    @abstractmethod
    def watch(self, step: int, model: nn.Module) -> None:
        """What is looked at after each step of the training, if anything."""

    @abstractmethod
    def scores(self, ledger: Ledger, recipe: Recipe, privacy: Privacy | None) -> np.ndarray:
        """After the training, a finite score for each canary, higher if it looks trained on; no coin is looked at.

        Args:
            ledger: what the training says it has spent.
            recipe: how it was trained.
            privacy: what made it private, where that is known.
        """

    def departures(
        self, ledger: Ledger, recipe: Recipe, privacy: Privacy | None, members: np.ndarray, *, seed: int
    ) -> dict[str, float]:
        """Signs that the training did other things than its ledger says.

        Args:
            ledger: what the training says it has spent.
            recipe: how it was trained.
            privacy: what made it private, where that is known.
            members: which canaries were trained on, bool `(canaries,)`.
            seed: of whatever is drawn.

        Returns:
            By sign, a p-value: in a training that does as its ledger says it is `p` or less with a chance of at most
            `p`. Canaries that show no step have none.
        """
        return {}


@dataclass(frozen=True)
class Canary(ABC):
    """Base of every kind of canary; a concrete one has a `name`."""

    name: ClassVar[str] = ""
    source: ClassVar[str] = ""
    independent: ClassVar[bool] = False
    """Whether one canary's score has nothing to do with another's, given who was trained on."""

    @abstractmethod
    def plant(self, model: nn.Module, data: Dataset, count: int, *, seed: int) -> Planted:
        """Make `count` canaries.

        Args:
            model: the network, with its first weights; left as it was.
            data: the records of the training.
            count: how many.
            seed: of whatever is drawn.

        Raises:
            BadInputError: so many cannot be made.
        """


def stacked(data: Dataset, inputs: Tensor, targets: Tensor) -> Dataset:
    """Records of the classes of `data`, without attributes."""
    return Dataset(inputs, targets, classes=data.classes)
