"""The small convolutional network that overlearning is measured on."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from divulge.errors import BadInputError
from divulge.models.base import Architecture
from divulge.models.layers import Normalize


@dataclass(frozen=True)
class PooledLeNet(Architecture):
    """Padded 3 x 3 convolutions, each with ReLU and 2 x 2 max-pool, then fully connected layers with ReLU.

    Song and Shmatikov 2020 (arXiv 1905.11742): channels 16, 32 and 64, widths 128 and 64.

    Args:
        channels: of each convolution.
        hidden: width of each fully connected layer.
        mean: what a first layer subtracts from every channel.
        std: what it divides by.
    """

    name: ClassVar[str] = "pooled-lenet"

    channels: tuple[int, ...] = (16, 32, 64)
    hidden: tuple[int, ...] = (128, 64)
    mean: float = 0.5
    std: float = 0.25

    def assemble(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The network itself; see `Architecture`."""
        if len(shape) != 3 or min(shape[1:]) < 2 ** len(self.channels):
            raise BadInputError(
                f"pooled-lenet: expected images (C, H, W) of at least {2 ** len(self.channels)} pixels a side, got "
                f"records of shape {shape}. Use fewer channels, or the mlp."
            )
        depth, height, width = shape
        layers: list[nn.Module] = [Normalize([self.mean] * depth, [self.std] * depth)]
        for channels in self.channels:
            layers += [nn.Conv2d(depth, channels, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
            depth, height, width = channels, height // 2, width // 2
        layers.append(nn.Flatten())
        size = depth * height * width
        for hidden in self.hidden:
            layers += [nn.Linear(size, hidden), nn.ReLU()]
            size = hidden
        return nn.Sequential(*layers, nn.Linear(size, classes))
