"""How well scores tell members from non-members: ROC curve, AUC, TPR at a FPR, balanced accuracy."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from divulge.errors import BadInputError
from divulge.metrics.intervals import Estimate, clopper_pearson


@dataclass(frozen=True, eq=False)
class Roc:
    """Every operating point of a score, from flagging nobody to flagging everybody.

    Args:
        thresholds: descending; point `i` flags scores of at least `thresholds[i]`; the first is infinite.
        true_positives: members flagged at each point, int64.
        false_positives: non-members flagged at each point, int64.
    """

    thresholds: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray

    @property
    def members(self) -> int:
        """How many members there are."""
        return int(self.true_positives[-1])

    @property
    def nonmembers(self) -> int:
        """How many non-members there are."""
        return int(self.false_positives[-1])

    @property
    def tpr(self) -> np.ndarray:
        """True positive rate at each point."""
        return self.true_positives / self.members

    @property
    def fpr(self) -> np.ndarray:
        """False positive rate at each point."""
        return self.false_positives / self.nonmembers


class Band(NamedTuple):
    """A ROC curve thinned for a plot: rates and the interval of the true positive rate."""

    fpr: np.ndarray
    tpr: np.ndarray
    low: np.ndarray
    high: np.ndarray


def roc_curve(scores: np.ndarray, members: np.ndarray) -> Roc:
    """The exact ROC curve, one point a distinct score, so that tied records are flagged together.

    Args:
        scores: finite, `(N,)`, higher for likely members.
        members: the truth, bool or 0/1 `(N,)`, with both values present.

    Raises:
        BadInputError: other shapes, a NaN or infinite score, or only one of members and non-members.

    Example:
        >>> roc = roc_curve(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False]))
        >>> roc.tpr.tolist(), roc.fpr.tolist()
        ([0.0, 0.5, 1.0, 1.0], [0.0, 0.0, 0.5, 1.0])
    """
    scores, members = check(scores, members)
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    hits = np.cumsum(members[order])[last]
    return Roc(
        np.concatenate([[np.inf], ranked[last]]),
        np.concatenate([[0], hits]),
        np.concatenate([[0], last + 1 - hits]),
    )


def auc(scores: np.ndarray, members: np.ndarray, *, confidence: float = 0.95) -> Estimate:
    """Area under the ROC curve: the chance that a member outscores a non-member, ties counted half.

    The interval is DeLong's (1988, doi 10.2307/2531595) by mid-ranks in O(n log n) (Sun and Xu 2014, doi
    10.1109/LSP.2014.2337313), on the logit scale so that it stays inside [0, 1]. Where the sample shows no variance
    (perfect separation, or one score for all), it is the exact interval of as many disjoint member-non-member pairs as
    there are.

    Raises:
        BadInputError: see `roc_curve`.

    Example:
        >>> auc(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, True, False, True])).value
        0.75
    """
    from scipy.special import expit, logit, ndtri

    scores, members = check(scores, members)
    wins, losses = _placements(scores, members)
    area = float(wins.mean())
    error = np.sqrt(_variance_of_mean(wins) + _variance_of_mean(losses))
    if not error or not 0 < area < 1:
        pairs = min(len(wins), len(losses))
        low, high = clopper_pearson(area * pairs, pairs, confidence=confidence)
        return Estimate(area, float(low), float(high))
    reach = ndtri((1 + confidence) / 2) * error / (area * (1 - area))
    return Estimate(area, float(expit(logit(area) - reach)), float(expit(logit(area) + reach)))


def auc_difference(first: np.ndarray, second: np.ndarray, members: np.ndarray, *, confidence: float = 0.95) -> Estimate:
    """AUC of `first` minus AUC of `second` on the same records, with DeLong's paired interval.

    Args:
        first: scores of one attack, `(N,)`.
        second: scores of another attack on the same records, `(N,)`.
        members: the truth, `(N,)`.
        confidence: two-sided level.

    Raises:
        BadInputError: see `roc_curve`.
    """
    from scipy.special import ndtri

    first, members = check(first, members)
    second, members = check(second, members)
    wins_1, losses_1 = _placements(first, members)
    wins_2, losses_2 = _placements(second, members)
    value = float(wins_1.mean() - wins_2.mean())
    error = np.sqrt(_variance_of_mean(wins_1 - wins_2) + _variance_of_mean(losses_1 - losses_2))
    reach = float(ndtri((1 + confidence) / 2) * error)
    return Estimate(value, value - reach, value + reach)


def tpr_at_fpr(scores: np.ndarray, members: np.ndarray, *, fpr: float, confidence: float = 0.95) -> Estimate | None:
    """Share of members flagged at the strictest threshold whose share of flagged non-members is at most `fpr`.

    No interpolation: the threshold is one that exists. The interval is Clopper-Pearson over the members, for that
    threshold; it does not cover the luck in where the non-members put the threshold.

    Args:
        scores: finite, `(N,)`, higher for likely members.
        members: the truth, `(N,)`.
        fpr: the false positive rate allowed, 0 to 1.
        confidence: two-sided level.

    Returns:
        None where `fpr` times the non-members is below 1: so few cannot tell such a rate from zero.

    Raises:
        BadInputError: see `roc_curve`, or a rate outside 0 to 1.

    Example:
        >>> scores = np.arange(100.0)
        >>> tpr_at_fpr(scores, scores >= 50, fpr=0.02).value
        1.0
        >>> tpr_at_fpr(scores, scores >= 50, fpr=0.01) is None
        True
    """
    if not 0 <= fpr <= 1:
        raise BadInputError(f"fpr: expected a rate from 0 to 1, got {fpr}.")
    roc = roc_curve(scores, members)
    allowed = np.floor(fpr * roc.nonmembers + 1e-9)  # 0.29 * 100 is 28.999999999999996
    if allowed < 1:
        return None
    hits = int(_hits(roc, allowed))
    low, high = clopper_pearson(hits, roc.members, confidence=confidence)
    return Estimate(hits / roc.members, float(low), float(high))


def thinned(roc: Roc, *, points: int = 200, confidence: float = 0.95) -> Band:
    """The curve at false positive rates spaced evenly on a log scale, from one non-member to all, for a plot.

    Each point is a true operating point (no interpolation) with the Clopper-Pearson interval of its true positive rate.
    """
    allowed = np.unique(np.geomspace(1, roc.nonmembers, points).round())
    hits = _hits(roc, allowed)
    low, high = clopper_pearson(hits, roc.members, confidence=confidence)
    return Band(allowed / roc.nonmembers, hits / roc.members, low, high)


def best_threshold(scores: np.ndarray, members: np.ndarray) -> float:
    """The finite threshold of highest balanced accuracy: flag scores of at least this.

    It lies halfway to the next lower score, at the lowest score to flag all, just above the highest to flag none.

    Its accuracy on the same records is optimistic; see `balanced_accuracy`.

    Raises:
        BadInputError: see `roc_curve`.
    """
    roc = roc_curve(scores, members)
    best = int(np.argmax(roc.tpr - roc.fpr))
    if best == 0:
        return float(np.nextafter(roc.thresholds[1], np.inf))
    if best == len(roc.thresholds) - 1:
        return float(roc.thresholds[best])
    return float((roc.thresholds[best] + roc.thresholds[best + 1]) / 2)


def balanced_accuracy(scores: np.ndarray, members: np.ndarray, *, seed: int = 0, confidence: float = 0.95) -> Estimate:
    """Mean of true positive and true negative rate at a threshold that never saw the records it is scored on.

    Members and non-members are each halved at random; the best threshold of either half is scored on the other. The
    interval combines the Clopper-Pearson intervals of both rates (square-and-add, Newcombe 1998, doi
    10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I).

    Raises:
        BadInputError: see `roc_curve`; also fewer than two members or two non-members.
    """
    scores, members = check(scores, members)
    if min(members.sum(), (~members).sum()) < 2:
        raise BadInputError("balanced accuracy: expected two members and two non-members or more, to halve them.")
    rng = np.random.default_rng(seed)
    half = np.zeros(len(scores), dtype=bool)
    for side in (members, ~members):
        rows = rng.permutation(np.flatnonzero(side))
        half[rows[: len(rows) // 2]] = True
    flagged = np.empty(len(scores), dtype=bool)
    for part in (half, ~half):
        flagged[~part] = scores[~part] >= best_threshold(scores[part], members[part])
    rates, gaps_low, gaps_high = [], [], []
    for right, side in ((flagged, members), (~flagged, ~members)):
        k, n = int((right & side).sum()), int(side.sum())
        low, high = clopper_pearson(k, n, confidence=confidence)
        rates.append(k / n)
        gaps_low.append(k / n - float(low))
        gaps_high.append(float(high) - k / n)
    value = sum(rates) / 2
    return Estimate(value, value - math.hypot(*gaps_low) / 2, value + math.hypot(*gaps_high) / 2)


def check(scores: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 and members as bool, or the error that says what is wrong with them.

    Raises:
        BadInputError: see `roc_curve`.
    """
    scores, members = np.asarray(scores, dtype=np.float64), np.asarray(members)
    if scores.ndim != 1 or scores.shape != members.shape:
        raise BadInputError(f"expected scores and members of one shape (N,), got {scores.shape} and {members.shape}.")
    if not np.isfinite(scores).all():
        raise BadInputError(f"expected finite scores, got {int((~np.isfinite(scores)).sum())} NaN or infinite ones.")
    if members.dtype != np.bool_ and not np.isin(members, (0, 1)).all():
        raise BadInputError(f"expected members to be true or false (or 1 and 0), got dtype {members.dtype}.")
    members = members.astype(bool)
    if members.all() or not members.any():
        raise BadInputError(
            f"expected members and non-members, got {int(members.sum())} members of {len(members)} records. "
            "Give records from inside and from outside the training set."
        )
    return scores, members


def _hits(roc: Roc, allowed: np.ndarray | np.floating) -> np.ndarray:
    """Members flagged at the loosest threshold that flags at most `allowed` non-members."""
    return roc.true_positives[np.searchsorted(roc.false_positives, allowed, side="right") - 1]


def _placements(scores: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of non-members below each member, and share of members above each non-member, ties counted half."""
    from scipy.stats import rankdata

    inside, outside = scores[members], scores[~members]
    ranks = rankdata(scores)
    wins = (ranks[members] - rankdata(inside)) / len(outside)
    losses = 1 - (ranks[~members] - rankdata(outside)) / len(inside)
    return wins, losses


def _variance_of_mean(sample: np.ndarray) -> float:
    return float(sample.var(ddof=1)) / len(sample) if len(sample) > 1 else 0.0
