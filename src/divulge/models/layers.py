"""Layers that model families share."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """Per-channel standardization as the first layer of a model, so that attacks and pictures stay in pixel space.

    Args:
        mean: one number a channel, in pixel units `[0, 1]`.
        std: the same.

    Example:
        >>> Normalize([0.5], [0.5])(torch.ones(1, 1, 2, 2)).flatten().tolist()
        [1.0, 1.0, 1.0, 1.0]
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Standardize `(N, C, H, W)`."""
        return (x - self.mean) / self.std


class Flatten(nn.Module):
    """Flatten `(N, C, H, W)` to `(N, H * W * C)`: in channels-last memory no copy, neither forward nor backward.

    Example:
        >>> Flatten()(torch.arange(8.0).view(1, 2, 2, 2)).tolist()
        [[0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]]
    """

    def forward(self, x: Tensor) -> Tensor:
        """Flatten a batch of images."""
        return x.permute(0, 2, 3, 1).flatten(1)
