"""The secret randomness of private training, and the noise."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Secret:
    """Generators of noise and sampling, which the promise of differential privacy takes to be unknown.

    They are NumPy's, with 128 bits of entropy: PyTorch's generator on the CPU keeps 32 bits of its seed, few enough to
    try them all and subtract the noise. They are no cryptographer's, though, and the noise is in float32 (Mironov 2012,
    doi 10.1145/2382196.2382264): the promise is that of exact Gaussians, against who cannot tell these from them.

    Args:
        seed: for tests, a known one: each step then draws the same whatever was drawn before. None for the operating
            system's randomness, of which nothing is kept: a resumed run draws anew.
    """

    def __init__(self, seed: int | None) -> None:
        self.seed = seed
        self._system = np.random.default_rng()

    def at(self, step: int) -> np.random.Generator:
        """What draws the batch and the noise of one step."""
        if self.seed is None:
            return self._system
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(step,)))


def add_noise(sums: Sequence[Tensor], scale: float, generator: np.random.Generator) -> None:
    """Add independent Gaussian noise of standard deviation `scale` to every entry of `sums`, in place."""
    for total in sums:
        noise = generator.standard_normal(total.shape, dtype=np.float32)
        total.add_(torch.as_tensor(noise, device=total.device), alpha=scale)
