"""The fully connected networks of PRECODE and of the attack that restores its noise."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from divulge.models.lenet import entrance
from divulge.models.mlp import MLP


@dataclass(frozen=True)
class ImageMLP(MLP):
    """Fully connected layers on a flattened image: SMLP with two hidden layers of 1,024, DMLP with four.

    Scheliga, Maeder and Seeland 2022 (arXiv 2108.04725).

    Args:
        mean: what a first layer subtracts, for each channel; none, no such layer.
        std: what it divides by.
    """

    name: ClassVar[str] = "image-mlp"

    hidden: tuple[int, ...] = (1024, 1024)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def assemble(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The network itself; see `Architecture`."""
        layers = entrance(self.name, shape, self.mean, self.std)
        return nn.Sequential(*layers, *super().assemble(shape, classes).children())
