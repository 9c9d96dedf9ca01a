"""Lower bounds under the ledger's own mechanism: how little noise explains what was seen?"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np

from divulge.privacy.bounds import Bound
from divulge.privacy.bounds.base import INDEPENDENT
from divulge.privacy.bounds.guesses import FAIR_COINS, FIXED_NUMBERS, most_of_guesses
from divulge.privacy.bounds.joint import misses
from divulge.privacy.ledger import Ledger
from divulge.privacy.loss import PrivacyLoss, privacy_loss

LEAST, MOST = 1 / 4, 16.0
"""Factors on the noise that the ledger states between which the one that explains the scores is sought."""
CLOSE = 1.02
"""Factor to which the noise is found."""
SAMPLING = "It assumes that batches were drawn, and steps counted, as in the ledger; only the noise is in question."
RATES = np.concatenate([np.geomspace(1e-9, 0.5, 2_000), 1 - np.geomspace(0.5, 1e-9, 2_000)[1:]])
"""False-positive rates at which a trade-off curve is looked up."""

Curve = Callable[[float], float]


@dataclass(frozen=True)
class LedgerRates(Bound):
    """What error rates prove of a training that did as its ledger says, but for the size of the noise.

    Misses at a few thresholds are held against the trade-off curve of the ledger's steps under less and less noise,
    until it allows them: the epsilon of the least noise that does not. It exceeds the ledger's own epsilon only where
    the misses are too few under the ledger itself, so a training that it convicts breaks its promise whatever it did.
    Nasr et al. 2023 (arXiv 2302.07956), section 4.2, by the exact curve and `divulge.privacy.bounds.joint`.

    Args:
        ledger: sampling, noise and number of steps.
    """

    name: ClassVar[str] = "ledger-rates"
    source: ClassVar[str] = "Nasr et al. 2023, arXiv 2302.07956"

    ledger: Ledger

    def lower(self, inside: np.ndarray, outside: np.ndarray, *, delta: float, alpha: float, seed: int) -> float:
        """Epsilon of the least noise that does not allow the misses."""
        seen = misses(inside, outside)

        def ruled_out(factor: float) -> bool:
            return seen.p_value(lambda fpr: 1 - _loss(self.ledger, factor).most(fpr)) <= alpha

        return most_ruled_out(self.ledger, ruled_out, delta)

    def assumptions(self, inside: np.ndarray, outside: np.ndarray) -> tuple[str, ...]:
        """That scores are independent draws, and only the noise is in question."""
        return (INDEPENDENT, SAMPLING)


@dataclass(frozen=True)
class LedgerGuesses(Bound):
    """What right guesses in one training prove of it if it did as its ledger says, but for the size of the noise.

    Mahloujifar, Melis and Chaudhuri 2024 (arXiv 2410.22235) with the exact trade-off curve of the ledger's steps. As
    `LedgerRates`, it convicts whatever the training did, and no canary's score needs to be independent of another's.

    Args:
        ledger: sampling, noise and number of steps.
    """

    name: ClassVar[str] = "ledger-guesses"
    source: ClassVar[str] = "Mahloujifar, Melis and Chaudhuri 2024, arXiv 2410.22235"

    ledger: Ledger

    def lower(self, inside: np.ndarray, outside: np.ndarray, *, delta: float, alpha: float, seed: int) -> float:
        """Epsilon of the least noise that does not allow so many right guesses."""
        canaries = len(inside) + len(outside)

        def proved(right: int, guesses: int, level: float) -> float:
            def ruled_out(factor: float) -> bool:
                inverse = _inverse(self.ledger, factor)
                return impossible(inverse, right=right, guesses=guesses, canaries=canaries, alpha=level)

            return most_ruled_out(self.ledger, ruled_out, delta)

        return most_of_guesses(inside, outside, proved, alpha=alpha, seed=seed)

    def assumptions(self, inside: np.ndarray, outside: np.ndarray) -> tuple[str, ...]:
        """That the memberships were fair coins, and only the noise is in question."""
        return (FAIR_COINS, FIXED_NUMBERS, SAMPLING)


def impossible(inverse: Curve, *, right: int, guesses: int, canaries: int, alpha: float) -> bool:
    """Whether at least so many right guesses have a chance below `alpha` under any training of a trade-off curve.

    As `divulge.privacy.bounds.one_run_f_dp.impossible`, for any curve.

    Args:
        inverse: the smallest false-positive rate of any test with a true-positive rate.
        right: right guesses.
        guesses: guesses made.
        canaries: all canaries, guessed or not.
        alpha: the chance supposed.
    """
    if right == 0:
        return False
    hit, miss = alpha * right / canaries, alpha * (guesses - right) / canaries
    for i in range(right - 1, -1, -1):
        at_least = inverse(hit)
        if at_least <= miss:
            return False
        hit += i / (guesses - i) * (at_least - miss)
        miss = at_least
        if hit + miss > guesses / canaries:
            return True
    return False


def most_ruled_out(ledger: Ledger, ruled_out: Callable[[float], bool], delta: float) -> float:
    """Largest epsilon, over sizes of the ledger's noise, that a test rules out; 0 if it rules out none.

    Args:
        ledger: sampling, noise and number of steps.
        ruled_out: whether a factor on the noise is; if one is, so are all larger ones.
        delta: at which epsilon is stated.
    """
    # The ledger's own noise first: whether it is convicted must not hang on how finely the factor is sought.
    too_much = ruled_out(1.0)
    factor, step = 1.0, 0.5 if too_much else 2.0
    while ruled_out(factor := factor * step) == too_much:
        if not LEAST < factor < MOST:
            return _loss(ledger, factor).epsilon(delta) if too_much else 0.0
    low, high = sorted((factor, factor / step))  # allowed, ruled out
    while high > CLOSE * low:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if ruled_out(middle) else (middle, high)
    return _loss(ledger, high).epsilon(delta)


@lru_cache(maxsize=32)
def _loss(ledger: Ledger, factor: float) -> PrivacyLoss:
    """The loss of a training whose noise is `factor` times what its ledger says."""
    phases = (replace(phase, noise_multiplier=factor * phase.noise_multiplier) for phase in ledger.phases)
    return privacy_loss(replace(ledger, phases=tuple(phases)))


@lru_cache(maxsize=32)
def _inverse(ledger: Ledger, factor: float) -> Curve:
    """The smallest false-positive rate of any test with a true-positive rate, or just below it.

    The proof averages over canaries, which takes a concave trade-off curve: where adding and removing a record differ,
    the larger of the two is not, and its concave hull stands in.
    """
    from scipy.spatial import ConvexHull

    points = np.column_stack([RATES, _loss(ledger, factor).most(RATES)])
    corners = np.sort(ConvexHull(np.vstack([points, [[1.0, -1.0], [RATES[0], -1.0]]])).vertices)[:-2]
    # Each rate stands for the one before it: straight lines between these are above the curve, not below.
    fpr, tpr = [0.0, *RATES.tolist()], [*np.interp(RATES, *points[corners].T).tolist(), 1.0]

    def inverse(hit: float) -> float:
        right = bisect_right(tpr, hit)
        if right in (0, len(tpr)):
            return fpr[right and -1]
        low, high = tpr[right - 1], tpr[right]
        return fpr[right - 1] + (hit - low) / (high - low) * (fpr[right] - fpr[right - 1])

    return inverse
