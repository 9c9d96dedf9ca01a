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
from divulge.models import seeded
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
        given = (self.loss, self.steps, self.length, 1.0 if self.lr is None else self.lr)
        if not (all(value > 0 for value in given) and self.weight_decay >= 0):
            raise BadInputError(
                f"descent: expected a positive loss, steps, length and lr and no negative weight_decay, got {self}."
            )


@dataclass(frozen=True)
class Descended:
    """Where a descent ended.

    Args:
        loss: mean cross-entropy in nats, after the last step.
        steps: how many were taken.
        reached: whether the loss asked for was reached.
    """

    loss: float
    steps: int
    reached: bool


def fit_to_margin(
    model: nn.Module, data: Dataset, descent: Descent, *, watch: Callable[[int, float], None] = lambda step, loss: None
) -> Descended:
    """Train `model` in place on all of `data` at once and leave it in evaluation mode, where it is.

    Nothing is drawn at random, unless the model itself draws, as dropout does: that is the same in every training, and
    the global random state is as before afterwards. A descent also ends where the loss has no slope any more.

    Args:
        model: maps float32 `(N, *shape)` to logits `(N, classes)`; a fresh `Standardize` in it measures `data`.
        data: the training records.
        descent: how.
        watch: called after each step with its number from 1 and the loss before it.

    Raises:
        BadInputError: no records, a model that learns nothing, or a loss that is not finite.
    """
    if len(data) == 0:
        raise BadInputError("fit_to_margin: expected one record or more, got none.")
    measure(model, data.inputs)
    trained = copy.deepcopy(model).train().to(torch.float64 if descent.precision == "float64" else torch.float32)
    weights: list[Tensor] = [weight for weight in trained.parameters() if weight.requires_grad]
    if not weights:
        raise BadInputError("fit_to_margin: the model has no weights to train. Set requires_grad on some.")
    inputs, targets = data.inputs.to(weights[0]), data.targets.to(weights[0].device)
    length, before = descent.length, math.inf
    with seeded(0):
        for taken in range(descent.steps + 1):
            loss = functional.cross_entropy(trained(inputs).double(), targets)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise BadInputError(
                    f"fit_to_margin: the loss is {value} after {taken} steps. Lower length={descent.length} or "
                    f"lr={descent.lr}."
                )
            if value <= descent.loss or taken == descent.steps:
                break
            slopes = list(torch.autograd.grad(loss, weights))
            with torch.no_grad():
                if descent.weight_decay:
                    torch._foreach_add_(slopes, weights, alpha=descent.weight_decay)
                norm = float(torch.stack(torch._foreach_norm(slopes)).norm())
                if not norm:
                    break
                length = min(length * (GROWTH if value <= before else SHRINK), descent.length)
                torch._foreach_add_(weights, slopes, alpha=-(descent.lr or length / norm))
            before = value
            watch(taken + 1, value)
    model.load_state_dict(trained.float().state_dict())
    model.eval()
    return Descended(value, taken, value <= descent.loss)
