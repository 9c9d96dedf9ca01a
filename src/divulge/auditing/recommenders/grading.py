"""How bad what was found about a recommender's users is, beside what is guessed without their updates."""

from dataclasses import dataclass

import numpy as np

from divulge.auditing.recommenders.evidence import Case
from divulge.metrics import Estimate, bootstrap, clopper_pearson

MOSTLY = 0.8
"""F1 from which on a basket is as good as read."""
MARKED = 0.25
"""Lead over the guess in F1 that is more than a trifle."""


@dataclass(frozen=True)
class Grade:
    """What the strongest attack of one adversary comes to.

    Args:
        band: how bad it is, an index into `divulge.auditing.facts.BANDS`.
        whole: share of the users whose baskets were named without an error.
        whole_guessed: share of the guesses that were.
        f1: mean F1 over users.
        guessed: of as many of the most popular items.
        lead: mean of the difference of the two.
        precision: mean over users.
        recall: mean over users.
        users: how many, or records where only unions are named.
    """

    band: int
    whole: Estimate
    whole_guessed: Estimate
    f1: Estimate
    guessed: Estimate
    lead: Estimate
    precision: Estimate
    recall: Estimate
    users: int


def grade(case: Case, *, seed: int) -> Grade:
    """Grade one adversary: nothing counts unless it surely exceeds the guess.

    `exact` where surely half of the baskets or more came out without an error; `strong` where any did, or F1 is 0.8 in
    the mean; `moderate` where F1 leads that of the guess by a quarter; `weak` where it leads at all.
    """
    found = case.best

    def mean(values: np.ndarray) -> Estimate:
        return bootstrap(_mean, values, seed=seed)

    def share(values: np.ndarray) -> Estimate:
        low, high = clopper_pearson(values.sum(), len(values))
        return Estimate(float(values.mean()), float(low), float(high))

    f1, guessed = found.metric("F1"), found.control("F1")
    whole, by_guess = share(found.metric("whole baskets")), share(found.control("whole baskets"))
    score, lead = mean(f1), mean(f1 - guessed)
    if whole.low >= 0.5 and whole.low > by_guess.value:
        band = 4
    elif lead.low > 0 and (whole.value > by_guess.value or score.value >= MOSTLY):
        band = 3
    elif lead.low > 0 and lead.value >= MARKED:
        band = 2
    else:
        band = 1 if lead.low > 0 else 0
    return Grade(
        band,
        whole,
        by_guess,
        score,
        mean(guessed),
        lead,
        mean(found.metric("precision")),
        mean(found.metric("recall")),
        len(f1),
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean())
