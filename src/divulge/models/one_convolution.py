"""One convolution before a softmax: the convolutional classifiers of a study of inversion."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from divulge.errors import BadInputError
from divulge.models.base import Architecture


@dataclass(frozen=True)
class OneConvolution(Architecture):
    """One padded convolution of few channels, ReLU, and a linear layer on every pixel of every channel.

    The study of inversion and differential privacy whose figure 3 inverts one and three channels tells no more about
    its networks; kernel and activation are ours.

    Args:
        channels: of the convolution.
        kernel: its side, odd.
    """

    name: ClassVar[str] = "one-convolution"

    channels: int = 1
    kernel: int = 5

    def __post_init__(self) -> None:
        if self.channels < 1 or self.kernel < 1 or self.kernel % 2 == 0:
            raise BadInputError(
                f"one-convolution: expected one channel or more and an odd kernel, got {self.channels} and "
                f"{self.kernel}."
            )

    def assemble(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The network itself; see `Architecture`."""
        if len(shape) != 3:
            raise BadInputError(
                f"one-convolution: expected images (C, H, W), got records of shape {shape}. Use the mlp."
            )
        return nn.Sequential(
            nn.Conv2d(shape[0], self.channels, self.kernel, padding=self.kernel // 2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(self.channels * math.prod(shape[1:]), classes),
        )
