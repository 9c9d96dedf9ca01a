"""What the server does: whom it asks, and what it makes of their answers."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn


def sampled(clients: int, count: int, *, seed: int, number: int) -> list[int]:
    """The clients that take part in a round, ascending; drawn without replacement, anew for each round.

    Example:
        >>> sampled(5, 5, seed=0, number=1)
        [0, 1, 2, 3, 4]
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
    return sorted(rng.choice(clients, count, replace=False).tolist())


def finite(*parts: Mapping[str, Tensor]) -> bool:
    """Whether every number that a client sent, gradients and buffers, can be averaged."""
    return all(bool(tensor.isfinite().all()) for part in parts for tensor in part.values())


def mean(parts: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """The weighted mean of tensors by name, in float64 and returned in their own types; counts are rounded."""
    whole = sum(weights)
    means = {}
    for name, first in parts[0].items():
        mean = sum(
            (part[name].double() * (weight / whole) for part, weight in zip(parts, weights, strict=True)),
            start=torch.zeros((), dtype=torch.float64, device=first.device),
        )
        means[name] = (mean if first.is_floating_point() else mean.round()).to(first.dtype)
    return means


def move(model: nn.Module, gradients: Mapping[str, Tensor], buffers: Mapping[str, Tensor], *, lr: float) -> float:
    """Step against the mean of what came, and take over the mean of what was measured.

    Returns:
        The length of the step in the space of all weights.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in gradients:
                parameter.sub_(gradients[name], alpha=lr)
        for name, buffer in model.named_buffers():
            if name in buffers:
                buffer.copy_(buffers[name])
    return lr * float(torch.stack([gradient.double().norm() for gradient in gradients.values()]).norm())
