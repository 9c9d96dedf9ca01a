"""Whether training under a defense converges as fast as without: the same rate, and at what constant."""

from dataclasses import dataclass

import numpy as np

from divulge.errors import BadInputError

LEVELS = 20
"""Rounds without the defense, evenly spaced in their logarithms, at whose accuracies two curves are compared."""
TAIL = 0.1
"""Share of the rounds, the last ones, whose mean is the final accuracy."""


@dataclass(frozen=True)
class Comparison:
    """A curve of accuracy under a defense beside that without.

    Args:
        final: accuracy under the defense over the last tenth of the rounds.
        lost: how much higher it is without.
        slowdown: how many times as many rounds the defense takes to an accuracy that both reach, a geometric mean over
            such accuracies; NaN where there are fewer than two of them.
        exponent: `t' ~ t ** exponent` is how the rounds under the defense grow with those without: 1 is the same rate
            with another constant, more is a slower rate; NaN likewise.
        levels: how many accuracies that rests on.
    """

    final: float
    lost: float
    slowdown: float
    exponent: float
    levels: int


def rounds_to(accuracy: np.ndarray, level: float) -> int | None:
    """The first round, from 1, after which a curve `(rounds,)` is at `level` or above; None if none is.

    Example:
        >>> rounds_to(np.array([0.2, 0.6, 0.5, 0.7]), 0.6), rounds_to(np.array([0.2]), 0.9)
        (2, None)
    """
    reached = np.flatnonzero(accuracy >= level)
    return int(reached[0]) + 1 if len(reached) else None


def compare(defended: np.ndarray, plain: np.ndarray) -> Comparison:
    """Compare two curves of accuracy that differ in the defense alone, same clients and same seeds.

    That a defense keeps the rate of convergence (as Sun et al. 2021, arXiv 2012.06043, argue of Soteria in federated
    averaging) says that an error of `C / t` becomes `C' / t`: whatever the accuracy, it takes `C' / C` times the
    rounds. So `slowdown` estimates that ratio, and `exponent` is 1 where it is the same at every accuracy.

    Args:
        defended: accuracy after each round `(rounds,)`.
        plain: the same without the defense.

    Raises:
        BadInputError: curves of different lengths, or NaN in one.

    Example:
        >>> t = np.arange(1, 401)
        >>> found = compare(1 - 2 / t, 1 - 1 / t)
        >>> round(found.slowdown, 1), round(found.exponent, 2)
        (2.0, 1.0)
    """
    if defended.ndim != 1 or defended.shape != plain.shape or not len(plain):
        raise BadInputError(
            f"convergence: expected two curves (rounds,) of one length, got shapes {defended.shape} and {plain.shape}."
        )
    if np.isnan(defended).any() or np.isnan(plain).any():
        raise BadInputError("convergence: a curve holds NaN. Train with evaluation records.")
    tail = max(1, round(TAIL * len(plain)))
    final, without = float(defended[-tail:].mean()), float(plain[-tail:].mean())
    spaced = np.unique(np.geomspace(min(2, len(plain)), len(plain), LEVELS).round().astype(np.int64))
    levels = np.unique(np.maximum.accumulate(plain)[spaced - 1])
    pairs = [(rounds_to(plain, level), rounds_to(defended, level)) for level in levels if level <= defended.max()]
    rounds = np.log(np.array(pairs, dtype=np.float64).reshape(-1, 2))
    if len(rounds) < 2:
        return Comparison(final, without - final, float("nan"), float("nan"), len(rounds))
    slope = np.polyfit(rounds[:, 0], rounds[:, 1], 1)[0]
    slowdown = np.exp((rounds[:, 1] - rounds[:, 0]).mean())
    return Comparison(final, without - final, float(slowdown), float(slope), len(rounds))
