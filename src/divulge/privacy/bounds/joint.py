"""Misses and false positives at a threshold, held together against a trade-off curve."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from divulge.privacy.bounds.search import last_ruled_out
from divulge.privacy.bounds.thresholds import missed_at, ranked, untied

Curve = Callable[[np.ndarray], np.ndarray]
"""The least false-negative rate at each false-positive rate; it falls."""

TAILS = np.append(np.geomspace(1, 1e-7, 64), 0)


@dataclass(frozen=True)
class Misses:
    """Inside scores missed at thresholds of fixed ranks among the outside scores.

    The chance of an outside score above the one of rank `r`, of `M`, follows a beta law of `r + 1` and `M - r`
    whatever the scores' law, the order of equal ones being drawn. Given that chance, the misses are binomial, with a
    rate that a mechanism's trade-off curve bounds from below. So the largest chance of so few misses is known without a
    limit for either rate, and rules out more than two limits at half the risk each.

    Args:
        missed: `(K,)` inside scores at or below each threshold.
        inside: all inside scores.
        fpr: `(K, P)` quantiles of the false-positive rate, rising.
        weights: `(P,)` chance of lying between a quantile and the one before.
    """

    missed: np.ndarray
    inside: int
    fpr: np.ndarray
    weights: np.ndarray

    def p_value(self, curve: Curve) -> float:
        """The largest chance, under any mechanism of the curve, of so few misses at one of the thresholds."""
        from scipy.special import betainc

        some = np.minimum(self.missed, self.inside - 1)[:, None]
        fewer = betainc(self.inside - some, some + 1, 1 - curve(self.fpr))
        fewer[self.missed == self.inside] = 1  # all missed: no law makes more
        return min(1.0, len(self.missed) * float((fewer @ self.weights).min()))


def misses(inside: np.ndarray, outside: np.ndarray, *, seed: int = 0) -> Misses:
    """Count the misses of scores `(N,)` inside at thresholds among the scores `(M,)` outside.

    The order of equal scores is drawn from `seed`.
    """
    inside, outside = untied(inside, outside, seed=seed)
    ranks, thresholds = ranked(outside)
    return Misses(missed_at(inside, thresholds), len(inside), _quantiles(tuple(ranks), len(outside)), -np.diff(TAILS))


@lru_cache(maxsize=16)
def _quantiles(ranks: tuple[int, ...], n: int) -> np.ndarray:
    from scipy.special import betainccinv

    above = np.array(ranks)[:, None]
    fpr = betainccinv(above + 1, n - above, TAILS[1:])  # each slice's upper end: no chance comes out too small
    fpr.flags.writeable = False
    return fpr


def ruled_out_by_misses(
    inside: np.ndarray,
    outside: np.ndarray,
    curve: Callable[[float, np.ndarray], np.ndarray],
    *,
    alpha: float,
    seed: int,
) -> float:
    """The largest parameter of a family of curves under which so few misses have a chance of at most `alpha`.

    Args:
        inside: scores `(N,)`, independent draws of one law.
        outside: scores `(M,)`, independent draws of one law.
        curve: least false-negative rates of a parameter at false-positive rates; it falls in both.
        alpha: chance of being wrong.
        seed: what the order of equal scores depends on.
    """
    seen = misses(inside, outside, seed=seed)
    return last_ruled_out(lambda parameter: seen.p_value(lambda fpr: curve(parameter, fpr)) <= alpha)
