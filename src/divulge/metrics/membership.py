"""Membership evidence scored against the truth."""

from collections.abc import Sequence

import numpy as np

from divulge.errors import BadInputError
from divulge.metrics.classification import accuracy, macro_scores
from divulge.metrics.finding import Finding
from divulge.metrics.intervals import Estimate
from divulge.metrics.roc import auc, balanced_accuracy, check, tpr_at_fpr

RATES = (0.1, 0.01, 0.001, 0.0001)
"""False positive rates at which the true positive rate is reported, where there are non-members enough."""


def tpr_metric(fpr: float) -> str:
    """What the true positive rate at `fpr` is called.

    Example:
        >>> tpr_metric(0.001)
        'TPR at 0.1% FPR'
    """
    return f"TPR at {100 * fpr:g}% FPR"


def score_membership(
    scores: np.ndarray,
    members: np.ndarray,
    *,
    decisions: np.ndarray | None = None,
    control: Sequence[np.ndarray] | None = None,
    rates: Sequence[float] = RATES,
    adversary: str | None = None,
    seed: int = 0,
) -> dict[str, Finding]:
    """Every number that membership evidence is judged by, by metric name.

    AUC, balanced accuracy, TPR at each of `rates` that the count of non-members allows, and, with decisions, accuracy
    and macro precision, recall and F1 for comparison with older work.

    Args:
        scores: finite, `(N,)`, higher for likely members.
        members: the truth, bool `(N,)`.
        decisions: the attack's own yes or no, bool `(N,)`.
        control: the same arrays, `(scores, members)` or `(scores, members, decisions)`, of the same attack where there
            is nothing to find.
        rates: false positive rates.
        adversary: `blind`, `adaptive` or `oracle` where a defense is involved.
        seed: what splits and bootstrap draws depend on.

    Returns:
        Findings in reading order; each carries the control's finding of the same name where there is one.

    Raises:
        BadInputError: arrays of different shapes, scores that are not finite, or only one of members and non-members.

    Example:
        >>> scores = np.arange(40.0)
        >>> list(score_membership(scores, scores >= 20))
        ['AUC', 'balanced accuracy', 'TPR at 10% FPR']
    """
    scores, members = check(scores, members)
    estimates: dict[str, Estimate | None] = {
        "AUC": auc(scores, members),
        "balanced accuracy": balanced_accuracy(scores, members, seed=seed),
        **{tpr_metric(rate): tpr_at_fpr(scores, members, fpr=rate) for rate in rates},
    }
    if decisions is not None:
        decisions = np.asarray(decisions).astype(bool)
        macro = macro_scores(members, decisions, seed=seed)
        estimates["accuracy"] = accuracy(members, decisions)
        estimates |= {"macro precision": macro.precision, "macro recall": macro.recall, "macro F1": macro.f1}
    controls: dict[str, Finding] = {}
    if control is not None:
        answers = control[2] if len(control) > 2 else None
        controls = score_membership(control[0], control[1], decisions=answers, rates=rates, seed=seed)
    return {
        name: Finding(name, *estimate, n=len(scores), control=controls.get(name), adversary=adversary)
        for name, estimate in estimates.items()
        if estimate is not None
    }


def conformal_p_values(scores: np.ndarray, null: np.ndarray) -> np.ndarray:
    """How often a non-member would score as high, `(1 + #{null >= score}) / (1 + #null)`, for each record.

    Valid p-values of "this is no member" if the null records are exchangeable with the non-members among the scored
    (Bates et al. 2023, arXiv 2104.08279).

    Args:
        scores: `(N,)`.
        null: scores of records known not to be members, `(Z,)`.

    Example:
        >>> conformal_p_values(np.array([5.0, 0.0]), np.array([1.0, 2.0, 3.0])).tolist()
        [0.25, 1.0]
    """
    above = len(null) - np.searchsorted(np.sort(null), scores, side="left")
    return (1 + above) / (1 + len(null))


def benjamini_hochberg(p_values: np.ndarray, *, rate: float = 0.05) -> np.ndarray:
    """Which records to flag so that at most `rate` of the flagged are non-members, in expectation; bool `(N,)`.

    Benjamini and Hochberg 1995 (doi 10.1111/j.2517-6161.1995.tb02031.x); valid for conformal p-values that share one
    null sample (Bates et al. 2023, arXiv 2104.08279).

    Raises:
        BadInputError: a p-value outside 0 to 1.

    Example:
        >>> benjamini_hochberg(np.array([0.01, 0.04, 0.9]), rate=0.05).tolist()
        [True, False, False]
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    if not ((p_values >= 0) & (p_values <= 1)).all():
        raise BadInputError("benjamini_hochberg: expected p-values from 0 to 1.")
    ranked = np.sort(p_values)
    small = np.flatnonzero(ranked <= rate * np.arange(1, len(ranked) + 1) / len(ranked))
    return p_values <= (ranked[small[-1]] if len(small) else -1.0)


def positive_predictive_value(tpr: float, fpr: float, *, prior: float) -> float:
    """Share of flagged records that are members, if members are a share `prior` of those asked about.

    Raises:
        BadInputError: nobody is flagged (both rates 0), or a prior outside (0, 1).

    Example:
        >>> positive_predictive_value(0.5, 0.01, prior=0.01)
        0.33557046979865773
    """
    flagged = prior * tpr + (1 - prior) * fpr
    if not 0 < prior < 1 or not flagged > 0:
        raise BadInputError(f"expected a prior in (0, 1) and some record flagged, got {prior=}, {tpr=}, {fpr=}.")
    return prior * tpr / flagged
