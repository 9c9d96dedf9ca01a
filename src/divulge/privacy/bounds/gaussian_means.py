"""The distance of two Gaussians from the means of the scores, and its epsilon."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar

import numpy as np

from divulge.errors import BadInputError
from divulge.privacy.bounds.base import GAUSSIAN_MECHANISM, INDEPENDENT, Bound
from divulge.privacy.gaussian import epsilon_of


def least_distance(inside: np.ndarray, outside: np.ndarray, alpha: float) -> float:
    """Lower confidence limit of the difference of means over the root mean square of the two standard deviations.

    Welch's statistic is close to a noncentral t with Satterthwaite's degrees of freedom; its noncentrality is limited
    by the normal approximation of Johnson and Welch 1940 (doi 10.1093/biomet/31.3-4.362), which errs to the low side.
    Infinite where neither side has any spread and the means differ.

    Args:
        inside: scores `(N,)`, normal.
        outside: scores `(M,)`, normal, of any other variance.
        alpha: chance of being wrong.
    """
    inside, outside = inside - outside[0], outside - outside[0]  # equal scores have no spread, to the last bit
    shift = inside.mean() - outside.mean()
    variances, counts = np.array([inside.var(ddof=1), outside.var(ddof=1)]), np.array([len(inside), len(outside)])
    if not variances.any():
        return math.inf if shift > 0 else 0.0
    errors = variances / counts
    freedom = min(part.sum() ** 2 / (part**2 / (counts - 1)).sum() for part in (variances, errors))
    t = shift / math.sqrt(errors.sum())
    noncentrality = t * (1 - 1 / (4 * freedom)) - NormalDist().inv_cdf(1 - alpha) * math.sqrt(1 + t * t / (2 * freedom))
    return float(noncentrality * math.sqrt(errors.sum() / variances.mean()))


def oddity(inside: np.ndarray, outside: np.ndarray) -> float:
    """Chance that normal scores are at least so skewed or so tailed, both sides together.

    Jarque and Bera 1980 (doi 10.1016/0165-1765(80)90024-5), for a few dozen scores and more.
    """
    sides = [side for side in (inside, outside) if side.std() > 0]
    if not sides:
        return 0.0
    z = np.concatenate([(side - side.mean()) / side.std() for side in sides])
    skewness, kurtosis = (z**3).mean(), (z**4).mean() - 3
    return math.exp(-len(z) * (skewness**2 + kurtosis**2 / 4) / 12)


@dataclass(frozen=True)
class GaussianMeans(Bound):
    """What the difference of the mean scores proves of a Gaussian mechanism, in units of the scores' own spread.

    Lower confidence limit of the distance (Welch 1947, doi 10.1093/biomet/34.1-2.28) and the epsilon of a Gaussian
    mechanism so far apart (Dong, Roth and Su 2019, arXiv 1905.02383). It uses every score, so it is the tightest, and
    it trusts the shape of their law most. Sides of unequal variance tell more than their means, never less.
    """

    name: ClassVar[str] = "gaussian-means"
    source: ClassVar[str] = "Welch 1947, doi 10.1093/biomet/34.1-2.28; Dong, Roth and Su 2019, arXiv 1905.02383"

    def lower(self, inside: np.ndarray, outside: np.ndarray, *, delta: float, alpha: float, seed: int) -> float:
        """Epsilon of the least distance."""
        if not (np.isfinite(inside).all() and np.isfinite(outside).all()):
            raise BadInputError("gaussian-means: expected finite scores, got an infinite one; use clopper-pearson.")
        return epsilon_of(least_distance(inside, outside, alpha), delta)

    def assumptions(self, inside: np.ndarray, outside: np.ndarray) -> tuple[str, ...]:
        """That scores are independent and normal, with a warning where they do not look it."""
        warning = (
            "The scores do not look Gaussian, so this is no bound on them: read another."
            if oddity(inside, outside) < 1e-3
            else "The scores show no sign of not being Gaussian; that is no proof that they are."
        )
        return (INDEPENDENT, GAUSSIAN_MECHANISM, warning)
