"""The input of the last convolution where a defense hides the features above it: Levenberg-Marquardt."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import jvp

from divulge.attacks.gradients.body import Step
from divulge.attacks.gradients.convolution import Convolution, Solved, unit
from divulge.attacks.gradients.elementwise import Known
from divulge.attacks.gradients.hidden_gates import Gates
from divulge.attacks.gradients.levenberg import Minimum, levenberg_marquardt
from divulge.errors import BadInputError
from divulge.models.layers import Flatten

STEPS = 60
STUCK = 1e-4
"""Share of the equations left over from which on the gates of a ReLU are taken to be wrong."""
OPEN = (nn.ReLU, nn.Flatten, Flatten, nn.Identity)
"""Modules above a convolution that pass a signal as it is, or not at all."""
ENTRIES = 100_000_000
"""Of the Jacobian at most, eight bytes each."""


@dataclass(frozen=True, eq=False)
class Last:
    """What is public and shared around the last convolution, and what the linear layer above still tells.

    Args:
        convolution: the last one.
        above: modules between it and the linear layer, which work entry by entry.
        slopes: the shared gradient of its weight, float64.
        believed: which entries of it are to be believed, 1 or 0.
        bias: the shared gradient of its bias, and which entries of it are to be believed; None if it has none.
        head: the linear layer's input, which entries of it are told, and the signal that reaches it, `(d,)` each.
    """

    convolution: Convolution
    above: list[Step]
    slopes: Tensor
    believed: Tensor
    bias: tuple[Tensor, Tensor] | None
    head: Known

    def search(self, start: Tensor) -> tuple[Minimum | Solved, Known]:
        """What went into the convolution, from its gradients and the features that are known.

        The signal that reaches the features is exact, and all between them and the convolution's input is a function
        of that input, which is searched for so that everything holds at once; each set of equations is brought to a
        root mean square of 1. Where a ReLU is all that is between them, its gates are searched for with the input.

        Returns:
            How well the equations hold; and what is known of the convolution's input.

        Raises:
            BadInputError: a convolution that is too large for this.
        """
        if self.slopes.numel() * start.numel() > ENTRIES:
            raise BadInputError(
                f"the last convolution has {start.numel():,} inputs and {self.slopes.numel():,} weights: too many "
                "where the features above it are hidden. Use bias-anchored."
            )
        equations = _Equations(self)
        gates = equations.gates()
        if gates is None:
            return self._without_gates(equations, start)
        signal = gates.search(start.flatten())
        solved = equations.given(signal)
        if solved.left > STUCK:
            found, known = self._without_gates(equations, start)
            if found.left < solved.left:
                return found, known
        return solved, Known(solved.values, self.convolution.signal_below(signal), gates.told(signal))

    def _without_gates(self, equations: "_Equations", start: Tensor) -> tuple[Minimum, Known]:
        found = equations.solve(start.flatten())
        signal = self.convolution.signal_below(equations.signal(found.point))
        return found, Known(found.point.view_as(start), signal, torch.ones_like(start))


class _Equations:
    """Weighted equations in the order: features, weight gradient `(channels, out, kernel)`, bias gradient."""

    def __init__(self, last: Last) -> None:
        self.last = last
        self.matrix = torch.from_numpy(last.convolution.matrix.toarray())
        self.outputs = last.convolution.outputs
        order = torch.arange(len(last.head.value), dtype=torch.float64).view(1, *self.outputs)
        for step in last.above:
            if isinstance(step.module, (nn.Flatten, Flatten)):
                order = step.module(order)
        self.back = order.flatten().argsort()
        features, told, self.reach = (one[self.back] for one in (last.head.value, last.head.trust, last.head.signal))
        slopes, believed = (one.flatten(2).transpose(0, 1).flatten() for one in (last.slopes, last.believed))
        pairs = [(features, told), (slopes, believed), *([] if last.bias is None else [last.bias])]
        self.weights = torch.cat([counted * unit(shared, counted) for shared, counted in pairs])
        self.told = self.weights * torch.cat([shared for shared, _ in pairs])

    def solve(self, start: Tensor) -> Minimum:
        """The input at which they hold, searched for from another."""
        return levenberg_marquardt(self.residuals, self.jacobian, start, size=float(self.told.norm()), steps=STEPS)

    def gates(self) -> Gates | None:
        """The same convolution with the gates of the ReLU above it unknown; None if there is no such ReLU."""
        last = self.last
        if last.bias is None or not all(isinstance(step.module, OPEN) for step in last.above):
            return None
        return Gates(last.convolution, self.reach.view(self.outputs), last.slopes, last.believed, last.bias)

    def given(self, signal: Tensor) -> Solved:
        """The input for a signal that reaches the convolution's output; features that a ReLU let through are known."""
        features, told = (one[self.back].view(self.outputs) for one in (self.last.head.value, self.last.head.trust))
        trust = told * (features > 0)
        return self.last.convolution.solve(features, trust, signal, self.last.slopes, self.last.believed)

    def passed(self, pre: Tensor) -> Tensor:
        """The features that the convolution's output gives, in its own order."""
        value = pre.view(1, *self.outputs)
        for step in self.last.above:
            value = step.module(value)
        return value.flatten()[self.back]

    def slope(self, pre: Tensor) -> Tensor:
        """The signal that reaches the convolution's output."""
        return self.reach * jvp(self.passed, (pre,), (torch.ones_like(pre),))[1]

    def signal(self, value: Tensor) -> Tensor:
        """The same, for an input of the convolution, in the output's shape."""
        return self.slope(self.output(value)).view(self.outputs)

    def output(self, value: Tensor) -> Tensor:
        """What the convolution answers, flat."""
        return self.last.convolution.pre_activation(value.view(self.last.convolution.shape)).flatten()

    def residuals(self, value: Tensor) -> Tensor:
        """What an input leaves over."""
        convolution, pre = self.last.convolution, self.output(value)
        signal = self.slope(pre).view(self.outputs)
        parts = [self.passed(pre), value.view(convolution.shape[0], -1) @ convolution.sees(signal).T]
        if self.last.bias is not None:
            parts.append(signal.flatten(1).sum(dim=1))
        return self.weights * torch.cat([part.flatten() for part in parts]) - self.told

    def jacobian(self, value: Tensor) -> Tensor:
        """Its derivative, transposed."""
        convolution, pre = self.last.convolution, self.output(value)
        ones = torch.ones_like(pre)
        rise = jvp(self.passed, (pre,), (ones,))[1]
        signal, bend = jvp(self.slope, (pre,), (ones,))[:2]
        bent = (bend[:, None] * self.matrix).view(self.outputs[0], -1, len(value))  # (out, outputs, inputs)
        patches = convolution.patches(value.view(convolution.shape))
        slopes = (patches @ bent).unflatten(1, (convolution.shape[0], -1)).transpose(0, 1).contiguous()
        sees = convolution.sees(signal.view(self.outputs)).view(slopes.shape[1], slopes.shape[2], -1)
        for channel, pixels in enumerate(torch.arange(len(value)).split(convolution.pixels)):
            slopes[channel, :, :, pixels] += sees
        parts = [rise[:, None] * self.matrix, slopes.flatten(0, 2)]
        if self.last.bias is not None:
            parts.append(bent.sum(dim=1))
        return (self.weights[:, None] * torch.cat(parts)).T
