"""Images that show nothing and nobody: what features can be tuned on without touching a record."""

import torch
from torch import Tensor

SMALLEST = 2.0
"""Radius of the smallest disc, in pixels."""


def dead_leaves(count: int, shape: tuple[int, ...], *, seed: int = 0, discs: int = 60) -> Tensor:
    """Random discs that hide one another, whose edges and scales are those of photographs; float32 `(count, *shape)`.

    Radii follow a density of r**-3, shades are uniform, each color by itself. Lee, Mumford and Huang 2001 (doi
    10.1023/A:1011109015675); as training images, Baradad et al. 2021 (arXiv:2106.05963).

    Args:
        count: how many images.
        shape: of one, `(C, H, W)`.
        seed: of everything drawn.
        discs: how many are laid on each image.

    Example:
        >>> images = dead_leaves(2, (1, 8, 8))
        >>> images.shape, bool(images.min() >= 0 and images.max() <= 1)
        (torch.Size([2, 1, 8, 8]), True)
    """
    depth, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    images = torch.full((count, depth, height, width), 0.5)
    rows, columns = torch.arange(height).view(-1, 1), torch.arange(width).view(1, -1)
    largest = max(height, width) / 1.5
    for _ in range(discs):
        place = torch.rand(3, count, 1, 1, generator=generator)
        radius = (SMALLEST**-2 + place[0] * (largest**-2 - SMALLEST**-2)).rsqrt()
        inside = (rows - place[1] * height) ** 2 + (columns - place[2] * width) ** 2 < radius**2
        shade = torch.rand(count, depth, 1, 1, generator=generator)
        images = torch.where(inside[:, None], shade, images)
    return images
