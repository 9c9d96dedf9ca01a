"""The linear equations that hold the input of a convolution whose output and incoming signal are known."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from divulge.attacks.gradients.levenberg import OPEN, RIDGE, growth

CORRECTIONS = 3
"""Rounds in which what is left over is solved for again, which undoes the ridge and the squared condition."""
UNKNOWNS = 8192
"""Inputs of a convolution that can be solved for: half a gigabyte of normal equations."""


@dataclass(frozen=True, eq=False)
class Solved:
    """The input of a convolution, by least squares.

    Args:
        values: float64, of the input's shape.
        left: share of the equations that it leaves over.
        error: root mean square of what independent errors of that size do to the values, an estimate.
        determined: whether the equations leave no part of it open.
    """

    values: Tensor
    left: float
    error: float
    determined: bool


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution in one group, padded with a number of zeros, on inputs of one shape, as a sparse matrix.

    Args:
        module: the convolution, float64.
        shape: of its input `(channels, height, width)`.
    """

    module: nn.Conv2d
    shape: tuple[int, ...]

    @property
    def pixels(self) -> int:
        """Of a channel of the input."""
        return self.shape[1] * self.shape[2]

    @cached_property
    def places(self) -> Tensor:
        """Which pixel, counted from 1, a place of the kernel meets at each output: `(kernel, outputs)`, 0 outside."""
        pixels = torch.arange(1, self.pixels + 1, dtype=torch.float64).view(1, 1, *self.shape[1:])
        return self._unfold(pixels)[0].long()

    @cached_property
    def matrix(self) -> Any:
        """The convolution without its bias: a sparse matrix, a row for each output."""
        from scipy.sparse import csr_matrix

        weight = self.module.weight.flatten(2)
        out, channels, kernel = weight.shape
        count = self.places.shape[1]
        whole = (out, channels, kernel, count)
        inside = (self.places > 0).expand(whole)
        rows = torch.arange(out * count).view(out, 1, 1, count).expand(whole)[inside]
        columns = (torch.arange(channels).view(-1, 1, 1) * self.pixels + self.places - 1).expand(whole)[inside]
        values = weight[..., None].expand(whole)[inside]
        size = (out * count, channels * self.pixels)
        return csr_matrix((values.numpy(), (rows.numpy(), columns.numpy())), shape=size)

    @property
    def outputs(self) -> tuple[int, ...]:
        """The shape of its output."""
        return tuple(self.pre_activation(torch.zeros(self.shape, dtype=torch.float64)).shape)

    def patches(self, inputs: Tensor) -> Tensor:
        """What each entry of the kernel meets at each output: `(channels * kernel, outputs)`."""
        return self._unfold(inputs[None])[0]

    def sees(self, signal: Tensor) -> Tensor:
        """The map from a channel of the input to its weight gradients: `(out * kernel, pixels)`.

        Args:
            signal: the gradient of the loss with respect to the output `(out, height, width)`.
        """
        kernel, count = self.places.shape
        whole = (len(signal), kernel, count)
        found = signal.new_zeros(len(signal), kernel, self.pixels + 1)
        found.scatter_add_(2, self.places.expand(whole), signal.flatten(1)[:, None].expand(whole))
        return found[:, :, 1:].flatten(0, 1)

    def pre_activation(self, inputs: Tensor) -> Tensor:
        """The output for one input of `shape`."""
        return torch.as_tensor(self.module(inputs[None]))[0]

    def signal_below(self, signal: Tensor) -> Tensor:
        """The gradient of the loss with respect to the input."""
        return torch.from_numpy(self.matrix.T @ signal.flatten().numpy()).view(self.shape)

    def solve(self, output: Tensor, trust: Tensor, signal: Tensor, slopes: Tensor, believed: Tensor) -> Solved:
        """The input by least squares: both sets of equations brought to a root mean square of 1.

        Args:
            output: float64 `(out, height, width)`.
            trust: weight of each entry of it, one over the size of its error up to a factor; 0 where it is not known.
            signal: as in `sees`.
            slopes: the shared weight gradient, of the weight's shape.
            believed: which entries of it are, of the same shape.
        """
        size = self.shape[0] * self.pixels
        told = output if self.module.bias is None else output - self.module.bias[:, None, None]
        told = told.flatten()
        trust = trust.flatten() * unit(told, trust.flatten())
        slopes, counted = (part.flatten(2).transpose(0, 1).flatten(1) for part in (slopes, believed.double()))
        counted = counted * unit(slopes, counted)  # (channels, out * kernel)
        forward = self.matrix.multiply(trust.numpy()[:, None]).tocsr()
        sees = self.sees(signal)

        normal = torch.from_numpy((forward.T @ forward).toarray())
        for channel, rows in enumerate(counted):
            block = slice(channel * self.pixels, (channel + 1) * self.pixels)
            seen = sees * rows[:, None]
            normal[block, block] += seen.T @ seen
        level = normal.diagonal().mean()
        if level == 0:
            return Solved(told.new_zeros(self.shape), 1.0, math.inf, determined=False)
        normal.diagonal().add_(RIDGE * level)
        factor = torch.linalg.cholesky(normal)

        def remainder(value: Tensor) -> tuple[Tensor, Tensor]:
            outputs = trust * told - torch.from_numpy(forward @ value.numpy())
            return outputs, counted * (slopes - value.view(self.shape[0], self.pixels) @ sees.T)

        value = told.new_zeros(size)
        for _ in range(1 + CORRECTIONS):
            outputs, gradients = remainder(value)
            right = torch.from_numpy(forward.T @ outputs.numpy()) + ((counted * gradients) @ sees).flatten()
            value = value + torch.cholesky_solve(right[:, None], factor)[:, 0]
        outputs, gradients = remainder(value)
        left = torch.cat([outputs, gradients.flatten()]).norm()
        left = left / torch.cat([trust * told, (counted * slopes).flatten()]).norm()
        grown = growth(factor)
        return Solved(value.view(self.shape), float(left), float(left) * grown, grown * math.sqrt(level) < OPEN)

    def _unfold(self, inputs: Tensor) -> Tensor:
        module = self.module
        assert not isinstance(module.padding, str)
        return functional.unfold(inputs, module.kernel_size, module.dilation, module.padding, module.stride)


def unit(told: Tensor, weights: Tensor) -> Tensor:
    """What brings the weighted entries that are known to a root mean square of 1; 0 where there is nothing to bring."""
    size = (told * weights).norm()
    return weights.count_nonzero().sqrt() / size if size > 0 else torch.zeros_like(size)
