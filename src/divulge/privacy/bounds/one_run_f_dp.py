"""The distance of two Gaussians from guesses in a single training run, and its epsilon."""

import math
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import ClassVar

import numpy as np

from divulge.privacy.bounds.base import GAUSSIAN_MECHANISM, Bound
from divulge.privacy.bounds.guesses import FAIR_COINS, FIXED_NUMBERS, most_of_guesses
from divulge.privacy.bounds.search import last_ruled_out
from divulge.privacy.gaussian import epsilon_of

ROOT_TWO = math.sqrt(2)


def impossible(mu: float, *, right: int, guesses: int, canaries: int, alpha: float) -> bool:
    """Whether at least so many right guesses have a chance below `alpha` under any `mu`-Gaussian private training.

    Mahloujifar, Melis and Chaudhuri 2024 (arXiv 2410.22235), theorem 9 and algorithm 3. Suppose the chance is `alpha`.
    Had one right guess's coin fallen the other way there would be one right guess fewer, and privacy bounds how much
    rarer that can be; so `i - 1` right guesses have at least a certain chance, hence `i - 2`, and so on. If these
    chances add up to more than 1, the supposition was wrong.

    Args:
        mu: distance in standard deviations, at least 0.
        right: right guesses.
        guesses: guesses made; the number was fixed before the memberships were seen.
        canaries: all canaries, guessed or not.
        alpha: the chance supposed.
    """
    if right == 0:
        return False
    quantile = NormalDist().inv_cdf
    hit, miss = alpha * right / canaries, alpha * (guesses - right) / canaries
    for i in range(right - 1, -1, -1):
        at_least = math.erfc((mu - quantile(hit)) / ROOT_TWO) / 2
        if at_least <= miss:
            return False  # chances of fewer right guesses may be 0 from here on
        hit += i / (guesses - i) * (at_least - miss)
        miss = at_least
        if hit + miss > guesses / canaries:
            return True
    return False


def distance_of_guesses(right: int, guesses: int, alpha: float, *, canaries: int) -> float:
    """The largest distance at which so many right guesses are `impossible`; 0 where they are not even at 0."""

    def ruled_out(mu: float) -> bool:
        return impossible(mu, right=right, guesses=guesses, canaries=canaries, alpha=alpha)

    return last_ruled_out(ruled_out)


@dataclass(frozen=True)
class OneRunFDP(Bound):
    """What the number of right guesses proves of a Gaussian mechanism when a fair coin decided on each canary.

    Mahloujifar, Melis and Chaudhuri 2024 (arXiv 2410.22235), with the trade-off curve of a Gaussian mechanism.
    """

    name: ClassVar[str] = "one-run-f-dp"
    source: ClassVar[str] = "Mahloujifar, Melis and Chaudhuri 2024, arXiv 2410.22235"

    def lower(self, inside: np.ndarray, outside: np.ndarray, *, delta: float, alpha: float, seed: int) -> float:
        """Epsilon of the largest distance at which so many right guesses are too unlikely."""
        prove = partial(distance_of_guesses, canaries=len(inside) + len(outside))
        return epsilon_of(most_of_guesses(inside, outside, prove, alpha=alpha, seed=seed), delta)

    def assumptions(self, inside: np.ndarray, outside: np.ndarray) -> tuple[str, ...]:
        """That the memberships were fair coins, and the mechanism Gaussian."""
        return (FAIR_COINS, FIXED_NUMBERS, GAUSSIAN_MECHANISM)
