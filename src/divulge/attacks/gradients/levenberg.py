"""Nonlinear least squares by Levenberg and Marquardt, in float64."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad

FIRST = 1e-2
"""The first damping at most. All dampings are shares of the mean diagonal of the normal equations."""
CALMER, BOLDER = 5.0, 0.2
"""What the damping is multiplied by after a step that gained nothing, and after one that gained."""
STUCK = 1e6
"""Damping from which on no step will gain."""
SETTLED = 1e-3
"""Relative gain of a step in the sum of squares from which on the search is done."""
WORTH = 0.9
"""What a step along an old derivative has to leave of the sum of squares at most, to be followed by another such."""


RIDGE = 1e-12
"""What holds unknowns that no equation does, as a share of the mean diagonal of the normal equations."""
OPEN = 1e4
"""Growth of errors from which on the ridge alone holds some unknowns; with nothing else it would be a million."""


@dataclass(frozen=True, eq=False)
class Minimum:
    """Where a search ended.

    Args:
        point: float64 `(n,)`.
        left: norm of the residuals there, as a share of `size`.
        error: root mean square of what independent errors as large as the residuals do to the point, an estimate.
        determined: whether the residuals leave no direction open there.
        steps: taken.
    """

    point: Tensor
    left: float
    error: float
    determined: bool
    steps: int


def growth(factor: Tensor) -> float:
    """By how much independent errors of unit size in equations grow in the least-squares answer, in the mean.

    Args:
        factor: the Cholesky factor of the normal equations `(n, n)`.
    """
    errors = torch.randn(len(factor), 1, generator=torch.Generator().manual_seed(0), dtype=factor.dtype)
    return float(torch.linalg.solve_triangular(factor.mT, errors, upper=True).square().mean().sqrt())


def _further(
    residuals: Callable[[Tensor], Tensor], point: Tensor, left: Tensor, factor: Tensor
) -> tuple[Tensor, Tensor]:
    """Steps along a derivative that was taken elsewhere, and what the last good one leaves over."""
    half = grad(lambda at: residuals(at).square().sum() / 2)
    while left.any():
        tried = point - torch.cholesky_solve(half(point)[:, None], factor)[:, 0]
        remainder = residuals(tried)
        if not remainder.square().sum() < WORTH * left.square().sum():
            break
        point, left = tried, remainder
    return point, left


def levenberg_marquardt(
    residuals: Callable[[Tensor], Tensor],
    jacobian: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    size: float,
    steps: int,
    enough: float = 0.0,
) -> Minimum:
    """Make the sum of squares of `residuals` small (Marquardt 1963, doi 10.1137/0111030).

    The damping is never above the squared share that is left over, with which the method converges as fast as Newton's
    where the residuals vanish (Yamashita and Fukushima 2001, doi 10.1007/978-3-7091-6217-0_18). The factored normal
    equations serve for further steps as long as these gain, each with the slope where it starts: one costs a hundredth
    of a derivative and what it takes to factor it.

    Args:
        residuals: of a point `(n,)`, `(m,)`.
        jacobian: their derivative, transposed, `(n, m)`.
        start: the first point, float64.
        size: what the norm of the residuals is compared with; with 0 nothing is told, and the start is given back.
        steps: with a derivative of their own, at most.
        enough: a share left over from which on rounding hides what there would be to gain.

    Example:
        >>> start = torch.ones(1).double()
        >>> found = levenberg_marquardt(lambda x: x**2 - 2, lambda x: (2 * x).diag(), start, size=2.0, steps=20)
        >>> round(found.point.item(), 6)
        1.414214
    """
    if size == 0:
        return Minimum(start, left=1.0, error=math.inf, determined=False, steps=0)
    point, left, damping, taken = start, residuals(start), FIRST, 0
    while True:
        slopes = jacobian(point)
        normal, right, before = slopes @ slopes.T, slopes @ left, left.square().sum()
        level = normal.diagonal().mean()
        damping = min(damping, float(before) / size**2)
        while taken < steps and 0 < damping < STUCK:
            factor, failed = torch.linalg.cholesky_ex(normal + torch.diag(damping * level.expand(len(point))))
            tried = point - torch.cholesky_solve(right[:, None], factor)[:, 0]
            remainder = residuals(tried)
            if not failed and remainder.square().sum() < before:
                break
            damping *= CALMER
        else:
            break
        point, left, damping, taken = tried, remainder, damping * BOLDER, taken + 1
        point, left = _further(residuals, point, left, factor)
        if before - left.square().sum() < SETTLED * before or float(left.norm()) <= enough * size:
            break
    factor, failed = torch.linalg.cholesky_ex(normal + torch.diag(RIDGE * level.expand(len(point))))
    grown = growth(factor)
    return Minimum(
        point,
        left=float(left.norm()) / size,
        error=float(left.square().mean().sqrt()) * grown,
        determined=not failed and grown * math.sqrt(level) < OPEN,
        steps=taken,
    )
