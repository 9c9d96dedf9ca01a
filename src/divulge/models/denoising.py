"""A stack of denoising autoencoders under a softmax."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from divulge.errors import BadInputError
from divulge.models.base import Architecture


class Autoencoder(nn.Module):
    """Sigmoid units, and sigmoid outputs that give back through the same weights what the units were given.

    The bias of the outputs is no parameter: only the autoencoder's own training changes it; see
    `divulge.training.pretrain`.

    Args:
        inputs: how many entries it is given.
        units: how many it codes them with.

    Example:
        >>> layer = Autoencoder(6, 3)
        >>> code = layer.encode(torch.rand(2, 6))
        >>> code.shape, layer.decode(code).shape
        (torch.Size([2, 3]), torch.Size([2, 6]))
    """

    visible: Tensor

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, units)
        self.register_buffer("visible", torch.zeros(inputs))

    def encode(self, given: Tensor) -> Tensor:
        """The code `(N, units)` of `(N, ...)`, flattened."""
        return self.linear(given.flatten(1)).sigmoid()

    def decode(self, code: Tensor) -> Tensor:
        """What the code stands for, `(N, inputs)` in `[0, 1]`."""
        return (code @ self.linear.weight + self.visible).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """The code."""
        return self.encode(x)


class DenoisingStack(nn.Module):
    """Autoencoders one on the other, to be the first layer of a network.

    Args:
        inputs: entries of a record.
        hidden: units of each autoencoder.
        corruption: share of entries that are set to zero in their training.
        epochs: passes of each one's training.
        lr: learning rate of Adam in it.
    """

    pretrained: Tensor

    def __init__(self, inputs: int, hidden: tuple[int, ...], *, corruption: float, epochs: int, lr: float) -> None:
        super().__init__()
        widths = (inputs, *hidden)
        self.layers = nn.ModuleList(Autoencoder(*pair) for pair in zip(widths, hidden, strict=False))
        self.corruption, self.epochs, self.lr = corruption, epochs, lr
        self.register_buffer("pretrained", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        """The code of the last autoencoder."""
        for layer in self.layers:
            x = layer(x)
        return x


@dataclass(frozen=True)
class StackedDenoising(Architecture):
    """A stacked denoising autoencoder with a softmax on its last code.

    Vincent et al. 2010 (jmlr.org/papers/v11/vincent10a); its 1,000 and 300 units are those that Fredrikson et al. 2015
    (doi 10.1145/2810103.2813677) invert. `divulge.training.fit` trains its autoencoders first, one after another, each
    to restore the code below it from what is left when entries are masked, then the whole by cross-entropy. Private
    training leaves the first out: it would tell of the records without noise.

    Args:
        hidden: units of each autoencoder.
        corruption: share of entries that are masked.
        pretraining: epochs of each autoencoder.
        lr: learning rate of Adam in them.
    """

    name: ClassVar[str] = "stacked-denoising"

    hidden: tuple[int, ...] = (1000, 300)
    corruption: float = 0.3
    pretraining: int = 30
    lr: float = 1e-3

    def __post_init__(self) -> None:
        sizes = self.hidden and min(self.hidden) >= 1 and self.pretraining >= 1
        if not (sizes and 0 <= self.corruption < 1 and 0 < self.lr < math.inf):
            raise BadInputError(
                "stacked-denoising: expected hidden layers of one unit or more, pretraining of one epoch or more, a "
                f"corruption from 0 to below 1 and a positive lr, got {self.hidden}, {self.pretraining}, "
                f"{self.corruption} and {self.lr}."
            )

    def assemble(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The network itself; see `Architecture`."""
        stack = DenoisingStack(
            math.prod(shape), self.hidden, corruption=self.corruption, epochs=self.pretraining, lr=self.lr
        )
        return nn.Sequential(stack, nn.Linear(self.hidden[-1], classes))
