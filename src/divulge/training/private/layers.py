"""What a layer adds to the gradient of each example, from its inputs and the gradients at its outputs."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from divulge.models.standardized import ScaledConv2d, StandardizedConv2d
from divulge.training.private.convolutions import Convolution, convolution, standardized
from divulge.training.private.parts import Part, outer, rank_one, stored

Parts = dict[str, Callable[[], Part]]
"""The part of each parameter a layer may have, by its name, when it is called for."""


def _linear(layer: nn.Linear, a: Tensor, e: Tensor, examples: int) -> Parts:
    a, e = (x.float().reshape(examples, -1, x.shape[-1]) for x in (a, e))
    if a.shape[1] == 1:
        weight, bias = rank_one(a[:, 0], e[:, 0])
        return {"weight": lambda: weight, "bias": lambda: bias}
    return {"weight": lambda: outer(a, e), "bias": lambda: stored(e.sum(dim=1))}


def _convolution(layer: Convolution, a: Tensor, e: Tensor, examples: int) -> Parts:
    return {
        "weight": lambda: convolution(layer, a, e, examples),
        "bias": lambda: stored(_by_channel(e, examples)),
    }


def _standardized(layer: StandardizedConv2d, a: Tensor, e: Tensor, examples: int) -> Parts:
    both = cache(lambda: standardized(layer, a, e, examples))
    return {
        "weight": lambda: both()["weight"],
        "gain": lambda: both()["gain"],
        "bias": lambda: stored(_by_channel(e, examples)),
    }


def _group_norm(layer: nn.GroupNorm, a: Tensor, e: Tensor, examples: int) -> Parts:
    def scale() -> Part:
        normal = functional.group_norm(a.float(), layer.num_groups, eps=layer.eps)
        return stored(_by_channel(normal.mul_(e), examples))

    return {"weight": scale, "bias": lambda: stored(_by_channel(e, examples))}


def _layer_norm(layer: nn.LayerNorm, a: Tensor, e: Tensor, examples: int) -> Parts:
    shape = (examples, -1, *layer.normalized_shape)

    def scale() -> Part:
        normal = functional.layer_norm(a.float(), layer.normalized_shape, eps=layer.eps)
        return stored(normal.mul_(e).reshape(shape).sum(dim=1))

    return {"weight": scale, "bias": lambda: stored(e.float().reshape(shape).sum(dim=1))}


def _embedding(layer: nn.Embedding, a: Tensor, e: Tensor, examples: int) -> Parts:
    a, e = a.reshape(examples, -1), e.float().reshape(examples, -1, e.shape[-1])
    if layer.padding_idx is not None:
        e = e * (a != layer.padding_idx)[:, :, None]

    def matrix() -> Part:
        same = a[:, :, None] == a[:, None, :]
        return Part((torch.bmm(e, e.mT) * same).sum((1, 2)).clamp_(min=0), total)

    def total(coefficients: Tensor) -> Tensor:
        scaled = (e * coefficients[:, None, None]).flatten(0, 1)
        return torch.zeros_like(layer.weight, dtype=torch.float32).index_add_(0, a.flatten(), scaled)

    return {"weight": matrix}


def _by_channel(x: Tensor, examples: int) -> Tensor:
    """Sums `(B, C)` over copies and places of `(B * K, C, *size)`."""
    return x.unflatten(0, (examples, -1)).sum(dim=[1, *range(3, x.ndim + 1)], dtype=torch.float32)


LAYERS: dict[type[nn.Module], Callable[[Any, Tensor, Tensor, int], Parts]] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    StandardizedConv2d: _standardized,
    ScaledConv2d: _standardized,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
    nn.Embedding: _embedding,
}
