"""RMIA: pairwise likelihood ratios against records known not to be members."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from divulge.attacks.membership.base import Signals, TwoSidedAttack, View
from divulge.errors import BadInputError

TINY = 1e-300
"""Added where a logarithm of an average posterior is taken: an average that underflowed is still a number."""


def log_posterior(confidence: np.ndarray) -> np.ndarray:
    """Log-posterior of the label from its logit-scaled confidence."""
    return -np.logaddexp(0, -confidence)


def mean_posteriors(
    confidence: np.ndarray, membership: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean posterior of the label inside and outside, and how many shadow models stand behind each, `(N,)` each."""
    from scipy.special import expit

    posterior = expit(confidence)
    weight = np.ascontiguousarray(membership, dtype=np.float64)
    inside = np.einsum("ns,ns->n", posterior, weight)
    count_in = weight.sum(axis=1)
    np.subtract(1, weight, out=weight)
    outside = np.einsum("ns,ns->n", posterior, weight)
    count_out = weight.sum(axis=1)
    return inside / np.maximum(count_in, 1), outside / np.maximum(count_out, 1), count_in, count_out


@dataclass(frozen=True)
class Rmia(TwoSidedAttack):
    """How many known non-members the candidate beats in posterior relative to the average model's.

    Zarifzadeh, Liu and Shokri 2024 (arXiv 2312.03262). The share is exact: ratios of the population are sorted, not
    looped over. As it has few values, ties are broken by the candidate's own ratio, with which it never disagrees.

    Args:
        mode: which of a candidate's own shadow signals to use.
        a: offline, the average posterior is `((1 + a) out + (1 - a)) / 2`, as if `in = a out + (1 - a)`. A record only
            ever inside has `out = (in + a - 1) / a` filled in.
        gamma: by what factor a ratio must beat another to count.
    """

    name: ClassVar[str] = "rmia"
    source: ClassVar[str] = "Zarifzadeh, Liu and Shokri 2024, arXiv 2312.03262"
    needs: ClassVar[frozenset[str]] = frozenset({"shadows", "population", "population-shadows"})

    a: float = 0.3
    gamma: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.a <= 1 or not self.gamma > 0:
            raise BadInputError(f"rmia: expected 0 < a <= 1 and gamma > 0, got a={self.a} and gamma={self.gamma}.")

    def score(self, view: View, *, seed: int) -> np.ndarray:
        """Share of the population that is beaten, plus less than one over its size to order ties."""
        assert view.population is not None
        online = self.online(view.candidates)
        own = self.log_ratios(view.candidates, online=online)
        others = np.sort(self.log_ratios(view.population, online=online))
        beaten = np.searchsorted(others, own - np.log(self.gamma), side="right")
        order = 0.5 + 0.5 * own / (1 + np.abs(own))
        return (beaten + order) / (len(others) + 1)

    def log_ratios(self, signals: Signals, *, online: bool) -> np.ndarray:
        """Log of the target's posterior over the average model's, `(N,)`."""
        inside, outside, count_in, count_out = mean_posteriors(signals.shadow_confidence, signals.membership)
        filled = np.where(count_out > 0, outside, np.maximum((inside + self.a - 1) / self.a, 0))
        average = ((1 + self.a) * filled + (1 - self.a)) / 2
        if online:
            average = np.where((count_in > 0) & (count_out > 0), (inside + outside) / 2, average)
        return log_posterior(signals.confidence) - np.log(average + TINY)
