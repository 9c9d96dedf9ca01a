"""How right the most certain guesses are: what an adversary who may choose whom to guess about gets."""

from collections.abc import Sequence

import numpy as np

from divulge.errors import BadInputError
from divulge.metrics.classification import accuracy, macro_scores
from divulge.metrics.finding import Finding
from divulge.metrics.intervals import Estimate, bootstrap, clopper_pearson

TOP = (10, 50, 100)
"""How many of the most certain records are looked at."""


def right_at(right: np.ndarray, certainty: np.ndarray, *, k: int) -> float:
    """How many of the `k` most certain guesses are right; of those tied for the last places, their share.

    Args:
        right: bool `(n,)`.
        certainty: `(n,)`, higher is surer.
        k: how many.

    Raises:
        BadInputError: arrays of different lengths, or fewer guesses than `k`.

    Example:
        >>> right_at(np.array([True, False, True]), np.array([0.9, 0.5, 0.5]), k=2)
        1.5
    """
    if right.shape != certainty.shape or right.ndim != 1 or not 1 <= k <= len(right):
        raise BadInputError(
            f"most certain guesses: expected one certainty a guess and {k} guesses or more, got {right.shape} and "
            f"{certainty.shape}."
        )
    edge = -np.partition(-certainty, k - 1)[k - 1]
    above, tied = certainty > edge, certainty == edge
    return float(right[above].sum() + (k - above.sum()) * right[tied].mean())


def precision_at(right: np.ndarray, certainty: np.ndarray, *, k: int, confidence: float = 0.95) -> Estimate:
    """Share of the `k` most certain guesses that are right, with its Clopper-Pearson interval; see `right_at`."""
    count = right_at(right, certainty, k=k)
    low, high = clopper_pearson(count, k, confidence=confidence)
    return Estimate(count / k, float(low), float(high))


def precision_gain(
    right: np.ndarray, certainty: np.ndarray, other_right: np.ndarray, other_certainty: np.ndarray, *, k: int, seed: int
) -> Estimate:
    """How much higher the precision at `k` is than another attack's on the same records, by a paired bootstrap.

    Args:
        right: see `right_at`.
        certainty: likewise.
        other_right: the other attack's.
        other_certainty: likewise.
        k: how many of the most certain of each.
        seed: of the draws.
    """

    def gain(mine: np.ndarray, sure: np.ndarray, theirs: np.ndarray, other: np.ndarray) -> float:
        return (right_at(mine, sure, k=k) - right_at(theirs, other, k=k)) / k

    return bootstrap(gain, right, certainty, other_right, other_certainty, seed=seed)


def score_attribute(
    truth: np.ndarray,
    probabilities: np.ndarray,
    *,
    control: np.ndarray | None = None,
    value: int | None = None,
    top: Sequence[int] = TOP,
    adversary: str | None = None,
    confidence: float = 0.95,
) -> list[Finding]:
    """Precision at the most certain records, then accuracy, balanced accuracy and macro F1 on all.

    Args:
        truth: int64 `(n,)`.
        probabilities: of each value, `(n, values)`.
        control: the same of who guesses without the model.
        value: count as certain who surely has this value; by default, whose value is sure whichever it is.
        top: how many of the most certain; those beyond `n` are left out.
        adversary: `blind`, `adaptive` or `oracle` where a defense is involved.
        confidence: two-sided level of the intervals; higher for an attack that was picked among several.

    Raises:
        BadInputError: probabilities that are not finite or of other records, or a negative truth.
    """
    for told in (probabilities, *([] if control is None else [control])):
        if told.ndim != 2 or len(told) != len(truth) or not np.isfinite(told).all():
            raise BadInputError(
                f"score_attribute: expected finite probabilities of each value for {len(truth)} records, got shape "
                f"{told.shape}{'' if np.isfinite(told).all() else ' with NaN'}."
            )
    if len(truth) and truth.min() < 0:
        raise BadInputError(
            f"score_attribute: expected values numbered from 0, got {truth.min()}. Leave out records whose value is "
            "unknown."
        )
    found = _scores(truth, probabilities, value, top, confidence)
    other = _scores(truth, control, value, top, confidence) if control is not None else {}
    return [
        Finding(
            metric,
            *estimate,
            n=n,
            control=Finding(metric, *other[metric][0], n=n) if other else None,
            adversary=adversary,
        )
        for metric, (estimate, n) in found.items()
    ]


def certain(truth: np.ndarray, probabilities: np.ndarray, *, value: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Which guesses are right and how certain each is, bool and float64 `(n,)`; see `score_attribute`."""
    if value is not None:
        return truth == value, probabilities[:, value]
    return truth == probabilities.argmax(axis=1), probabilities.max(axis=1)


def _scores(
    truth: np.ndarray, probabilities: np.ndarray, value: int | None, top: Sequence[int], confidence: float
) -> dict[str, tuple[Estimate, int]]:
    right, sure = certain(truth, probabilities, value=value)
    guess = probabilities.argmax(axis=1)
    macro = macro_scores(truth, guess, resamples=200, confidence=confidence)
    found = {
        f"precision at top {k}": (precision_at(right, sure, k=k, confidence=confidence), k)
        for k in top
        if k <= len(truth)
    }
    return {
        **found,
        "accuracy": (accuracy(truth, guess, confidence=confidence), len(truth)),
        "balanced accuracy": (macro.recall, len(truth)),
        "macro F1": (macro.f1, len(truth)),
    }


def over_models(estimates: Sequence[Estimate], *, least: float = 0.0) -> Estimate:
    """The mean of one number over several models, with an interval for another model's on other records.

    Two sources of error are added in squares, as in `divulge.metrics.over_repeats`: the mean of the single intervals'
    halves, as if all models erred on the same records, and the spread between models (Student's t). One model shows no
    spread.

    Args:
        estimates: one a model.
        least: the smallest value that there can be; the largest is 1.

    Raises:
        BadInputError: no estimate.

    Example:
        >>> over_models([Estimate(0.4, 0.3, 0.5), Estimate(0.4, 0.3, 0.5)])
        Estimate(value=0.4, low=0.3, high=0.5)
    """
    from scipy.special import stdtrit

    if not estimates:
        raise BadInputError("over_models: expected an estimate of one model or more, got none.")
    values, lows, highs = (np.array(part) for part in zip(*estimates, strict=True))
    mean, spread = float(values.mean()), 0.0
    if len(values) > 1:
        spread = float(stdtrit(len(values) - 1, 0.975)) * float(values.std(ddof=1)) / len(values) ** 0.5
    below, above = np.hypot((values - lows).mean(), spread), np.hypot((highs - values).mean(), spread)
    return Estimate(mean, float(max(least, mean - below)), float(min(1.0, mean + above)))
