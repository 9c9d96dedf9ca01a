"""The residual network of the inverting-gradients line."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from divulge.errors import BadInputError
from divulge.models.base import Architecture
from divulge.models.lenet import entrance

BLOCKS = 3
"""In each of three groups: with two convolutions a block, the first convolution and the linear layer, 20 layers."""


@dataclass(frozen=True)
class ResNet20(Architecture):
    """Twenty layers for small images: three groups of three residual blocks with batch norm and ReLU.

    He et al. 2016 (arXiv 1512.03385), section 4.2, with width 1; Geiping et al. 2020 (arXiv 2003.14053) attack width 4,
    called ResNet20-4, whose shortcuts are projections where the shape changes. Convolutions are drawn as theirs, normal
    with a variance of 2 over the fan-out.

    Args:
        width: times the channels 16, 32 and 64 of the groups.
        mean: what a first layer subtracts, for each channel; none, no such layer.
        std: what it divides by.
    """

    name: ClassVar[str] = "resnet20"

    width: int = 4
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.width < 1:
            raise BadInputError(f"resnet20: expected a width of 1 or more, got {self.width}.")

    def assemble(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The network itself; see `Architecture`."""
        layers = entrance(self.name, shape, self.mean, self.std)
        channels = 16 * self.width
        layers += [nn.Conv2d(shape[0], channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
        for group in range(3):
            out = 16 * 2**group * self.width
            for block in range(BLOCKS):
                layers.append(Block(channels, out, stride=2 if group and not block else 1))
                channels = out
        network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        return network


class Block(nn.Module):
    """Two normalized 3 x 3 convolutions beside a shortcut, which is a normalized 1 x 1 convolution to another shape.

    Args:
        channels: that come in.
        out: channels that leave.
        stride: of the first convolution and of the shortcut.
    """

    def __init__(self, channels: int, out: int, *, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut = (
            nn.Identity()
            if channels == out and stride == 1
            else nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, channels, H, W)` to `(N, out, H / stride, W / stride)`."""
        total: Tensor = self.shortcut(x) + self.residual(x)
        return total.relu()
