"""The convolutional network of the inverting-gradients line."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from divulge.errors import BadInputError
from divulge.models.base import Architecture
from divulge.models.lenet import entrance

WIDTHS = ((64, 128, 128, 256, 256, 256), (256, 256))


@dataclass(frozen=True)
class ConvNet64(Architecture):
    """Eight 3 x 3 convolutions with batch norm and ReLU, two 3 x 3 max-pools, and one linear layer.

    Geiping et al. 2020 (arXiv 2003.14053), as their code builds it: one layer fewer than it lists.

    Args:
        mean: what a first layer subtracts, for each channel; none, no such layer.
        std: what it divides by.
    """

    name: ClassVar[str] = "convnet64"

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def assemble(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The network itself; see `Architecture`."""
        layers = entrance(self.name, shape, self.mean, self.std)
        depth, height, width = shape
        if min(height, width) < 9:
            raise BadInputError(
                f"convnet64: expected images of at least 9 pixels a side, which its pools turn into one, got {shape}. "
                "Use the cnn."
            )
        for widths in WIDTHS:
            for channels in widths:
                layers += [nn.Conv2d(depth, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
                depth = channels
            layers.append(nn.MaxPool2d(3))
            height, width = height // 3, width // 3
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(depth * height * width, classes))
