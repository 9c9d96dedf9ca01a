"""What an inversion lowers: functions of the logits and the classes that are wanted."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Cost = Literal["confidence", "cross-entropy", "logit", "poincare"]
NEAR = 0.9999
"""Where on its axis of the Poincare ball a class is put; on the border it would be infinitely far."""


def confidence(logits: Tensor, targets: Tensor) -> Tensor:
    """1 less the posterior, as Fredrikson et al. 2015 (doi 10.1145/2810103.2813677) wrote it."""
    return 1 - logits.softmax(dim=1).gather(1, targets[:, None])[:, 0]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The negative logarithm of the posterior, whose slope does not vanish where the posterior does."""
    return functional.cross_entropy(logits, targets, reduction="none")


def logit(logits: Tensor, targets: Tensor) -> Tensor:
    """The negative logit (Nguyen et al. 2023, arXiv 2304.01669), which other classes' have no part in."""
    return -logits.gather(1, targets[:, None])[:, 0]


def poincare(logits: Tensor, targets: Tensor) -> Tensor:
    """Distance to the class in the Poincare ball (Struppek et al. 2022, arXiv 2201.12179)."""
    found = logits / logits.norm(p=1, dim=1, keepdim=True).clamp_min(1e-12)
    wanted = NEAR * functional.one_hot(targets, logits.shape[1])
    apart = (found - wanted).square().sum(dim=1)
    inner = (1 - found.square().sum(dim=1)).clamp_min(1e-12) * (1 - NEAR**2)
    return torch.acosh(1 + 2 * apart / inner)


COSTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "confidence": confidence,
    "cross-entropy": cross_entropy,
    "logit": logit,
    "poincare": poincare,
}
