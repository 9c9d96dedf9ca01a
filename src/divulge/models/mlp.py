"""Fully connected networks, softmax regression among them."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from divulge.models.base import Architecture
from divulge.models.layers import Standardize

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


@dataclass(frozen=True)
class MLP(Architecture):
    """Fully connected layers on the flattened record.

    Args:
        hidden: width of each hidden layer.
        activation: between layers.
        standardize: whether the first layer standardizes each column, as tables on scales of their own need.
    """

    name: ClassVar[str] = "mlp"

    hidden: tuple[int, ...] = (256,)
    activation: Literal["relu", "tanh", "sigmoid"] = "relu"
    standardize: bool = False

    def assemble(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The network itself; see `Architecture`."""
        layers = _entrance(shape, self.standardize)
        width = math.prod(shape)
        for hidden in self.hidden:
            layers += [nn.Linear(width, hidden), ACTIVATIONS[self.activation]()]
            width = hidden
        return nn.Sequential(*layers, nn.Linear(width, classes))


@dataclass(frozen=True)
class Softmax(Architecture):
    """Softmax regression: one linear layer on the flattened record.

    Args:
        standardize: whether the first layer standardizes each column, as tables on scales of their own need.
    """

    name: ClassVar[str] = "softmax"

    standardize: bool = False

    def assemble(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The network itself; see `Architecture`."""
        return nn.Sequential(*_entrance(shape, self.standardize), nn.Linear(math.prod(shape), classes))


def _entrance(shape: tuple[int, ...], standardize: bool) -> list[nn.Module]:
    return [Standardize(shape), nn.Flatten()] if standardize else [nn.Flatten()]
