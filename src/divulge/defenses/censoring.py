"""Adversarial censoring: a representation trained so that an adversary does not find an attribute in it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import nn

from divulge.data import Dataset
from divulge.defenses.base import Defense, Trained
from divulge.errors import BadInputError
from divulge.models.censored import Censored
from divulge.training import Recipe, fit


@dataclass(frozen=True)
class AdversarialCensoring(Defense):
    """A network trained against an adversary who reads an attribute off one of its layers.

    Edwards and Storkey 2016 (arXiv 1511.05897); measured in Song and Shmatikov 2020 (arXiv 1905.11742), whose adversary
    and weight these are. It stops that adversary, at that layer: a fresh probe, other layers, de-censoring and
    re-purposing are what it has to be held against.

    Args:
        attribute: its name among those of the training records; none for the only one they have.
        layer: name of the layer whose output is censored, as in `named_modules`; none for what the last linear layer is
            given.
        gamma: weight of the adversary's loss, which the network ascends.
        hidden: widths of the adversary.
    """

    name: ClassVar[str] = "censoring"
    source: ClassVar[str] = "Edwards and Storkey 2016, arXiv 1511.05897"
    randomness: ClassVar[str] = "the adversary's first weights and the order of records; none after training"

    attribute: str | None = None
    layer: str | None = None
    gamma: float = 1.0
    hidden: tuple[int, ...] = (256, 128)

    def __post_init__(self) -> None:
        if not self.gamma > 0 or min(self.hidden, default=1) < 1:
            raise BadInputError(f"censoring: expected gamma > 0 and widths from 1, got {self.gamma} and {self.hidden}.")

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
        """Train `model` in place with an adversary beside it; the losses told are those of both together.

        Early stopping looks at the class alone.

        Raises:
            BadInputError: an attribute that is missing, no category or constant, or no such layer.
        """
        values = self._values(data)
        count = int(values.max()) + 1
        both = Censored(model, data.shape, self.layer, values=count, hidden=self.hidden, gamma=self.gamma, seed=seed)
        told = _paired(validation, np.zeros(len(validation), dtype=np.int64), count) if validation else None
        return Trained(fit(both, _paired(data, values, count), recipe, seed=seed, validation=told, watch=watch))

    def _values(self, data: Dataset) -> np.ndarray:
        name = self.attribute
        if name is None and len(data.attributes) == 1:
            name = next(iter(data.attributes))
        if name is None or name not in data.attributes:
            raise BadInputError(
                f"censoring: expected training records with {'one attribute' if name is None else f'{name!r}'}, got "
                f"{', '.join(data.attributes) or 'none'}. Name one of them, or load the records with it."
            )
        values = data.attributes[name].numpy()
        if not np.issubdtype(values.dtype, np.integer) or values.min() < 0 or values.min() == values.max():
            raise BadInputError(
                f"censoring: expected attribute {name!r} in whole numbers from 0, two or more of them, got "
                f"{values.dtype} from {values.min()} to {values.max()}. Number the categories."
            )
        return values


def _paired(data: Dataset, values: np.ndarray, count: int) -> Dataset:
    """The records with class and attribute in one label."""
    names = tuple(f"{label}, {value}" for label in data.classes for value in range(count))
    return replace(data, targets=data.targets * count + data.targets.new_tensor(values), classes=names)
