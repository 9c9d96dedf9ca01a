"""Counts, means and squared deviations of each record's signals on one side of membership."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
    """Sufficient statistics of a normal sample for each record, float64 `(N,)`; zeros where the count is 0.

    Args:
        count: how many signals.
        mean: their mean.
        squares: sum of squared deviations from that mean.
    """

    count: np.ndarray  # type: ignore[assignment]  # hides tuple.count, which nothing here calls
    mean: np.ndarray
    squares: np.ndarray

    @property
    def overall(self) -> float:
        """Mean of all signals of all records; 0 without any."""
        return float((self.count * self.mean).sum() / max(self.count.sum(), 1))

    def plus(self, values: np.ndarray) -> "Moments":
        """The moments with one more signal `(N,)` for each record."""
        gap = values - self.mean
        return Moments(
            self.count + 1, self.mean + gap / (self.count + 1), self.squares + gap**2 * self.count / (self.count + 1)
        )

    def rows(self, which: np.ndarray | slice) -> "Moments":
        """The moments of some records."""
        return Moments(*(part[which] for part in self))

    @classmethod
    def empty(cls, n: int) -> "Moments":
        """The moments of `n` records without signals."""
        return cls(np.zeros(n), np.zeros(n), np.zeros(n))

    @classmethod
    def joined(cls, parts: Sequence["Moments"]) -> "Moments":
        """The records of several lists, one after another."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def masked_moments(values: np.ndarray, mask: np.ndarray) -> Moments:
    """Moments of each row of `values` over the columns where `mask` holds.

    Args:
        values: finite, `(N, S)`.
        mask: bool `(N, S)`; rows may hold any count, zero included.

    Example:
        >>> masked_moments(np.array([[1.0, 3.0, 9.0]]), np.array([[True, True, False]]))
        Moments(count=array([2.]), mean=array([2.]), squares=array([2.]))
    """
    weight = np.ascontiguousarray(mask, dtype=np.float64)
    count = weight.sum(axis=1)
    mean = np.einsum("ns,ns->n", values, weight) / np.maximum(count, 1)
    deviation = values - mean[:, None]
    deviation *= weight
    return Moments(count, mean, np.einsum("ns,ns->n", deviation, deviation))


def pooled_variance(moments: Moments) -> float:
    """Variance within records, pooled over all of them; between records where none has two signals; 0 without any.

    Example:
        >>> pooled_variance(Moments(np.array([2.0, 3.0]), np.array([0.0, 5.0]), np.array([2.0, 4.0])))
        2.0
    """
    freedom = np.maximum(moments.count - 1, 0).sum()
    if freedom:
        return float(moments.squares.sum() / freedom)
    present = moments.mean[moments.count > 0]
    return float(present.var()) if len(present) else 0.0
