"""Per-example gradients of convolutions: patches of the inputs times gradients at the outputs."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from divulge.models.standardized import ScaledConv2d, StandardizedConv2d
from divulge.training.private.parts import Part, ghost_pays, ghost_squares, stored

Convolution = nn.Conv1d | nn.Conv2d
BLOCK = {"cpu": 1 << 20, "cuda": 1 << 28}
"""Bytes of patches at once; on a CPU, what stays in a core's cache."""


class Patches:
    """The inputs of a convolution as matrices `(B * G, T, d)` that times its weight are its outputs, in blocks.

    Args:
        layer: of any stride, padding, dilation and `G` groups.
        a: its inputs, `(B * K, C, H, W)`.
        size: height and width of its outputs, of which there are `T` with those of all copies.
        examples: `B`.
    """

    def __init__(self, layer: Convolution, a: Tensor, size: torch.Size, examples: int) -> None:
        self.layer, self.a, self.size, self.examples = layer, a, size, examples
        self.groups = layer.groups
        self.copies = len(a) // examples
        self.positions = self.copies * math.prod(size)
        pad, mode = layer._reversed_padding_repeated_twice, layer.padding_mode
        self.pad, self.mode = list(pad) + [0] * (4 - len(pad)), "constant" if mode == "zeros" else mode
        (self.kernel, self.stride, self.dilation) = (
            (1,) * (2 - len(pair)) + tuple(pair) for pair in (layer.kernel_size, layer.stride, layer.dilation)
        )
        self.channels = layer.in_channels // layer.groups
        self.inner = self.channels * math.prod(self.kernel)
        # Copying runs along what is contiguous: the channels of neighboring pixels, or the pixels of a row.
        self.by_pixel = self.channels * self.kernel[1] > size[1]

    def of(self, kind: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of rows and their matrices, in a precision."""
        block = max(1, BLOCK[self.a.device.type] // (4 * self.positions * self.groups * self.inner))
        for start, a in enumerate(self.a.split(block * self.copies)):
            matrices = self._block(a.to(kind))
            first = start * block * self.groups
            yield slice(first, first + len(matrices)), matrices

    def _block(self, a: Tensor) -> Tensor:
        a = a.contiguous(memory_format=torch.channels_last if self.by_pixel else torch.contiguous_format)
        if any(self.pad):
            a = functional.pad(a, self.pad, self.mode)
        each, channel, down, right = a.stride()
        count, depth = len(a) // self.copies, self.channels
        moves = (self.dilation[0] * down, self.dilation[1] * right)
        steps = (each, self.stride[0] * down, self.stride[1] * right)
        outer = ((count, self.groups), (each * self.copies, depth * channel))
        if self.by_pixel:
            shape = (*outer[0], self.copies, *self.size, *self.kernel, depth)
            return a.as_strided(shape, (*outer[1], *steps, *moves, channel)).reshape(-1, self.positions, self.inner)
        shape = (*outer[0], depth, *self.kernel, self.copies, *self.size)
        return a.as_strided(shape, (*outer[1], channel, *moves, *steps)).reshape(-1, self.inner, self.positions).mT

    def outputs(self, e: Tensor) -> Tensor:
        """Gradients at the outputs, `(B * K, C', *size)`, as `(B * G, T, p)`."""
        return (
            e.permute(0, 2, 3, 1)
            .reshape(self.examples, self.positions, self.groups, -1)
            .transpose(1, 2)
            .reshape(self.examples * self.groups, self.positions, -1)
        )

    def to_weight(self, matrix: Tensor) -> Tensor:
        """Matrices `(G, p, d)` in the shape of the weight."""
        if self.by_pixel:
            matrix = matrix.unflatten(2, (*self.kernel, self.channels)).permute(0, 1, 4, 2, 3)
        return matrix.reshape(self.layer.weight.shape)

    def from_weight(self, weight: Tensor) -> Tensor:
        """A weight as matrices `(G, p, d)`."""
        split = weight.unflatten(0, (self.groups, -1))
        return (split.permute(0, 1, 3, 4, 2) if self.by_pixel else split).flatten(2)

    def gradients(self, e: Tensor) -> Tensor:
        """The gradient of each example, `(B, G, p, d)`, from what `outputs` gives; computed in its precision."""
        outputs = e.shape[2]
        # Products are slow if their last axis is the shorter, and so are later passes if it is not contiguous.
        upright = outputs > self.inner
        shape = (self.inner, outputs) if upright else (outputs, self.inner)
        found = e.new_empty(self.examples * self.groups, *shape)
        for rows, patches in self.of(e.dtype):
            left, right = (patches, e[rows]) if upright else (e[rows], patches)
            torch.bmm(left.mT, right, out=found[rows])
        found = found.unflatten(0, (self.examples, self.groups)).float()
        return found.mT if upright else found

    def squares(self, e: Tensor) -> Tensor:
        """Squared norms of the gradients, `(B,)`, which are not formed."""
        each = [ghost_squares(patches, e[rows]) for rows, patches in self.of(e.dtype)]
        return torch.cat(each).view(self.examples, self.groups).sum(dim=1)

    def total(self, e: Tensor, coefficients: Tensor) -> Tensor:
        """The weighted sum of the gradients, `(G, p, d)`, which are not formed."""
        found = e.new_zeros(self.groups, e.shape[2], self.inner)
        e = e * coefficients.repeat_interleave(self.groups)[:, None, None]
        for rows, patches in self.of(e.dtype):
            left, right = (m.unflatten(0, (-1, self.groups)).transpose(0, 1).flatten(1, 2) for m in (e[rows], patches))
            found.baddbmm_(left.mT, right)
        return found


def convolution(layer: Convolution, a: Tensor, e: Tensor, examples: int) -> Part:
    """The part of a convolution's weight.

    Args:
        layer: `Conv1d` or `Conv2d`.
        a: its inputs, `(B * K, C, *size)`.
        e: the gradients at its outputs, `(B * K, C', *size)`.
        examples: `B`.
    """
    if a.ndim == 3:
        a, e = a.unsqueeze(2), e.unsqueeze(2)
    patches = Patches(layer, a, e.shape[2:], examples)
    e = patches.outputs(e)
    if not ghost_pays(patches.positions, patches.inner, e.shape[2]):
        gradients = patches.gradients(e)
        norms = torch.linalg.vector_norm(gradients, dim=(1, 2, 3))
        return Part(norms.square_(), lambda c: patches.to_weight(torch.tensordot(c, gradients, 1)), gradients.nbytes)
    # Products of positions cancel, so they are never of bfloat16; and of what is summed the norm is taken.
    e = e.float()
    return Part(patches.squares(e), lambda c: patches.to_weight(patches.total(e, c)))


def standardized(layer: StandardizedConv2d, a: Tensor, e: Tensor, examples: int) -> dict[str, Part]:
    """The parts of the weight and the gain of a convolution that standardizes its weights.

    In one output channel, weight `w` is used as `s c`, where `c` is what it deviates from its mean by and `s` a
    function of `q = |c|^2`. So a gradient `g` with respect to the weight in use is, with respect to `w`,
    `s (g - mean(g) - u) + r u`, where `u = <g, c> c / q` and `r = s + 2 q ds/dq`: three orthogonal pieces of `g`, of
    which the first is left out.
    """
    patches = Patches(layer, a, e.shape[2:], examples)
    gradients = patches.gradients(patches.outputs(e))
    weight = patches.from_weight(layer.weight.detach())
    c = weight - weight.mean(dim=2, keepdim=True)
    q = c.square().sum(dim=2)
    unit, s, r = _scales(layer, q, patches)
    along = (gradients * c).sum(dim=3)
    aside = along.square() / q.clamp(min=torch.finfo(q.dtype).tiny)
    left_out = gradients.sum(dim=3).square() / patches.inner
    across = torch.linalg.vector_norm(gradients, dim=3).square_() - left_out - aside
    squares = (s.square() * across.clamp_(min=0) + r.square() * aside).sum((1, 2))

    def total(coefficients: Tensor) -> Tensor:
        pulled = patches.to_weight(torch.tensordot(coefficients, gradients, 1))
        with torch.enable_grad():
            return torch.autograd.grad(layer.standardized(), layer.weight, pulled)[0]

    parts = {"weight": Part(squares, total, gradients.nbytes)}
    if isinstance(layer, ScaledConv2d):
        parts["gain"] = stored((along * unit).reshape(examples, *layer.gain.shape))
    return parts


def _scales(layer: StandardizedConv2d, q: Tensor, patches: Patches) -> tuple[Tensor, Tensor, Tensor]:
    """`s` before the gain, `s` and `r` of `standardized`, each `(G, p)`."""
    if isinstance(layer, ScaledConv2d):
        unit = q.clamp(min=1e-4).rsqrt()
        s = unit * layer.gain.detach().view(q.shape)
        return unit, s, torch.where(q >= 1e-4, 0.0, s)
    deviation = (q / (patches.inner - 1)).sqrt()
    unit = 1 / (deviation + 1e-5)
    return unit, unit, unit * (1 - deviation * unit)
