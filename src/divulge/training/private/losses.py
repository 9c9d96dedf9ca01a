"""The loss of each example, and how a model is called for it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]
"""Answers of the model `(N, ...)` and targets `(N, ...)` to one loss an example, `(N,)`."""


def cross_entropy(answers: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each example in nats; logits `(N, classes)` and class numbers `(N,)` to `(N,)`."""
    return functional.cross_entropy(answers, targets, reduction="none")


def answered(model: nn.Module, batch: Tensor, *, fast: bool) -> Tensor:
    """The answers of a model to `(N, *shape)`, in float32 whatever it computes in.

    Args:
        model: called as it is.
        batch: images are put into channels-last memory where that makes convolutions faster.
        fast: compute in bfloat16.
    """
    if batch.ndim == 4 and (fast or batch.device.type == "cpu") and _convolves(model):
        # Of images of one channel both layouts hold the same, and only the strides tell convolutions which is meant.
        batch = torch.empty_like(batch, memory_format=torch.channels_last).copy_(batch)
    with torch.autocast(batch.device.type, dtype=torch.bfloat16, enabled=fast):
        return model(batch).float()


def _convolves(model: nn.Module) -> bool:
    return any(isinstance(layer, nn.Conv2d) for layer in model.modules())


def for_each_copy(targets: Tensor, copies: int) -> Tensor:
    """Targets `(B, ...)` as those of all copies, `(B * K, ...)`."""
    return targets if copies == 1 else targets.repeat_interleave(copies, 0)


def over_copies(losses: Tensor, copies: int) -> Tensor:
    """The mean `(B,)` of the losses `(B * K,)` of an example's copies."""
    return losses if copies == 1 else losses.view(-1, copies).mean(dim=1)
