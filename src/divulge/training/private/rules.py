"""What a clipped sum of per-example gradients is, and the rules that turn gradient norms into coefficients."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from divulge.errors import BadInputError

Rule = Callable[[Tensor], Tensor]
"""Gradient norms of examples `(B,)` to the coefficients of their gradients `(B,)`, each from its own norm alone."""


@dataclass(frozen=True)
class Clipped:
    """The sum of the clipped gradients of some examples; two of them add up to that of all their examples.

    Args:
        sums: one float32 tensor a trainable parameter, in the order of `model.parameters()`.
        norms: gradient norm of each example before clipping, `(B,)`; 0 where it was dropped.
        losses: loss of each example, `(B,)`; that of a dropped one as it came.
        dropped: examples whose gradient was not finite; they count as zero.
    """

    sums: list[Tensor]
    norms: Tensor
    losses: Tensor
    dropped: int

    def __add__(self, other: "Clipped") -> "Clipped":
        return Clipped(
            [mine + theirs for mine, theirs in zip(self.sums, other.sums, strict=True)],
            torch.cat([self.norms, other.norms]),
            torch.cat([self.losses, other.losses]),
            self.dropped + other.dropped,
        )


def flat(clip: float) -> Rule:
    """Scale a gradient down to norm `clip` if it is longer (Abadi et al. 2016, arXiv:1607.00133).

    Example:
        >>> flat(1.0)(torch.tensor([0.0, 0.5, 4.0])).tolist()
        [1.0, 1.0, 0.25]
    """
    _require_positive(clip=clip)
    return lambda norms: (clip / norms).clamp_(max=1.0)


def automatic(clip: float, gamma: float = 0.01) -> Rule:
    """Scale every gradient to almost norm `clip`, which bounds it (Bu et al. 2023, arXiv:2206.07136).

    Example:
        >>> automatic(1.0, gamma=1.0)(torch.tensor([1.0, 3.0])).tolist()
        [0.5, 0.25]
    """
    _require_positive(clip=clip, gamma=gamma)
    return lambda norms: clip / (norms + gamma)


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise BadInputError(f"clipping: expected {name} to be positive and finite, got {value}.")
