"""What an adversary believes of pictures before seeing any gradient."""

from collections.abc import Callable

import torch
from torch import Tensor

SMALLEST = 1e-8
"""Keeps the slope of a square root finite where neighbors are equal."""


def anisotropic(images: Tensor) -> Tensor:
    """Mean absolute difference of vertical neighbors plus that of horizontal ones; images `(B, C, H, W)`.

    The total variation of Geiping et al. 2020 (arXiv 2003.14053).

    Example:
        >>> anisotropic(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])).item()
        1.0
    """
    return images.diff(dim=-2).abs().mean() + images.diff(dim=-1).abs().mean()


def color(images: Tensor) -> Tensor:
    """Mean length of the local slope, over the channels and over the differences of every two channels.

    The isotropic total variation with color opponents of the same author's later attack (breaching, preset "modern").
    """
    channels = images.shape[1]
    first, second = torch.triu_indices(channels, channels, offset=1)
    planes = torch.cat([images, images[:, first] - images[:, second]], dim=1)
    down, across = planes.diff(dim=-2)[..., :-1], planes.diff(dim=-1)[..., :-1, :]
    return (down.square() + across.square() + SMALLEST).sqrt().mean()


VARIATIONS: dict[str, Callable[[Tensor], Tensor]] = {"anisotropic": anisotropic, "color": color}
