"""The small tanh networks of private training from scratch."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from divulge.errors import BadInputError
from divulge.models.base import Architecture
from divulge.models.layers import Flatten, Normalize

# Each convolution: channels, kernel, stride, padding, and the stride of the 2 x 2 max-pool after it, 0 for none.
BODIES: dict[str, tuple[tuple[int, int, int, int, int], ...]] = {
    "papernot": ((16, 8, 2, 2, 1), (32, 4, 2, 0, 1)),
    "small": ((16, 5, 1, 0, 2), (32, 4, 1, 0, 2)),
    "big": (
        (32, 3, 1, 1, 0),
        (32, 3, 1, 1, 2),
        (64, 3, 1, 1, 0),
        (64, 3, 1, 1, 2),
        (128, 3, 1, 1, 0),
        (128, 3, 1, 1, 2),
    ),
}
HIDDEN = {"papernot": 32, "small": 32, "big": 128}


@dataclass(frozen=True)
class TanhCNN(Architecture):
    """Convolutions and one hidden layer with tanh, which keeps gradients small enough to be clipped little.

    Papernot et al. 2021 (arXiv:2007.14191) for `papernot` and `big`, as Tramer and Boneh 2021 (arXiv:2011.11660) train
    them; Doermann et al. 2021 for `small` and `big`.

    Args:
        body: which network: `papernot` and `small` for 28 x 28 grey images, `big` for 32 x 32 color ones.
        mean: what `Normalize` subtracts, one number for all channels.
        std: what `Normalize` divides by.
    """

    name: ClassVar[str] = "tanh-cnn"

    body: Literal["papernot", "small", "big"] = "big"
    mean: float = 0.5
    std: float = 0.5

    def assemble(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The network itself; see `Architecture`."""
        sides = [_after(side, self.body) for side in shape[1:]]
        if len(shape) != 3 or min(sides) < 1:
            raise BadInputError(
                f"tanh-cnn: expected images (C, H, W) that {self.body!r} can pool, got records of shape {shape}. Take "
                "another body, or the mlp."
            )
        depth = shape[0]
        layers: list[nn.Module] = [Normalize([self.mean] * depth, [self.std] * depth)]
        for channels, kernel, stride, padding, pool in BODIES[self.body]:
            layers.append(nn.Conv2d(depth, channels, kernel, stride=stride, padding=padding))
            if pool:  # before tanh, which commutes with it and then has less to do
                layers.append(nn.MaxPool2d(2, stride=pool))
            layers.append(nn.Tanh())
            depth = channels
        hidden = HIDDEN[self.body]
        layers += [Flatten(), nn.Linear(depth * sides[0] * sides[1], hidden), nn.Tanh(), nn.Linear(hidden, classes)]
        return nn.Sequential(*layers)


def _after(side: int, body: str) -> int:
    """What is left of a side of an image after the convolutions; below one, nothing is."""
    for _, kernel, stride, padding, pool in BODIES[body]:
        side = (side + 2 * padding - kernel) // stride + 1
        side = (side - 2) // pool + 1 if pool else side
    return side
