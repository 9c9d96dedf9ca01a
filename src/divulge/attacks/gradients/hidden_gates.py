"""Which units of a ReLU let their signal through, where a defense hides what they passed: unknowns of their own."""

from dataclasses import dataclass

import torch
from torch import Tensor

from divulge.attacks.gradients.convolution import Convolution, unit
from divulge.attacks.gradients.levenberg import levenberg_marquardt

STEPS = 30
OPEN = 0.5
"""A gate is 0 or 1."""
FAINT = 1e-4
"""Share of the strongest of its equations at which an unknown is left to rounding."""


@dataclass(frozen=True, eq=False)
class Gates:
    """A convolution below a ReLU, the gates of which are closed or open, nobody tells which.

    A search along the input of the convolution alone gets stuck, for it sees no slope towards another set of open
    gates. With a gate for each output as an unknown between them, the gradients of weight and bias are products of
    inputs and gates, which are smooth, and mostly many more than there are unknowns.

    Args:
        convolution: below the ReLU.
        signal: the gradient of the loss with respect to the convolution's output if all gates were open, of its shape.
        slopes: the shared gradient of its weight, float64.
        believed: which entries of it are to be believed, 1 or 0.
        bias: the shared gradient of its bias, and which entries of it are to be believed.
    """

    convolution: Convolution
    signal: Tensor
    slopes: Tensor
    believed: Tensor
    bias: tuple[Tensor, Tensor]

    def search(self, value: Tensor) -> Tensor:
        """The signal that passes the gates, from some input of the convolution `(n,)`.

        By Levenberg and Marquardt's method on inputs and gates, of which each is then taken to be open or closed.
        """
        slopes, believed = (one.flatten(2).transpose(0, 1).flatten() for one in (self.slopes, self.believed))
        pairs = [(slopes, believed), self.bias]
        weights = torch.cat([counted * unit(shared, counted) for shared, counted in pairs])
        told = weights * torch.cat([shared for shared, _ in pairs])
        open_now = self.convolution.pre_activation(value.view(self.convolution.shape)).flatten() > 0
        found = levenberg_marquardt(
            lambda point: weights * self._gradients(point) - told,
            lambda point: self._jacobian(point) * weights,
            torch.cat([value, open_now.double()]),
            size=float(told.norm()),
            steps=STEPS,
        )
        return self.signal * (found.point[len(value) :] > OPEN).view(self.signal.shape)

    def told(self, signal: Tensor) -> Tensor:
        """Which entries of the convolution's input its weight gradient tells, 1 or 0, given the signal that passes."""
        _, sizes, pixels = torch.linalg.svd(self.convolution.sees(signal), full_matrices=False)
        seen = pixels[sizes > FAINT * sizes[0]].square().sum(dim=0)
        return (seen > 1 - FAINT).double().view(self.convolution.shape[1:]).expand(self.convolution.shape)

    def _parts(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """The convolution's input and the signal that passes the gates, in their shapes."""
        size = self.convolution.shape[0] * self.convolution.pixels
        return point[:size].view(self.convolution.shape), self.signal * point[size:].view(self.signal.shape)

    def _gradients(self, point: Tensor) -> Tensor:
        """Of the weight `(channels, out, kernel)` and the bias, flat."""
        value, signal = self._parts(point)
        weight = value.flatten(1) @ self.convolution.sees(signal).T
        return torch.cat([weight.flatten(), signal.flatten(1).sum(dim=1)])

    def _jacobian(self, point: Tensor) -> Tensor:
        """Their derivative, transposed: inputs first, then gates."""
        value, signal = self._parts(point)
        channels, pixels = self.convolution.shape[0], self.convolution.pixels
        out = len(signal)
        sees = self.convolution.sees(signal)
        patches = self.convolution.patches(value).unflatten(0, (channels, -1))  # (channels, kernel, outputs)
        size, count = channels * len(sees), patches.shape[2]
        whole = point.new_zeros(len(point), size + out)
        inputs, gates = whole[: channels * pixels], whole[channels * pixels :].unflatten(0, (out, count))
        for channel in range(channels):
            inputs[channel * pixels :][:pixels, channel * len(sees) :][:, : len(sees)] = sees.T
        weights = gates[..., :size].unflatten(2, (channels, out, -1))
        for one, reach in enumerate(self.signal.flatten(1)):
            weights[one, :, :, one] = (patches * reach).permute(2, 0, 1)
            gates[one, :, size + one] = reach
        return whole
