"""Down a convolutional network layer by layer: each convolution's input is the solution of linear equations."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input

from divulge.attacks.gradients.base import GradientAttack, Reconstructions
from divulge.attacks.gradients.labels import labels_by_bias
from divulge.attacks.gradients.layer_input import layer_input, signal_below
from divulge.attacks.gradients.layers import layer, twin
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.models import Normalize
from divulge.releases import GradientRecord

EDGE = 1e-12
"""How close a recovered activation may come to the end of its range."""
RIDGE = 1e-12
"""Added to the normal equations as a share of their diagonal, for inputs that they leave open."""
CORRECTIONS = 3
"""Rounds in which what is left over is solved for again, which undoes the ridge and the squared condition."""


@dataclass(frozen=True)
class Peel(GradientAttack):
    """Rebuilds a record exactly from a network of convolutions with sigmoid or tanh before a biased linear layer.

    That layer's gradients give its input and the signal that reached it. Going down, each convolution's output and
    signal are known, and its input is met by two sets of linear equations: the outputs, where the activation is
    invertible, and the shared weight gradient. Both are scaled alike and solved in float64. Whatever lies above the
    linear layer does not matter.

    Zhu and Blaschko 2021 (arXiv 2010.07733), for which the bias gradient supplies the signal. Batches of one. Training
    and rounding cost accuracy, which `matching` shows: the largest share of a convolution's equations left over.

    Args:
        tolerance: the largest `matching` at which the record is claimed to be exact.
    """

    name: ClassVar[str] = "peel"
    source: ClassVar[str] = "Zhu and Blaschko 2021, arXiv 2010.07733"

    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if self.tolerance <= 0:
            raise BadInputError(f"peel: expected a positive tolerance, got {self.tolerance}.")

    def invert(
        self, records: list[GradientRecord], model: nn.Module, *, knowledge: Knowledge, generator: torch.Generator
    ) -> Reconstructions:
        """Rebuild each record."""
        if records[0].batch_size != 1:
            raise BadInputError(f"peel: expected batches of 1, got {records[0].batch_size}. Use a search.")
        body, name = _body(twin(records[0], model))
        shapes = [records[0].shape]
        with torch.no_grad():
            for _, module in body:
                shapes.append(tuple(module(torch.zeros(1, *shapes[-1], dtype=torch.float64)).shape[1:]))
        inputs, matching = torch.zeros(len(records), 1, *records[0].shape), torch.ones(len(records))
        found = torch.ones(len(records), 1, dtype=torch.bool)
        for victim, record in enumerate(records):
            top = layer(record, model, name)
            found[victim] = bool(top.biased().any())
            if found[victim]:
                value, left = _down(record, body, shapes, layer_input(top).values, signal_below(top))
                inputs[victim, 0], matching[victim] = value.float(), left
        return Reconstructions(
            inputs,
            labels_by_bias(records, model),
            matching,
            exact=bool((matching <= self.tolerance).all()),
            found=found,
        )


def _body(model: nn.Module) -> tuple[list[tuple[str, nn.Module]], str]:
    """The modules below the first linear layer, and that layer's name.

    Raises:
        BadInputError: they are no plain sequence of convolutions with invertible activations.
    """
    known = (nn.Conv2d, nn.Sigmoid, nn.Tanh, nn.Flatten, Normalize)
    body: list[tuple[str, nn.Module]] = []
    for name, module in model.named_children() if isinstance(model, nn.Sequential) else ():
        if isinstance(module, nn.Linear) and module.bias is not None:
            return body, name
        if not isinstance(module, known) or (isinstance(module, nn.Conv2d) and not _plain(module)):
            raise BadInputError(
                f"peel: expected convolutions padded with zeros, sigmoids and tanhs below the first linear layer, got "
                f"{type(module).__name__}. Use a search."
            )
        body.append((name, module))
    raise BadInputError("peel: expected an nn.Sequential with a biased linear layer in it. Use a search.")


def _plain(module: nn.Conv2d) -> bool:
    return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _down(
    record: GradientRecord,
    body: list[tuple[str, nn.Module]],
    shapes: list[tuple[int, ...]],
    value: Tensor,
    signal: Tensor,
) -> tuple[Tensor, float]:
    """From the input of the linear layer and its signal to the record, and the worst share left over on the way."""
    worst = 0.0
    for (name, module), shape in reversed(list(zip(body, shapes[:-1], strict=True))):
        if isinstance(module, nn.Conv2d):
            weight = module.weight.detach()
            slopes = record.gradients[f"{name}.weight"].double().cpu()
            value, left = _solve(module, shape, value, signal, slopes)
            signal = conv2d_input((1, *shape), weight, signal[None], *_settings(module))[0]
            worst = max(worst, left)
        elif isinstance(module, nn.Sigmoid):
            value = value.clamp(EDGE, 1 - EDGE)
            value, signal = value.logit(), signal * value * (1 - value)
        elif isinstance(module, nn.Tanh):
            value = value.clamp(EDGE - 1, 1 - EDGE)
            value, signal = value.atanh(), signal * (1 - value**2)
        elif isinstance(module, Normalize):
            value, signal = value * module.std + module.mean, signal / module.std
        else:
            value, signal = value.view(shape), signal.view(shape)
    return value, worst


def _solve(
    module: nn.Conv2d, shape: tuple[int, ...], output: Tensor, signal: Tensor, slopes: Tensor
) -> tuple[Tensor, float]:
    """The input of a convolution by least squares: float64 `shape`, and the share of its equations left over.

    The weight gradient sees one channel at a time, and every channel through the same matrix.
    """
    weight, pixels = module.weight.detach(), shape[1] * shape[2]
    size = shape[0] * pixels
    stride, padding, dilation = _settings(module)
    records = torch.eye(size, dtype=weight.dtype).view(size, *shape)
    forward = functional.conv2d(records, weight, None, stride, padding, dilation)
    told = output if module.bias is None else output - module.bias.detach()[:, None, None]
    units = torch.eye(pixels, dtype=weight.dtype).view(pixels, 1, *shape[1:])
    patches = functional.unfold(units, module.kernel_size, dilation, padding, stride)
    sees = torch.einsum("nkp,op->nok", patches, signal.flatten(1)).flatten(1)
    slopes = slopes.flatten(2).transpose(0, 1).flatten(1)  # (in, out * kernel)

    one, two = (1 / part.square().mean().sqrt() if part.any() else part.new_zeros(()) for part in (told, slopes))
    forward, told = one * forward.flatten(1), one * told.flatten()
    sees, slopes = two * sees, two * slopes
    normal = forward @ forward.T
    for channel in _blocks(shape[0], pixels):
        normal[channel, channel] += sees @ sees.T
    normal.diagonal().add_(RIDGE * normal.diagonal().mean())
    factor = torch.linalg.cholesky(normal)
    value = torch.zeros(size, dtype=weight.dtype)
    for _ in range(1 + CORRECTIONS):
        outputs, gradients = told - value @ forward, slopes - value.view(shape[0], pixels) @ sees
        step = forward @ outputs + (gradients @ sees.T).flatten()
        value = value + torch.cholesky_solve(step[:, None], factor)[:, 0]
    outputs, gradients = told - value @ forward, slopes - value.view(shape[0], pixels) @ sees
    left = torch.cat([outputs, gradients.flatten()]).norm() / torch.cat([told, slopes.flatten()]).norm()
    return value.view(shape), float(left)


def _settings(module: nn.Conv2d) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Stride, padding and dilation; `_plain` has refused padding in words."""
    return module.stride, cast(tuple[int, ...], module.padding), module.dilation


def _blocks(count: int, size: int) -> Iterator[slice]:
    return (slice(start * size, (start + 1) * size) for start in range(count))
