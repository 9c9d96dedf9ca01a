"""Coarsened posteriors: the model tells less than it knows."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from divulge.defenses.base import Defense
from divulge.errors import BadInputError


@dataclass(frozen=True)
class TopK(Defense):
    """Only the `k` largest posteriors are told; what remains is spread evenly over the other classes.

    Shokri et al. 2017 (arXiv 1610.05820), section VIII.
    """

    name: ClassVar[str] = "top-k"
    source: ClassVar[str] = "Shokri et al. 2017, arXiv 1610.05820"

    k: int = 3

    def __post_init__(self) -> None:
        if self.k < 1:
            raise BadInputError(f"top-k: expected k >= 1, got {self.k}.")

    def respond(self, posteriors: np.ndarray) -> np.ndarray:
        """The coarsened posteriors `(N, C)`, rows summing to 1."""
        classes = posteriors.shape[1]
        if self.k >= classes:
            return posteriors
        kept = np.argsort(-posteriors, axis=1, kind="stable")[:, : self.k]
        told = np.take_along_axis(posteriors, kept, axis=1)
        answer = np.repeat((1 - told.sum(axis=1, keepdims=True)).clip(0) / (classes - self.k), classes, axis=1)
        np.put_along_axis(answer, kept, told, axis=1)
        return answer / answer.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Rounding(Defense):
    """Posteriors rounded to `digits` decimals and brought back to sum 1.

    Shokri et al. 2017 (arXiv 1610.05820), section VIII; Fredrikson et al. 2015 (doi 10.1145/2810103.2813677).
    """

    name: ClassVar[str] = "rounding"
    source: ClassVar[str] = "Shokri et al. 2017, arXiv 1610.05820"

    digits: int = 1

    def __post_init__(self) -> None:
        if self.digits < 1:
            raise BadInputError(f"rounding: expected digits >= 1, got {self.digits}; for less use label-only.")

    def respond(self, posteriors: np.ndarray) -> np.ndarray:
        """The coarsened posteriors `(N, C)`; a row that rounds to nothing becomes uniform."""
        rounded = posteriors.round(self.digits)
        rounded[rounded.sum(axis=1) == 0] = 1
        return rounded / rounded.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class LabelOnly(Defense):
    """Only the most likely class is told, as a one-hot row.

    Choquette-Choo et al. 2021 (arXiv 2007.14321) on why this does not end membership inference.
    """

    name: ClassVar[str] = "label-only"
    source: ClassVar[str] = "Choquette-Choo et al. 2021, arXiv 2007.14321"

    def respond(self, posteriors: np.ndarray) -> np.ndarray:
        """One-hot rows `(N, C)`."""
        answer = np.zeros_like(posteriors)
        answer[np.arange(len(posteriors)), posteriors.argmax(axis=1)] = 1
        return answer
