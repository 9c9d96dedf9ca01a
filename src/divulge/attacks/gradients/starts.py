"""Where a search starts."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

TILE = 4
"""Pixels a side of the pattern that `patterned` repeats."""


def uniform(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Every entry uniform in [-1, 1]."""
    return torch.rand(shape, generator=generator) * 2 - 1


def normal(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Every entry standard normal."""
    return torch.randn(shape, generator=generator)


def patterned(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """A standard normal pattern of 4x4 pixels, tiled over each image `(..., C, H, W)`.

    Geiping's "patterned-4" start (breaching): images vary slowly, and so does a tiled start more than noise.
    """
    height, width = shape[-2:]
    pattern = torch.randn((*shape[:-2], TILE, TILE), generator=generator)
    repeats = (1,) * (len(shape) - 2) + (-(-height // TILE), -(-width // TILE))
    return pattern.repeat(repeats)[..., :height, :width].contiguous()


STARTS: dict[str, Callable[[tuple[int, ...], Generator], Tensor]] = {
    "uniform": uniform,
    "normal": normal,
    "patterned": patterned,
}
