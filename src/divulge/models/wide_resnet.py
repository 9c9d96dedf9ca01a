"""The wide residual network of private training at scale."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from divulge.errors import BadInputError
from divulge.models.base import Architecture
from divulge.models.layers import Normalize
from divulge.models.standardized import ScaledConv2d


@dataclass(frozen=True)
class WideResNet(Architecture):
    """A wide residual network whose layers never mix examples: group norm and scaled weight standardization.

    De et al. 2022 (arXiv:2204.13650), who train WRN-16-4 and WRN-40-4 on CIFAR-10; blocks in their order: ReLU, norm,
    convolution.

    Args:
        depth: number of layers, 6 n + 4 for n blocks in each of the three groups.
        width: times the channels 16, 32 and 64 of the groups.
        groups: of each group norm.
        mean: what `Normalize` subtracts, one number for all channels.
        std: what `Normalize` divides by.
    """

    name: ClassVar[str] = "wide-resnet"

    depth: int = 16
    width: int = 4
    groups: int = 16
    mean: float = 0.5
    std: float = 0.25

    def assemble(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The network itself; see `Architecture`."""
        if len(shape) != 3:
            raise BadInputError(f"wide-resnet: expected images (C, H, W), got records of shape {shape}. Use the mlp.")
        if self.depth < 10 or self.depth % 6 != 4 or self.width < 1 or 16 % self.groups:
            raise BadInputError(
                "wide-resnet: expected a depth of 10, 16, 22, ..., a width of at least 1 and groups that divide 16, "
                f"got depth {self.depth}, width {self.width} and {self.groups} groups."
            )
        layers: list[nn.Module] = [
            Normalize([self.mean] * shape[0], [self.std] * shape[0]),
            ScaledConv2d(shape[0], 16, 3, padding=1),
        ]
        channels = 16
        for group in range(3):
            for block in range((self.depth - 4) // 6):
                stride = 2 if group and not block else 1
                out = 16 * 2**group * self.width
                layers.append(Residual(channels, out, stride=stride, groups=self.groups, project=not block))
                channels = out
        last = nn.Linear(channels, classes)
        nn.init.trunc_normal_(last.weight, std=channels**-0.5)
        nn.init.zeros_(last.bias)
        layers += [nn.ReLU(), nn.GroupNorm(self.groups, channels), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last]
        return nn.Sequential(*layers)


class Residual(nn.Module):
    """Two normalized convolutions beside a shortcut, which is a normalized 1 x 1 convolution at the start of a group.

    Args:
        channels: that come in.
        out: channels that leave.
        stride: of the first convolution and of the shortcut.
        groups: of each group norm.
        project: whether the shortcut has a convolution.
    """

    def __init__(self, channels: int, out: int, *, stride: int, groups: int, project: bool) -> None:
        super().__init__()
        self.shortcut = (
            nn.Sequential(nn.ReLU(), nn.GroupNorm(groups, channels), ScaledConv2d(channels, out, 1, stride))
            if project
            else nn.Identity()
        )
        self.residual = nn.Sequential(
            nn.ReLU(),
            nn.GroupNorm(groups, channels),
            ScaledConv2d(channels, out, 3, stride, padding=1),
            nn.ReLU(),
            nn.GroupNorm(groups, out),
            ScaledConv2d(out, out, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, channels, H, W)` to `(N, out, H / stride, W / stride)`."""
        out: Tensor = self.shortcut(x) + self.residual(x)
        return out
