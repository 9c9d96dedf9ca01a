"""Epsilon from guesses in a single training run: nothing is assumed of the mechanism."""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from divulge.privacy.bounds.base import Bound
from divulge.privacy.bounds.guesses import FAIR_COINS, FIXED_NUMBERS, most_of_guesses
from divulge.privacy.bounds.search import last_ruled_out


def p_value(epsilon: float, *, right: int, guesses: int, canaries: int, delta: float) -> float:
    """The largest chance of at least so many right guesses under any (epsilon, delta)-private training.

    Steinke, Nasr and Jagielski 2023 (arXiv 2305.08846), theorem 5.2. Without delta each guess is right with a chance
    of at most `q = 1 / (1 + exp(-epsilon))` whatever the others were: a binomial tail. Delta adds at most
    `2 canaries delta` times the steepest mean descent of that tail below `right`. (Against the worst mechanism that
    linear programming finds, that is several times too much where the tail is small, so that it decides, and too little
    only where the tail is near 1.)

    Args:
        epsilon: at least 0.
        right: right guesses.
        guesses: guesses made; the number was fixed before the memberships were seen.
        canaries: all canaries, guessed or not.
        delta: in [0, 1).

    Example:
        >>> p_value(0.0, right=5, guesses=5, canaries=5, delta=0.0)
        0.03125
    """
    from scipy.special import betainc, gammaln

    if right == 0:
        return 1.0
    log_right, log_wrong = -math.log1p(math.exp(-epsilon)), -epsilon - math.log1p(math.exp(-epsilon))
    tail = float(betainc(right, guesses - right + 1, math.exp(log_right)))
    fewer = np.arange(right - 1, -1, -1)
    log_choose = gammaln(guesses + 1) - gammaln(fewer + 1) - gammaln(guesses - fewer + 1)
    mass = np.exp(log_choose + fewer * log_right + (guesses - fewer) * log_wrong)
    steepest = float((mass.cumsum() / np.arange(1, right + 1)).max())
    return min(1.0, tail + 2 * canaries * delta * steepest)


def epsilon_of_guesses(right: int, guesses: int, alpha: float, *, canaries: int, delta: float) -> float:
    """The largest epsilon whose `p_value` of so many right guesses is at most `alpha`; 0 where that of 0 is above.

    Example:
        >>> round(epsilon_of_guesses(100, 100, 0.05, canaries=100, delta=1e-5), 2)
        3.49
    """

    def ruled_out(epsilon: float) -> bool:
        return p_value(epsilon, right=right, guesses=guesses, canaries=canaries, delta=delta) <= alpha

    return last_ruled_out(ruled_out)


@dataclass(frozen=True)
class OneRun(Bound):
    """What the number of right guesses proves when a fair coin decided on each of many canaries in one training.

    Steinke, Nasr and Jagielski 2023 (arXiv 2305.08846).
    """

    name: ClassVar[str] = "one-run"
    source: ClassVar[str] = "Steinke, Nasr and Jagielski 2023, arXiv 2305.08846"

    def lower(self, inside: np.ndarray, outside: np.ndarray, *, delta: float, alpha: float, seed: int) -> float:
        """The largest epsilon under which so many right guesses are too unlikely."""
        prove = partial(epsilon_of_guesses, canaries=len(inside) + len(outside), delta=delta)
        return most_of_guesses(inside, outside, prove, alpha=alpha, seed=seed)

    def assumptions(self, inside: np.ndarray, outside: np.ndarray) -> tuple[str, ...]:
        """That the memberships were fair coins."""
        return (FAIR_COINS, FIXED_NUMBERS)
