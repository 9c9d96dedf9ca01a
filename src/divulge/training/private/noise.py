"""The secret randomness of private training, and the noise."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

PAIRS = 1 << 15
"""Pairs of normals that are made at once: few enough to stay in a core's cache."""
RADIUS, ANGLE = 40, 24
"""Random bits of a pair's radius and of its angle, all those of a word."""


class Secret:
    """Generators of noise and sampling, which the promise of differential privacy takes to be unknown.

    Each step's is SFC64 from 128 bits of the operating system's entropy, too many to try. PyTorch's generator on the
    CPU keeps 32 bits of its seed, and its state follows from its numbers by linear algebra, so that known noise of one
    step would tell that of the next; that of PCG64, NumPy's default, takes some years of computing (Bouillaguet et al.
    2020, doi 10.13154/tosc.v2020.i3.175-196). None of them is a cryptographer's, SFC64 neither, and the noise is in
    float32 (Mironov 2012, doi 10.1145/2382196.2382264): the promise is that of exact Gaussians, against who cannot tell
    these from them.

    Args:
        seed: for tests, a known one: each step then draws the same whatever was drawn before. None for the operating
            system's randomness, of which nothing is kept: a resumed run draws anew.
    """

    def __init__(self, seed: int | None) -> None:
        self.seed = seed

    def at(self, step: int) -> np.random.Generator:
        """What draws the batch and the noise of one step."""
        entropy = None if self.seed is None else np.random.SeedSequence(self.seed, spawn_key=(step,))
        return np.random.Generator(np.random.SFC64(entropy))


def add_noise(sums: Sequence[Tensor], scale: float, generator: np.random.Generator) -> None:
    """Add independent Gaussian noise of standard deviation `scale` to every entry of `sums`, in place."""
    for total in sums:
        noise = torch.from_numpy(standard_normal(total.numel(), generator))
        total.add_(noise.view(total.shape).to(total.device), alpha=scale)


def standard_normal(count: int, generator: np.random.Generator) -> np.ndarray:
    """Independent standard normals, float32 `(count,)`, about three times as fast as NumPy makes them.

    Box and Muller 1958 (doi 10.1214/aoms/1177706645), up to 7.5 standard deviations: beyond lies a mass of 5e-14.

    Args:
        count: 0 or more.
        generator: of 64-bit words, as all of NumPy's but MT19937 are.
    """
    made = np.empty((2, -(-count // 2)), dtype=np.float32)
    for start in range(0, made.shape[1], PAIRS):
        cosine, sine = made[:, start : start + PAIRS]
        words = generator.bit_generator.random_raw(len(sine))
        # Signed integers become floats several times as fast as unsigned ones, and are the same below 2**63.
        angle = (words & np.uint64((1 << ANGLE) - 1)).view(np.int64).astype(np.float32)
        angle *= np.float32(2 * np.pi / (1 << ANGLE))
        words >>= np.uint64(ANGLE)
        radius = words.view(np.int64).astype(np.float32)
        radius += 0.5  # a logarithm of 0 would be infinite
        radius *= 2.0**-RADIUS
        np.log(radius, out=radius)
        radius *= -2
        np.sqrt(radius, out=radius)
        np.multiply(np.cos(angle, out=cosine), radius, out=cosine)
        np.multiply(np.sin(angle, out=sine), radius, out=sine)
    return made.reshape(-1)[:count]
