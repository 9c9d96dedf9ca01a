"""What every epsilon lower bound is: settings, and one verb over the scores of canaries inside and outside."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from divulge.errors import BadInputError

INDEPENDENT = (
    "It assumes that the scores are independent of each other and of one law on either side: each from a training of "
    "its own, or of canaries that do not affect each other."
)
GAUSSIAN_MECHANISM = (
    "It assumes a Gaussian mechanism and bounds within that family only; no epsilon of it is finite at delta 0."
)


@dataclass(frozen=True)
class LowerBound:
    """What the scores prove: the mechanism is not (`epsilon`', delta)-private for any smaller epsilon'.

    Args:
        name: the bound's.
        epsilon: at least 0, where 0 says that nothing was shown; infinite where no finite value is compatible.
        delta: at which epsilon is stated.
        confidence: the chance, over the randomness of training and of the canaries, that the statement is right.
        ceiling: the most that this bound can say from so many canaries: its value if every guess were right.
        assumptions: what must hold for the statement to be right, in words.
        canaries: how many scores it rests on.
    """

    name: str
    epsilon: float
    delta: float
    confidence: float
    ceiling: float
    assumptions: tuple[str, ...]
    canaries: int


@dataclass(frozen=True)
class Bound:
    """Base of every bound; a concrete one has a `name` and a file of its own, and writes `lower`."""

    name: ClassVar[str] = ""
    source: ClassVar[str] = ""

    def run(
        self, inside: np.ndarray, outside: np.ndarray, *, delta: float, confidence: float = 0.95, seed: int = 0
    ) -> LowerBound:
        """What the scores of canaries prove about epsilon.

        Args:
            inside: scores `(N,)` of canaries that were trained on; higher for likely members.
            outside: scores `(M,)` of canaries that were not.
            delta: in [0, 1).
            confidence: one-sided level of the bound.
            seed: what splits and the order of tied scores depend on.

        Raises:
            BadInputError: fewer than two scores on a side, a score that is not a number, or a delta or a level out of
                range; some bounds refuse more.
        """
        inside, outside = _scores(inside, "inside"), _scores(outside, "outside")
        if not 0 <= delta < 1:
            raise BadInputError(f"delta: expected at least 0 and below 1, such as 1e-5, got {delta}.")
        if not 0.5 < confidence < 1:
            raise BadInputError(f"confidence: expected a level between 0.5 and 1, such as 0.95, got {confidence}.")
        shown, most = (
            max(0.0, self.lower(*sides, delta=delta, alpha=1 - confidence, seed=seed))
            for sides in ((inside, outside), (np.ones(len(inside)), np.zeros(len(outside))))
        )
        if (np.concatenate([inside, outside]) == inside[0]).all():
            shown = 0.0  # whatever the order drawn for equal scores
        assumptions = self.assumptions(inside, outside)
        return LowerBound(self.name, shown, delta, confidence, most, assumptions, len(inside) + len(outside))

    @abstractmethod
    def lower(self, inside: np.ndarray, outside: np.ndarray, *, delta: float, alpha: float, seed: int) -> float:
        """The bound on float64 scores `(N,)` and `(M,)`, wrong with a chance of at most `alpha`; may be negative."""

    @abstractmethod
    def assumptions(self, inside: np.ndarray, outside: np.ndarray) -> tuple[str, ...]:
        """What must hold, one sentence each, for these scores."""


def _scores(values: np.ndarray, side: str) -> np.ndarray:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or len(scores) < 2:
        raise BadInputError(
            f"{side}: expected a vector of at least 2 scores, got shape {scores.shape}. "
            "A bound needs canaries on both sides; a hundred or more are worth having."
        )
    if np.isnan(scores).any():
        raise BadInputError(f"{side}: {int(np.isnan(scores).sum())} of {len(scores)} scores are NaN; leave them out.")
    return scores
