"""A fully connected ReLU network taken apart into the matrices that the stationarity equations are written in."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from divulge.attacks.reconstruction.noise import without_noise
from divulge.attacks.reconstruction.stationarity import Residual, stationarity
from divulge.errors import BadInputError
from divulge.models.layers import Normalize, OneLogit, Standardize
from divulge.releases import Weights

LOW = 0.1
"""The share of singular values that are taken to be of a layer's start."""
SILENT = (nn.Flatten, nn.Dropout, nn.Identity)
"""Layers that change nothing of a row in evaluation mode."""
START = 0.01
"""The largest share of a layer's squared weights that may be its start."""


@dataclass(frozen=True, eq=False)
class Chain:
    """Linear layers with ReLU between them, on records that were shifted and scaled.

    Args:
        weights: of each layer `(out, in)`.
        biases: of each layer `(out,)`; None where it has none.
        mean: what is taken from a record `(D,)`.
        std: what it is then divided by `(D,)`.
        basis: orthonormal rows `(k, D)`, in whose coordinates records are given; None for the records themselves.
        hidden: whether the layers between the first and the last are matched too.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]
    mean: Tensor
    std: Tensor
    basis: Tensor | None = None
    hidden: bool = True

    @classmethod
    def of(cls, release: Weights, *, hidden: bool = True) -> "Chain | None":
        """Take a network apart, where it is; None if it is no sequence of these layers, or not all of it was trained.

        Raises:
            BadInputError: a network that takes records of another shape, or answers for other classes.
        """
        model = release.model
        if type(model) is not nn.Sequential or not all(weight.requires_grad for weight in model.parameters()):
            return None
        mean, std = shift(release)
        layers = [layer for layer in _unpacked(model) if not isinstance(layer, SILENT)]
        layers = layers[1:] if layers and isinstance(layers[0], (Normalize, Standardize)) else layers
        binary = bool(layers) and isinstance(layers[-1], OneLogit)
        layers = layers[:-1] if binary else layers
        linear = [layer for layer in layers[::2] if isinstance(layer, nn.Linear)]
        between = [layer for layer in layers[1::2] if isinstance(layer, nn.ReLU)]
        if not linear or len(linear) != len(between) + 1 or len(linear) + len(between) != len(layers):
            return None
        taken, answers = linear[0].in_features, linear[-1].out_features
        fitting = (answers, release.classes) == (1, 2) if binary else answers == release.classes
        if taken != len(mean) or not fitting:
            raise BadInputError(
                f"kkt: expected a network for records of shape {release.shape} and {release.classes} classes, got one "
                f"of {taken} inputs and {2 if binary else answers} logits."
            )
        return cls(
            tuple(layer.weight.detach() for layer in linear),
            tuple(None if layer.bias is None else layer.bias.detach() for layer in linear),
            mean,
            std,
            hidden=hidden,
        )

    def denoised(self, noise: float) -> "Chain":
        """The same network with its first layer as it was before noise of that deviation was added to each weight.

        Where the layer's start was larger than the noise, that is taken out. Records are searched in the span of what
        is left, unless nothing is.
        """
        first = self.weights[0]
        level = max(noise, _level(torch.linalg.svdvals(first), first.shape)[0])
        weight, basis = without_noise(first, level)
        return replace(self, weights=(weight @ basis.T, *self.weights[1:]), basis=basis) if len(basis) else self

    def narrowed(self) -> "Chain":
        """The same network on coordinates in the rows of its first layer, where training has put its records.

        Gradient descent adds combinations of records to the first layer and nothing else. Where that layer began so
        small that its start is almost nothing of it, their span is read off its singular values, and the search needs
        no more unknowns a record than it has dimensions. Any other network is given back as it is.
        """
        _, sizes, rows = torch.linalg.svd(self.weights[0], full_matrices=False)
        count = int((sizes > _level(sizes, self.weights[0].shape)[1]).sum())
        if count in (0, len(sizes)) or sizes[count:].square().sum() > START * sizes.square().sum():
            return self
        basis = rows[:count]
        return replace(self, weights=(self.weights[0] @ basis.T, *self.weights[1:]), basis=basis)

    def residual(self, points: Tensor, multipliers: Tensor, targets: Tensor, sharpness: Tensor) -> Residual:
        """See `divulge.attacks.reconstruction.stationarity`."""
        return stationarity(self.weights, self.biases, points, multipliers, targets, sharpness, hidden=self.hidden)

    def inside(self, records: Tensor) -> Tensor:
        """Shifted and scaled records `(..., D)` in the coordinates of the basis."""
        return records if self.basis is None else records @ self.basis.T

    def outside(self, points: Tensor) -> Tensor:
        """Shifted and scaled records `(..., D)` from coordinates."""
        return points if self.basis is None else points @ self.basis


def _unpacked(model: nn.Sequential) -> Iterator[nn.Module]:
    """Its layers in order, those of sequences inside it among them."""
    for layer in model:
        if type(layer) is nn.Sequential:
            yield from _unpacked(layer)
        else:
            yield layer


def shift(release: Weights) -> tuple[Tensor, Tensor]:
    """What a sequence's first layer takes from a record and what it divides by, `(D,)` each; else zeros and ones.

    Raises:
        BadInputError: a first layer for records of another shape.
    """
    shape, model = release.shape, release.model
    first = next(iter(model), None) if type(model) is nn.Sequential else None
    if not isinstance(first, (Normalize, Standardize)):
        place = next((weight.device for weight in model.parameters()), None)
        return torch.zeros(math.prod(shape), device=place), torch.ones(math.prod(shape), device=place)
    fitting = (shape,) if isinstance(first, Standardize) else ((shape[0], 1, 1), (1, 1, 1))
    if tuple(first.mean.shape) not in fitting:
        raise BadInputError(
            f"kkt: expected a network for records of shape {shape}, got a first layer with means of shape "
            f"{tuple(first.mean.shape)}."
        )
    mean, std = (part.detach().expand(shape).flatten() for part in (first.mean, first.std))
    return mean, std


def _level(sizes: Tensor, shape: tuple[int, ...]) -> tuple[float, float]:
    """Deviation and largest singular value of a normal matrix of that shape whose low ones are as small as these."""
    normal = torch.linalg.svdvals(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    deviation = float(sizes.quantile(LOW) / normal.quantile(LOW))
    return deviation, float(normal[0]) * deviation
