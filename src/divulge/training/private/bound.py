"""The clipping bound: fixed, or moved towards the median gradient norm at a cost that the noise pays."""

import math

import numpy as np
from torch import Tensor

from divulge.errors import BadInputError
from divulge.training.private.clipping import Rule, automatic, flat
from divulge.training.private.settings import Privacy

QUANTILE = 0.5
PACE = 0.2
COUNT_NOISE = 0.05
"""Standard deviation of the noise on the count of unclipped records, as a share of the expected batch."""


class Bound:
    """The clipping bound of each step.

    Adaptive clipping (Andrew et al. 2021, arXiv 1905.03871) releases a second sum each step: how many gradients were
    within the bound, each counted as plus or minus one half. The two sums together cost what one of `noise_multiplier`
    does, since that of the gradients gets a little more noise: `(z**-2 - (2 * count_noise)**-2) ** -0.5`.

    Args:
        privacy: which bound, and whether it moves.
        noise_multiplier: that of both sums together, which the ledger counts.
        batch: expected batch size.

    Raises:
        BadInputError: a batch too small for the count's noise.
    """

    def __init__(self, privacy: Privacy, noise_multiplier: float, batch: int) -> None:
        self.clip, self.adaptive, self.batch = privacy.clip, privacy.clipping == "adaptive", batch
        self._rule = automatic if privacy.clipping == "automatic" else flat
        self.count_noise = COUNT_NOISE * batch
        self.noise_multiplier = noise_multiplier
        if self.adaptive:
            if 2 * self.count_noise <= noise_multiplier:
                raise BadInputError(
                    f"dp-sgd: adaptive clipping under noise multiplier {noise_multiplier:.3g} needs an expected batch "
                    f"above {noise_multiplier / (2 * COUNT_NOISE):.0f}, got {batch}. Raise batch_size, or use "
                    "clipping 'automatic'."
                )
            self.noise_multiplier = (noise_multiplier**-2 - (2 * self.count_noise) ** -2) ** -0.5

    @property
    def rule(self) -> Rule:
        """From the norms of gradients to their coefficients."""
        return self._rule(self.clip)

    @property
    def noise(self) -> float:
        """Standard deviation of the noise on the clipped sum."""
        return self.noise_multiplier * self.clip

    def within(self, norms: Tensor) -> float:
        """The count of gradients within the bound, each as plus or minus one half."""
        return float((norms <= self.clip).float().sub_(0.5).sum()) if self.adaptive else 0.0

    def move(self, count: float, generator: np.random.Generator) -> None:
        """Move the bound by a noisy `count`, the batch's sum of `within`."""
        if self.adaptive:
            share = 0.5 + (count + generator.normal(scale=self.count_noise)) / self.batch
            self.clip *= math.exp(-PACE * (share - QUANTILE))
