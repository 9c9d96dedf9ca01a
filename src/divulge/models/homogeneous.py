"""Homogeneous fully connected networks, whose weights are known to tend to a sum over the records on the margin."""

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from divulge.errors import BadInputError
from divulge.models.base import Architecture
from divulge.models.layers import Center, OneLogit


@dataclass(frozen=True)
class HomogeneousMLP(Architecture):
    """ReLU layers with a bias in the first one alone, so that scaling every weight scales the answer.

    Haim et al. 2022 (arXiv 2206.07758). The mean training record is taken away first. Two classes are told apart by one
    logit.

    Args:
        hidden: width of each hidden layer.
        first_std: standard deviation of the first layer's initial weights and biases; None for PyTorch's own.
    """

    name: ClassVar[str] = "homogeneous-mlp"

    hidden: tuple[int, ...] = (1000, 1000)
    first_std: float | None = 1e-4

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1 or (self.first_std is not None and self.first_std <= 0):
            raise BadInputError(
                f"homogeneous-mlp: expected one hidden layer or more of width 1 or more and a positive first_std, got "
                f"{self.hidden} and {self.first_std}."
            )

    def assemble(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The network itself; see `Architecture`."""
        widths = (math.prod(shape), *self.hidden, 1 if classes == 2 else classes)
        linear = [
            nn.Linear(fan_in, width, bias=place == 0)
            for place, (fan_in, width) in enumerate(itertools.pairwise(widths))
        ]
        if self.first_std is not None:
            nn.init.normal_(linear[0].weight, std=self.first_std)
            nn.init.normal_(linear[0].bias, std=self.first_std)
        layers: list[nn.Module] = [Center(shape), nn.Flatten()]
        for layer in linear[:-1]:
            layers += [layer, nn.ReLU()]
        return nn.Sequential(*layers, linear[-1], *([OneLogit()] if classes == 2 else []))
