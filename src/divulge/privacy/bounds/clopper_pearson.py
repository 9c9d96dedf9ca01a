"""Epsilon from error rates at a threshold: nothing is assumed of the mechanism."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from divulge.privacy.bounds.base import INDEPENDENT, Bound
from divulge.privacy.bounds.joint import ruled_out_by_misses
from divulge.privacy.bounds.thresholds import Threshold, strongest


def epsilon_of_rates(fpr: np.ndarray, fnr: np.ndarray, delta: float) -> np.ndarray:
    """The smallest epsilon that allows these error rates at `delta`, elementwise; negative where any does.

    Kairouz, Oh and Viswanath 2015 (arXiv 1311.0776), both directions: the larger of `log((TPR - delta) / FPR)` and
    `log((TNR - delta) / FNR)`.

    Example:
        >>> epsilon_of_rates(np.array([0.1]), np.array([0.5]), 0.0).round(3)  # log(0.5 / 0.1) and log(0.9 / 0.5)
        array([1.609])
    """
    with np.errstate(divide="ignore"):
        as_members = np.log(np.maximum(1 - fnr - delta, 0)) - np.log(fpr)
        as_outsiders = np.log(np.maximum(1 - fpr - delta, 0)) - np.log(fnr)
    return np.maximum(as_members, as_outsiders)


def least_false_negatives(epsilon: float, fpr: np.ndarray, delta: float) -> np.ndarray:
    """The least false-negative rate that (epsilon, delta)-privacy allows at each false-positive rate.

    Kairouz, Oh and Viswanath 2015 (arXiv 1311.0776).

    Example:
        >>> least_false_negatives(0.0, np.array([0.1, 0.5]), 0.0)
        array([0.9, 0.5])
    """
    steep, flat = 1 - delta - np.exp(epsilon) * fpr, np.exp(-epsilon) * (1 - delta - fpr)
    return np.clip(np.maximum(steep, flat), 0, 1)


@dataclass(frozen=True)
class ClopperPearson(Bound):
    """What the true-positive rate at a false-positive rate proves, both counted exactly.

    Jagielski, Ullman and Oprea 2020 (arXiv 2006.07709); Nasr et al. 2021 (arXiv 2101.04535).

    Args:
        threshold: how the threshold is chosen without its luck being counted. `joint` tests the misses at thresholds
            of fixed ranks, see `joint.Misses`; the others put a Clopper-Pearson limit on either rate, see
            `thresholds.strongest`: `bonferroni` at the same thresholds, `split` and `multi-split` as published.
    """

    name: ClassVar[str] = "clopper-pearson"
    source: ClassVar[str] = "Jagielski, Ullman and Oprea 2020, arXiv 2006.07709; Nasr et al. 2021, arXiv 2101.04535"

    threshold: Threshold = "joint"

    def lower(self, inside: np.ndarray, outside: np.ndarray, *, delta: float, alpha: float, seed: int) -> float:
        """The largest epsilon that the error rates rule out."""
        if self.threshold == "joint":
            curve = partial(least_false_negatives, delta=delta)
            return ruled_out_by_misses(inside, outside, curve, alpha=alpha, seed=seed)
        return strongest(
            inside,
            outside,
            lambda fpr, fnr: epsilon_of_rates(fpr, fnr, delta),
            threshold=self.threshold,
            alpha=alpha,
            seed=seed,
        )

    def assumptions(self, inside: np.ndarray, outside: np.ndarray) -> tuple[str, ...]:
        """That scores are independent draws."""
        return (INDEPENDENT,)
