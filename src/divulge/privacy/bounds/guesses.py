"""Guesses of canaries' membership in one training run: the surest first, as many as fixed beforehand."""

from collections.abc import Callable

import numpy as np

from divulge.errors import BadInputError
from divulge.privacy.bounds.thresholds import untied

SHARES = (1.0, 1 / 4, 1 / 16)

FAIR_COINS = (
    "It assumes that a fair coin of its own decided whether each canary was trained on; a fixed half of them inside "
    "comes close to that and is not covered by the proof."
)
FIXED_NUMBERS = (
    "Guesses are the surest sixteenth, the surest quarter, or all of the canaries; the confidence allows for reporting "
    "the best of the three."
)


def most_of_guesses(
    inside: np.ndarray, outside: np.ndarray, lower: Callable[[int, int, float], float], *, alpha: float, seed: int
) -> float:
    """The most that one of a few fixed numbers of guesses proves, wrong with a chance of at most `alpha`.

    As many of the highest scores are guessed inside as of the lowest outside; the rest are abstentions. The order of
    equal scores is drawn. The numbers depend on nothing but the number of canaries, and share `alpha` between them.

    Args:
        inside: scores `(N,)`.
        outside: scores `(M,)`.
        lower: what so many right guesses, of so many, prove, with a chance of being wrong.
        alpha: chance of being wrong.
        seed: what the order of equal scores depends on.

    Raises:
        BadInputError: counts of the two sides that no fair coins give.
    """
    canaries = len(inside) + len(outside)
    if abs(len(inside) - len(outside)) > 6 * canaries**0.5:
        raise BadInputError(
            f"one-run bounds expect each canary's membership to come from a fair coin; {len(inside)} inside and "
            f"{len(outside)} outside do not. Draw fair coins, or use clopper-pearson."
        )
    member = np.zeros(canaries, dtype=bool)
    member[untied(inside, outside, seed=seed)[0]] = True
    sides = np.unique([max(1, int(share * canaries / 2)) for share in SHARES])
    return max(lower(int((~member[:k]).sum() + member[-k:].sum()), 2 * int(k), alpha / len(sides)) for k in sides)
