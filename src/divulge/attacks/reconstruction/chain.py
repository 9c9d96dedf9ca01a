"""A fully connected ReLU network taken apart into the matrices that the stationarity equations are written in."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from divulge.attacks.reconstruction.stationarity import Residual, stationarity
from divulge.models.layers import Normalize, OneLogit, Standardize
from divulge.releases import Weights

LOW = 0.1
"""The share of singular values that are taken to be of a layer's start."""
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
        """Take a network apart; None if it is anything else than a sequence of these layers."""
        model = release.model
        if not isinstance(model, nn.Sequential):
            return None
        size = int(torch.tensor(release.shape).prod())
        mean, std = torch.zeros(size), torch.ones(size)
        layers: list[nn.Module] = list(model)
        if layers and isinstance(layers[0], (Normalize, Standardize)):
            mean, std = (part.expand(release.shape).flatten() for part in (layers[0].mean, layers[0].std))
            layers = layers[1:]
        layers = [layer for layer in layers if not isinstance(layer, nn.Flatten)]
        binary = bool(layers) and isinstance(layers[-1], OneLogit)
        layers = layers[:-1] if binary else layers
        linear = [layer for layer in layers[::2] if isinstance(layer, nn.Linear)]
        between = [layer for layer in layers[1::2] if isinstance(layer, nn.ReLU)]
        if not linear or len(linear) != len(between) + 1 or len(linear) + len(between) != len(layers):
            return None
        return cls(
            tuple(layer.weight.detach() for layer in linear),
            tuple(None if layer.bias is None else layer.bias.detach() for layer in linear),
            mean.detach(),
            std.detach(),
            hidden=hidden,
        )

    def narrowed(self) -> "Chain":
        """The same network on coordinates in the rows of its first layer, where training has put its records.

        Gradient descent adds combinations of records to the first layer and nothing else. Where that layer began so
        small that its start is almost nothing of it, their span is read off its singular values, and the search needs
        no more unknowns a record than it has dimensions. Any other network is given back as it is.
        """
        _, sizes, rows = torch.linalg.svd(self.weights[0], full_matrices=False)
        count = int((sizes > _edge(sizes, self.weights[0].shape)).sum())
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


def _edge(sizes: Tensor, shape: tuple[int, ...]) -> float:
    """The largest singular value of a normal matrix of that shape whose low ones are as small as these."""
    normal = torch.linalg.svdvals(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    return float(normal[0] * sizes.quantile(LOW) / normal.quantile(LOW))
