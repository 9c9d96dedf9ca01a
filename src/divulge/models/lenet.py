"""The LeNet that gradient inversion is measured on."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from divulge.errors import BadInputError
from divulge.models.base import Architecture
from divulge.models.layers import Normalize
from divulge.models.mlp import ACTIVATIONS

STRIDES = {3: (2, 2, 1), 4: (2, 2, 1, 1)}


@dataclass(frozen=True)
class LeNet(Architecture):
    """Three or four 5 x 5 convolutions of 12 channels, an activation after each, and one linear layer.

    Zhu, Liu and Han 2019 (arXiv 1906.08935) with three; Sun et al. 2021 (arXiv 2012.06043) attack four.

    Args:
        convolutions: 3 or 4.
        activation: after each; the papers take the sigmoid, which can be differentiated twice.
        spread: every weight and bias is drawn uniformly from `(-spread, spread)`, as in the papers; None for PyTorch's
            own initialization.
        mean: what a first layer subtracts, for each channel; none, no such layer.
        std: what it divides by.
    """

    name: ClassVar[str] = "lenet"

    convolutions: Literal[3, 4] = 3
    activation: Literal["sigmoid", "tanh", "relu"] = "sigmoid"
    spread: float | None = 0.5
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.spread is not None and self.spread <= 0:
            raise BadInputError(f"lenet: expected a positive spread, or none, got {self.spread}.")

    def assemble(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The network itself; see `Architecture`."""
        layers = entrance(self.name, shape, self.mean, self.std)
        depth, sides = shape[0], shape[1:]
        for stride in STRIDES[self.convolutions]:
            layers += [nn.Conv2d(depth, 12, 5, stride=stride, padding=2), ACTIVATIONS[self.activation]()]
            depth, sides = 12, tuple(-(-side // stride) for side in sides)
        network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(depth * math.prod(sides), classes))
        if self.spread is not None:
            for parameter in network.parameters():
                nn.init.uniform_(parameter, -self.spread, self.spread)
        return network


def entrance(name: str, shape: tuple[int, ...], mean: tuple[float, ...], std: tuple[float, ...]) -> list[nn.Module]:
    """The layer in front of the first convolution, if there is one.

    Raises:
        BadInputError: records that are no images, or not one mean and one standard deviation for each channel.
    """
    if len(shape) != 3:
        raise BadInputError(f"{name}: expected images (C, H, W), got records of shape {shape}. Use the mlp.")
    if not (len(mean) == len(std) and len(mean) in (0, shape[0])):
        raise BadInputError(
            f"{name}: expected a mean and a std for each of {shape[0]} channels, or none, got {len(mean)} and "
            f"{len(std)}."
        )
    return [Normalize(mean, std)] if mean else []
