"""The mean over repeats of one experiment, each scored on the same records."""

import numpy as np

from divulge.errors import BadInputError
from divulge.metrics.intervals import Estimate, clopper_pearson


def over_repeats(right: np.ndarray, *, confidence: float = 0.95) -> Estimate:
    """Mean share of right answers, with an interval for another repeat's mean on other records of the same kind.

    Two independent sources of error are added in squares: which records were asked about (the wider half of the
    Clopper-Pearson interval at the mean, as if the repeats erred on the same ones) and the spread between repeats
    (Student's t). A single repeat shows no spread; its interval is that of the records alone.

    Args:
        right: bool `(repeats, n)`.
        confidence: two-sided level.

    Raises:
        BadInputError: not a matrix, or an empty one.

    Example:
        >>> estimate = over_repeats(np.arange(300).reshape(3, 100) % 4 > 0)
        >>> round(estimate.value, 2), estimate.low < 0.75 < estimate.high
        (0.75, True)
    """
    from scipy.special import stdtrit

    if right.ndim != 2 or not right.size:
        raise BadInputError(f"over_repeats: expected answers (repeats, n), got an array of shape {right.shape}.")
    repeats, n = right.shape
    shares = right.mean(axis=1)
    mean = float(shares.mean())
    low, high = clopper_pearson(mean * n, n, confidence=confidence)
    spread = 0.0
    if repeats > 1:
        spread = float(stdtrit(repeats - 1, (1 + confidence) / 2)) * float(shares.std(ddof=1)) / repeats**0.5
    below, above = np.hypot(mean - float(low), spread), np.hypot(float(high) - mean, spread)
    return Estimate(mean, float(max(0.0, mean - below)), float(min(1.0, mean + above)))
