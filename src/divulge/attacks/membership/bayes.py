"""BASE: the target's posterior against the average over models, as Bayes' rule has it."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from divulge.attacks.membership.base import TwoSidedAttack, View, scaled_confidence
from divulge.attacks.membership.rmia import TINY, log_posterior, mean_posteriors
from divulge.errors import BadInputError


@dataclass(frozen=True)
class Base(TwoSidedAttack):
    """Log-posterior of the target minus the log of the average shadow model's.

    Lassila et al. 2025 (arXiv 2505.24089); needs no population and ranks as RMIA does up to its offline correction.

    Args:
        mode: which of a candidate's own shadow signals to use.
        temperature: what logits are divided by.
        scale: offline, what the average's logarithm is multiplied by.
    """

    name: ClassVar[str] = "base"
    source: ClassVar[str] = "Lassila et al. 2025, arXiv 2505.24089"

    temperature: float = 2.0
    scale: float = 0.33

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise BadInputError(f"base: expected a positive temperature, got {self.temperature}.")

    def score(self, view: View, *, seed: int) -> np.ndarray:
        """The difference of logarithms; a candidate never outside compares with its average inside."""
        signals = view.candidates
        assert signals.target is not None
        assert signals.shadows is not None
        own = log_posterior(scaled_confidence(signals.target / self.temperature, signals.labels))
        shadows = [scaled_confidence(one / self.temperature, signals.labels) for one in signals.shadows]
        inside, outside, _, count_out = mean_posteriors(np.stack(shadows, axis=1), signals.membership)
        outside = np.where(count_out > 0, outside, inside)
        if self.online(signals):
            return own - np.log((inside + outside) / 2 + TINY)
        return own - self.scale * np.log(outside + TINY)
