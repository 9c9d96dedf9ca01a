"""The convolutional classifier of the membership studies."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from divulge.errors import BadInputError
from divulge.models.base import Architecture
from divulge.models.layers import Flatten, Normalize


@dataclass(frozen=True)
class CNN(Architecture):
    """Convolution blocks with batch norm and max-pool, one hidden layer, ReLU throughout.

    Args:
        channels: width of each block; a block is a padded convolution, batch norm, 2x2 max-pool and ReLU.
        hidden: width of the fully connected layer.
        kernel: size of the convolutions.
        mean: what `Normalize` subtracts, one number for all channels.
        std: what `Normalize` divides by.
    """

    name: ClassVar[str] = "cnn"

    channels: tuple[int, ...] = (128, 256)
    hidden: int = 256
    kernel: int = 3
    mean: float = 0.5
    std: float = 0.5

    def assemble(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The network itself; see `Architecture`."""
        if len(shape) != 3 or min(shape[1:]) < 2 ** len(self.channels):
            raise BadInputError(
                f"cnn: expected images (C, H, W) of at least {2 ** len(self.channels)} pixels a side for "
                f"{len(self.channels)} blocks, got records of shape {shape}. Use fewer channels, or the mlp."
            )
        depth, height, width = shape
        layers: list[nn.Module] = [Normalize([self.mean] * depth, [self.std] * depth)]
        for channels in self.channels:
            # Pooling first leaves ReLU a quarter of the work; the two commute.
            layers += [
                nn.Conv2d(depth, channels, self.kernel, padding="same"),
                nn.BatchNorm2d(channels),
                nn.MaxPool2d(2),
                nn.ReLU(),
            ]
            depth, height, width = channels, height // 2, width // 2
        layers += [
            Flatten(),
            nn.Linear(depth * height * width, self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, classes),
        ]
        return nn.Sequential(*layers)
