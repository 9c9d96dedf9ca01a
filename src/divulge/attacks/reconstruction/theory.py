"""What keeps a network from tending to a sum over its training records, in words."""

from dataclasses import dataclass

from torch import nn

from divulge.models.layers import Center, Flatten, Normalize, OneLogit, Standardize

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
PLAIN = (
    *(
        nn.ReLU,
        nn.LeakyReLU,
        nn.Identity,
        nn.Dropout,
        nn.Flatten,
        nn.Unflatten,
        nn.MaxPool1d,
        nn.MaxPool2d,
        nn.AvgPool1d,
    ),
    *(nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.ZeroPad2d),
    *(Center, Flatten, Normalize, OneLogit, Standardize),
)
"""Layers without weights that pass a scale on, at least in evaluation mode, or stand before all weights."""


@dataclass(frozen=True)
class Departures:
    """How far a network is from one whose answer is scaled by scaling its weights.

    Args:
        biases: layers after the first one that have a bias, by name.
        parts: kinds of layers through which a scale does not pass, such as batch norm.
    """

    biases: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    def told(self) -> tuple[str, ...]:
        """What the theory loses, a sentence each; nothing where it loses nothing."""
        lines = []
        if self.biases:
            lines.append(
                f"Biases after the first layer ({_listed(self.biases)}) do not scale with the rest of the network, so "
                "its weights tend to a sum over the records on the margin only nearly."
            )
        if self.parts:
            lines.append(
                f"{_listed(self.parts)} does not pass a scale on, so training without weight decay need not lead the "
                "weights to any sum over the records."
            )
        return tuple(lines)


def departures(model: nn.Module) -> Departures:
    """Go through a network's layers in the order in which they were registered.

    Lyu and Li 2020 (arXiv 1906.05890) prove where gradient descent goes for a network whose answer is multiplied by a
    power of what its weights are multiplied by. A bias in the first layer is part of such a network, a later one is
    not; nor is a normalization, or an activation other than ReLU. With weight decay any smooth network ends at a
    weighted sum of the records' gradients (Buzaglo et al. 2023, arXiv 2307.01827); under batch norm it is no record's
    own gradient.

    Example:
        >>> departures(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
        Departures(biases=('2',), parts=())
    """
    biases, parts, first = [], [], True
    for name, layer in model.named_modules():
        if isinstance(layer, WEIGHTED):
            if layer.bias is not None and not first:
                biases.append(name)
            first = False
        elif not isinstance(layer, (*PLAIN, nn.Sequential)) and next(layer.children(), None) is None:
            parts.append(type(layer).__name__)
    return Departures(tuple(biases), tuple(dict.fromkeys(parts)))


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)
