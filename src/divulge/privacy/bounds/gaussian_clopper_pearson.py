"""The distance of two Gaussians from error rates at a threshold, and its epsilon."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from divulge.privacy.bounds.base import GAUSSIAN_MECHANISM, INDEPENDENT, Bound
from divulge.privacy.bounds.joint import ruled_out_by_misses
from divulge.privacy.bounds.thresholds import Threshold, strongest
from divulge.privacy.gaussian import epsilon_of


def distance_of_rates(fpr: np.ndarray, fnr: np.ndarray) -> np.ndarray:
    """How many standard deviations apart two normals must be to allow these error rates, elementwise.

    Dong, Roth and Su 2019 (arXiv 1905.02383), equation 6.
    """
    from scipy.special import ndtri

    certain = (fpr == 1) | (fnr == 1)  # a rate that may be 1 proves nothing, even where the other is 0
    return np.where(certain, -np.inf, -ndtri(fpr) - ndtri(np.where(certain, 0.5, fnr)))


def least_false_negatives(mu: float, fpr: np.ndarray) -> np.ndarray:
    """The false-negative rate at each false-positive rate of the best test of two normals `mu` apart."""
    from scipy.special import ndtr, ndtri

    return ndtr(-ndtri(fpr) - mu)


@dataclass(frozen=True)
class GaussianClopperPearson(Bound):
    """What the true-positive rate at a false-positive rate proves of a Gaussian mechanism, both counted exactly.

    Nasr et al. 2023 (arXiv 2302.07956): of all curves of a Gaussian mechanism, the lowest through the error rates; far
    above what the same rates prove of an unknown mechanism, because they are extrapolated to the small `delta`.

    Args:
        threshold: how the threshold is chosen without its luck being counted, as for `clopper-pearson`.
    """

    name: ClassVar[str] = "gaussian-clopper-pearson"
    source: ClassVar[str] = "Nasr et al. 2023, arXiv 2302.07956"

    threshold: Threshold = "joint"

    def lower(self, inside: np.ndarray, outside: np.ndarray, *, delta: float, alpha: float, seed: int) -> float:
        """Epsilon of the largest distance that the error rates rule out."""
        if self.threshold == "joint":
            mu = ruled_out_by_misses(inside, outside, least_false_negatives, alpha=alpha, seed=seed)
        else:
            mu = strongest(inside, outside, distance_of_rates, threshold=self.threshold, alpha=alpha, seed=seed)
        return epsilon_of(mu, delta)

    def assumptions(self, inside: np.ndarray, outside: np.ndarray) -> tuple[str, ...]:
        """That scores are independent draws, and the mechanism Gaussian."""
        return (INDEPENDENT, GAUSSIAN_MECHANISM)
