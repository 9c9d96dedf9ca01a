"""LiRA: is the target's confidence typical of models trained on the candidate, or of models not trained on it?"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from divulge.attacks.membership.base import MembershipScores, TwoSidedAttack, View
from divulge.attacks.membership.moments import Moments, pooled_variance

ENOUGH = 32
"""Signals per side from which a variance per example beats one for all."""


@dataclass(frozen=True)
class Lira(TwoSidedAttack):
    """Likelihood ratio of two normal fits to shadow models' confidence, one inside and one outside training.

    Carlini et al. 2022 (arXiv 2112.03570). Offline, the standardized distance above the outside fit, which ranks as the
    paper's one-sided tail probability does and does not saturate.

    Args:
        mode: which of a candidate's own shadow signals to use.
        variance: `example` for one variance per candidate, `global` for one per side, pooled within candidates; `auto`
            takes `example` from 32 signals per side. A side of a candidate with fewer than two signals always takes the
            global one.
    """

    name: ClassVar[str] = "lira"
    source: ClassVar[str] = "Carlini et al. 2022, arXiv 2112.03570"

    variance: Literal["auto", "example", "global"] = "auto"

    def score(self, view: View, *, seed: int) -> np.ndarray | MembershipScores:
        """Log-likelihood ratio (online, decisions at 0) or standardized distance (offline)."""
        signals = view.candidates
        mean, variance = self.normal(signals.outside)
        distance = (signals.confidence - mean) ** 2 / variance
        if not self.online(signals):
            return np.sign(signals.confidence - mean) * np.sqrt(distance)
        mean_in, variance_in = self.normal(signals.inside)
        distance_in = (signals.confidence - mean_in) ** 2 / variance_in
        scores = (distance - distance_in + np.log(variance / variance_in)) / 2
        return MembershipScores(scores, self.name, scores > 0)

    def normal(self, moments: Moments) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each candidate on one side, `(N,)` each."""
        pooled = max(pooled_variance(moments), 1e-12)
        mean = np.where(moments.count > 0, moments.mean, moments.overall)
        if self.variance == "global" or (self.variance == "auto" and np.median(moments.count) < ENOUGH):
            return mean, np.full_like(mean, pooled)
        own = moments.squares / np.maximum(moments.count - 1, 1)
        return mean, np.where(moments.count >= 2, np.maximum(own, 1e-12), pooled)
