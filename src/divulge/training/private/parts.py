"""Per-example gradients in parts, one a parameter: their norms, and their sum under coefficients known later."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """The gradients of `B` examples with respect to one parameter, not necessarily stored.

    Args:
        squares: their squared norms, `(B,)`.
        total: from coefficients `(B,)` to their weighted sum, in the shape of the parameter.
        held: bytes in memory until that sum is taken.
    """

    squares: Tensor
    total: Callable[[Tensor], Tensor]
    held: int = 0


@dataclass(frozen=True)
class Gradients:
    """The gradients of `B` examples.

    Args:
        losses: `(B,)`.
        parts: by the parameter's place among the trainable ones; none for a parameter that no loss depends on.
    """

    losses: Tensor
    parts: dict[int, Part]

    @property
    def held(self) -> int:
        """Bytes in memory until sums are taken."""
        return sum(part.held for part in self.parts.values())

    def norms(self) -> Tensor:
        """Norms over all parameters together, `(B,)`."""
        return torch.stack([part.squares for part in self.parts.values()]).sum(dim=0).sqrt_()


class UnsupportedError(Exception):
    """A model or batch that a method is not exact for; says why."""


class Method(Protocol):
    """A way to per-example gradients, exact for some models."""

    def __call__(self, inputs: Tensor, targets: Tensor) -> Gradients:
        """The gradients of examples `(B, K, *shape)`, each averaged over its `K` copies.

        Raises:
            UnsupportedError: not exact here.
        """


def stored(gradients: Tensor) -> Part:
    """The part of a parameter whose gradients `(B, *shape)` are at hand."""
    flat = gradients.flatten(1)
    total = lambda coefficients: (coefficients @ flat).view(gradients.shape[1:])  # noqa: E731
    return Part(squared_norms(flat), total, flat.nbytes)


def rank_one(a: Tensor, e: Tensor) -> tuple[Part, Part]:
    """The parts of a matrix `(p, d)` whose gradient is `e a^T`, and of a vector `(p,)` whose gradient is `e`.

    Goodfellow 2015 (arXiv:1510.01799).

    Args:
        a: inputs, `(B, d)`.
        e: gradients at the outputs, `(B, p)`.
    """
    squares = squared_norms(e)
    return (
        Part(squares * squared_norms(a), lambda coefficients: (e * coefficients[:, None]).T @ a),
        Part(squares, lambda coefficients: coefficients @ e),
    )


def outer(a: Tensor, e: Tensor) -> Part:
    """The part of a matrix `(p, d)` whose gradient is the sum over positions `t` of `e[t] a[t]^T`.

    The norm comes from products of positions where that is cheaper (the ghost norm; Bu et al. 2022, arXiv:2205.10683),
    and the weighted sum from one product of matrices (Bu et al. 2023, arXiv:2210.00038).

    Args:
        a: inputs, `(B, T, d)`.
        e: gradients at the outputs, `(B, T, p)`.
    """
    if not ghost_pays(a.shape[1], a.shape[2], e.shape[2]):
        return stored(torch.bmm(e.mT, a))
    scaled = lambda coefficients: (e * coefficients[:, None, None]).flatten(0, 1)  # noqa: E731
    return Part(ghost_squares(a, e), lambda coefficients: scaled(coefficients).T @ a.flatten(0, 1))


def ghost_pays(positions: int, d: int, p: int) -> bool:
    """Whether products of positions are smaller than the gradient."""
    return 2 * positions**2 < p * d


def ghost_squares(a: Tensor, e: Tensor) -> Tensor:
    """Squared norms `(B,)` of the sums of outer products of `(B, T, d)` and `(B, T, p)`, which are not formed."""
    return (torch.bmm(a, a.mT) * torch.bmm(e, e.mT)).sum((1, 2)).clamp_(min=0)


def squared_norms(rows: Tensor) -> Tensor:
    """Squared norms of the rows of `(B, n)`."""
    return torch.linalg.vector_norm(rows, dim=1).square_()
