"""Intervals: an estimate never travels without one."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from divulge.errors import BadInputError


class Estimate(NamedTuple):
    """A value with the lower and upper end of its interval."""

    value: float
    low: float
    high: float


def clopper_pearson(
    k: np.ndarray | float, n: np.ndarray | float, *, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Exact (conservative) interval of a binomial proportion, elementwise.

    Clopper and Pearson 1934 (doi 10.1093/biomet/26.4.404).

    Args:
        k: successes, any shape that broadcasts against `n`; fractions are allowed.
        n: trials; the interval of no trials is [0, 1].
        confidence: two-sided level.

    Returns:
        Lower and upper ends, float64.

    Raises:
        BadInputError: `k` outside 0 to `n`, or a level outside (0, 1).

    Example:
        >>> low, high = clopper_pearson(0, 10)
        >>> float(low), round(float(high), 4)
        (0.0, 0.3085)
    """
    from scipy.special import betaincinv

    k, n = np.broadcast_arrays(np.asarray(k, dtype=np.float64), np.asarray(n, dtype=np.float64))
    if not np.all((k >= 0) & (k <= n)):
        raise BadInputError("clopper_pearson: expected 0 <= k <= n; a count of successes is outside its trials.")
    tail = tail_of(confidence)
    some, short = k > 0, k < n
    low = np.where(some, betaincinv(np.where(some, k, 1.0), n - k + 1, tail), 0.0)
    high = np.where(short, betaincinv(k + 1, np.where(short, n - k, 1.0), 1 - tail), 1.0)
    return low, high


def bootstrap(
    statistic: Callable[..., float],
    *arrays: np.ndarray,
    seed: int,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Estimate:
    """Percentile interval of any statistic, rows of all arrays drawn together with replacement.

    Efron 1979 (doi 10.1214/aos/1176344552).

    Args:
        statistic: maps the arrays to one number.
        arrays: one row a victim, all of one length.
        seed: what the draws depend on.
        resamples: how many draws.
        confidence: two-sided level.

    Raises:
        BadInputError: arrays of different lengths, no rows, or a level outside (0, 1).

    Example:
        >>> estimate = bootstrap(np.mean, np.arange(100.0), seed=0)
        >>> estimate.low < estimate.value < estimate.high
        True
    """
    n = len(arrays[0])
    if n == 0 or any(len(array) != n for array in arrays):
        raise BadInputError(f"bootstrap: expected arrays of one length, got {[len(array) for array in arrays]}.")
    rng = np.random.default_rng(seed)
    draws = [statistic(*(array[rows] for array in arrays)) for rows in rng.integers(n, size=(resamples, n))]
    tail = tail_of(confidence)
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Estimate(float(statistic(*arrays)), float(low), float(high))


def tail_of(confidence: float) -> float:
    """What lies on either side of a two-sided interval of that level.

    Raises:
        BadInputError: a level outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise BadInputError(f"confidence: expected a level between 0 and 1, such as 0.95, got {confidence}.")
    return (1 - confidence) / 2
