"""Gradient descent on all records at once, far past the point where every one is classified."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.models.layers import measure

GROWTH, SHRINK = 1.02, 0.7
"""Factors on the length of a step after a loss that fell, and after one that rose."""


@dataclass(frozen=True)
class Descent:
    """How a network is trained to almost no loss.

    A step of plain gradient descent shrinks with the loss, and the published trainings took a million of them. Here
    each step has a length of its own choosing: the direction is the gradient's, and so is where the weights tend to.

    Args:
        loss: mean cross-entropy in nats at which the training is done.
        steps: at most.
        length: the largest step, in the norm of all weights together.
        lr: plain gradient descent at this rate in place of steps of bounded length; None for those.
        weight_decay: L2 penalty, added to the gradient.
        precision: of the training; the trained weights are float32.
    """

    loss: float = 1e-7
    steps: int = 20_000
    length: float = 0.3
    lr: float | None = None
    weight_decay: float = 0.0
    precision: Literal["float32", "float64"] = "float64"

    def __post_init__(self) -> None:
        if (
            min(self.loss, self.steps, self.length) <= 0
            or self.weight_decay < 0
            or (self.lr is not None and self.lr <= 0)
        ):
            raise BadInputError(
                f"descent: expected a positive loss, steps, length and lr and no negative weight_decay, got {self}."
            )


@dataclass(frozen=True)
class Descended:
    """Where a descent ended.

    Args:
        loss: mean cross-entropy in nats.
        steps: how many were taken.
        reached: whether the loss asked for was reached.
    """

    loss: float
    steps: int
    reached: bool


def fit_to_margin(
    model: nn.Module, data: Dataset, descent: Descent, *, watch: Callable[[int, float], None] = lambda step, loss: None
) -> Descended:
    """Train `model` in place on all of `data` at once and leave it in evaluation mode; nothing is drawn at random.

    Args:
        model: maps float32 `(N, *shape)` to logits `(N, classes)`; a fresh `Standardize` in it measures `data`.
        data: the training records.
        descent: how.
        watch: called after each step with its number from 1 and the loss before it.

    Raises:
        BadInputError: no records, or a loss that is not finite.
    """
    if len(data) == 0:
        raise BadInputError("fit_to_margin: expected one record or more, got none.")
    measure(model, data.inputs)
    trained = copy.deepcopy(model).train().to(torch.float64 if descent.precision == "float64" else torch.float32)
    weights: list[Tensor] = [weight for weight in trained.parameters() if weight.requires_grad]
    inputs = data.inputs.to(weights[0].dtype)
    length, before = descent.length, math.inf
    for step in range(1, descent.steps + 1):
        loss = functional.cross_entropy(trained(inputs).double(), data.targets)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise BadInputError(
                f"fit_to_margin: the loss is {value} at step {step}. Lower length={descent.length} or lr={descent.lr}."
            )
        if value <= descent.loss:
            break
        slopes = list(torch.autograd.grad(loss, weights))
        with torch.no_grad():
            if descent.weight_decay:
                torch._foreach_add_(slopes, weights, alpha=descent.weight_decay)
            length = min(length * (GROWTH if value <= before else SHRINK), descent.length)
            norm = float(torch.stack(torch._foreach_norm(slopes)).norm())
            torch._foreach_add_(weights, slopes, alpha=-(descent.lr or length / max(norm, 1e-300)))
        before = value
        watch(step, value)
    model.load_state_dict(trained.float().state_dict())
    model.eval()
    return Descended(value, step, value <= descent.loss)
