"""Layers that model families share."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from divulge.errors import BadInputError


class Normalize(nn.Module):
    """Per-channel standardization as the first layer of a model, so that attacks and pictures stay in pixel space.

    Args:
        mean: one number a channel, in pixel units `[0, 1]`.
        std: the same.

    Example:
        >>> Normalize([0.5], [0.5])(torch.ones(1, 1, 2, 2)).flatten().tolist()
        [1.0, 1.0, 1.0, 1.0]
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Standardize `(N, C, H, W)`."""
        return (x - self.mean) / self.std


class Standardize(nn.Module):
    """Every column of a table brought to mean 0 and standard deviation 1 as the first layer of a model.

    Its statistics are those of the records it measured, and no column is divided by 0: a constant one is only shifted.
    `divulge.training.fit` lets a layer that has measured nothing yet measure the training records of that model; until
    then it is the identity, and afterwards it stays as it is, however the model is trained further. Private training
    measures nothing, since the statistics of private records would be told without noise: measure public ones before.

    Args:
        shape: of a record.

    Example:
        >>> layer = Standardize((2,))
        >>> layer.measure(torch.tensor([[10.0, 5.0], [30.0, 5.0]]))
        >>> layer(torch.tensor([[40.0, 6.0]])).tolist()
        [[2.0, 1.0]]
    """

    mean: Tensor
    std: Tensor
    measured: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(*shape))
        self.register_buffer("std", torch.ones(*shape))
        self.register_buffer("measured", torch.tensor(False))

    def reset_parameters(self) -> None:
        """Forget what was measured."""
        self.mean.zero_()
        self.std.fill_(1)
        self.measured.fill_(False)

    def measure(self, records: Tensor) -> None:
        """Take the mean and standard deviation of each column from float32 `records` `(N, *shape)`.

        Raises:
            BadInputError: records of another shape, as where the layer is not the first of its model.
        """
        if records.shape[1:] != self.mean.shape:
            raise BadInputError(
                f"Standardize: expected records of shape {tuple(self.mean.shape)}, got {tuple(records.shape[1:])}. It "
                "measures what the model is given, so make it the first layer, of the shape of a record."
            )
        variance, mean = torch.var_mean(records, dim=0, correction=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(variance > 0, variance.sqrt(), 1))
        self.measured.fill_(True)

    def forward(self, x: Tensor) -> Tensor:
        """Standardize `(N, *shape)`."""
        return (x - self.mean) / self.std


class Center(Standardize):
    """The mean record taken away as the first layer of a model, and nothing divided; otherwise as `Standardize`.

    Example:
        >>> layer = Center((2,))
        >>> layer.measure(torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
        >>> layer(torch.tensor([[1.0, 0.0]])).tolist()
        [[0.5, -1.0]]
    """

    def measure(self, records: Tensor) -> None:
        """Take the mean of float32 `records` `(N, *shape)`; see `Standardize`."""
        super().measure(records)
        self.std.fill_(1)


class OneLogit(nn.Module):
    """Two logits out of the one that a binary network computes: 0 for the first class and it for the second.

    Cross-entropy of the two is the binary cross-entropy of the one.

    Example:
        >>> OneLogit()(torch.tensor([[3.0]])).tolist()
        [[0.0, 3.0]]
    """

    def forward(self, x: Tensor) -> Tensor:
        """Put a zero before `(N, 1)`."""
        return torch.cat([torch.zeros_like(x), x], dim=1)


def measure(model: nn.Module, records: Tensor) -> None:
    """Let each `Standardize` in `model` that has measured nothing yet measure `records` `(N, *shape)`."""
    for layer in model.modules():
        if isinstance(layer, Standardize) and not layer.measured:
            layer.measure(records)


class Flatten(nn.Module):
    """Flatten `(N, C, H, W)` to `(N, H * W * C)`: in channels-last memory no copy, neither forward nor backward.

    Example:
        >>> Flatten()(torch.arange(8.0).view(1, 2, 2, 2)).tolist()
        [[0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]]
    """

    def forward(self, x: Tensor) -> Tensor:
        """Flatten a batch of images."""
        return x.permute(0, 2, 3, 1).flatten(1)
