"""The way back through modules that work entry by entry."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from divulge.attacks.gradients.body import Step
from divulge.models import Normalize
from divulge.models.layers import Flatten

EDGE = 1e-12
"""How close a recovered activation may come to the end of its range."""

FAINT, CLEAR = 3e-5, 1e-3
"""Outputs of a ReLU, beside the others, from which on they are not taken for rounding errors of a zero, where one has
to choose; and from which on they are sure not to be."""
ENTRYWISE = (
    *(nn.Sigmoid, nn.Tanh, nn.ReLU, nn.LeakyReLU, nn.BatchNorm2d, nn.Flatten, nn.Identity, nn.Dropout),
    *(Normalize, Flatten),
)
"""Modules that there is a way back through, as far as their outputs tell their inputs."""


@dataclass(frozen=True, eq=False)
class Known:
    """What is known where two modules meet, float64, all of one shape.

    Args:
        value: what passes.
        signal: the gradient of the loss with respect to it.
        trust: one over the size of the value's error, up to a factor; 0 where it is not known.
    """

    value: Tensor
    signal: Tensor
    trust: Tensor


def below(step: Step, above: Known) -> Known:
    """What is known of the input of one of the `ENTRYWISE` modules, given what is of its output."""
    module, value = step.module, above.value
    if isinstance(module, nn.Sigmoid):
        value = value.clamp(EDGE, 1 - EDGE)
        return _activation(above, value.logit(), value * (1 - value))
    if isinstance(module, nn.Tanh):
        value = value.clamp(EDGE - 1, 1 - EDGE)
        return _activation(above, value.atanh(), 1 - value**2)
    if isinstance(module, nn.ReLU):
        size = value / value.square().mean().sqrt()
        return Known(value, above.signal * (size > FAINT), above.trust * (size > CLEAR))
    if isinstance(module, nn.LeakyReLU):
        slope = torch.where(value > 0, 1.0, module.negative_slope)
        return _activation(above, value / slope, slope)
    if isinstance(module, (nn.BatchNorm2d, Normalize)):
        shift, one = (module(torch.full((1, step.shape[0], 1, 1), probe).double())[0] for probe in (0.0, 1.0))
        scale = one - shift
        return Known((value - shift) / scale, above.signal * scale, above.trust * scale.abs())
    if isinstance(module, Flatten):
        depth, height, width = step.shape
        parts = (part.view(height, width, depth).permute(2, 0, 1) for part in (above.value, above.signal, above.trust))
        return Known(*(part.contiguous() for part in parts))
    return Known(*(part.view(step.shape) for part in (above.value, above.signal, above.trust)))


def _activation(above: Known, value: Tensor, slope: Tensor) -> Known:
    return Known(value, above.signal * slope, above.trust * slope)
