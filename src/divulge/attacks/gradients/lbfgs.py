"""L-BFGS over many problems at once, each with its own curvature and its own end."""

import math

import torch
from torch import Tensor
from torch.linalg import solve_triangular, vecdot

from divulge.attacks.gradients.minimize import Best, Evaluate, Minimized, Project

INNER = 20
"""Iterations in a step; this and the constants below are those of `torch.optim.LBFGS`, which the papers used."""
HISTORY = 100
FLAT = 1e-7
STALLED = 1e-9
CURVED = 1e-10


class Curvature:
    """What each problem remembers of its last moves and of how they changed its gradient.

    The inverse Hessian is applied in the compact form of Byrd, Nocedal and Schnabel 1994 (doi 10.1007/BF01582063,
    theorem 2.2), which is the two-loop recursion in a few products of matrices instead of 400 of vectors.
    """

    def __init__(self, start: Tensor) -> None:
        problems, width = start.shape
        self.moves = start.new_zeros(problems, HISTORY, width)
        self.changes = start.new_zeros(problems, HISTORY, width)
        # inner products of the remembered, in float64, as small differences of them matter
        self.across = torch.eye(HISTORY).repeat(problems, 1, 1).to(start).double()
        self.within = torch.zeros_like(self.across)
        self.scale = start.new_ones(problems, 1)
        self.seen = 0

    def remember(self, move: Tensor, change: Tensor) -> None:
        """Take in one move `(m, n)` of each problem; one along which its slope did not grow is left out."""
        slot = self.seen % HISTORY
        self.seen += 1
        curvature = vecdot(change, move)[:, None]
        curved = curvature > CURVED
        self.moves[:, slot] = torch.where(curved, move, 0)
        self.changes[:, slot] = change = torch.where(curved, change, 0)
        self.across[:, slot] = 0
        self.across[:, :, slot] = _times(self.moves, change)
        self.across[:, slot, slot] += (~curved)[:, 0]
        self.within[:, slot] = self.within[:, :, slot] = _times(self.changes, change)
        self.scale = torch.where(curved, curvature / vecdot(change, change)[:, None], self.scale)

    def direction(self, gradient: Tensor) -> Tensor:
        """Minus the approximate inverse Hessian times `gradient` `(m, n)`."""
        used = min(self.seen, HISTORY)
        age = torch.arange(self.seen - used, self.seen) % HISTORY
        across, within = (table[:, age][:, :, age] for table in (self.across, self.within))
        kept_moves, kept_changes = self.moves[:, :used], self.changes[:, :used]
        moves, changes = _times(kept_moves, gradient)[:, age], _times(kept_changes, gradient)[:, age]
        scale = self.scale.double()
        first = solve_triangular(across.triu(), moves[:, :, None], upper=True)[:, :, 0]
        inner = across.diagonal(dim1=1, dim2=2) * first + scale * (_times(within, first) - changes)
        second = solve_triangular(across.triu().mT, inner[:, :, None], upper=False)[:, :, 0]
        slot = age.argsort()
        along, against = second[:, None, slot].to(gradient), (scale * first)[:, None, slot].to(gradient)
        return -self.scale * gradient - (along @ kept_moves - against @ kept_changes)[:, 0]

    def keep(self, mask: Tensor) -> None:
        """Forget the problems outside `mask`."""
        self.moves, self.changes, self.across, self.within, self.scale = (
            one[mask] for one in (self.moves, self.changes, self.across, self.within, self.scale)
        )


def _times(rows: Tensor, vector: Tensor) -> Tensor:
    return (rows @ vector[:, :, None])[:, :, 0].double()


def lbfgs(
    evaluate: Evaluate, start: Tensor, *, steps: int, lr: float, project: Project, enough: float = -math.inf
) -> Minimized:
    """Minimize each row of `start` `(M, n)` by L-BFGS without line search (Liu & Nocedal 1989, doi 10.1007/BF01589116).

    A step is up to 20 iterations, fewer where a problem stalls: what `torch.optim.LBFGS` does on each row alone.

    Args:
        evaluate: see `Evaluate`.
        start: the first points.
        steps: how many.
        lr: length of a step in units of the quasi-Newton direction.
        project: applied after every iteration.
        enough: a problem whose matching is this or less is done.
    """
    best = Best(start, enough=enough)
    running = torch.arange(len(start), device=start.device)
    points, curvature = start, Curvature(start)
    objective, gradient, matching = evaluate(points, running)
    going = best.see(points, running, objective, gradient, matching)
    taken = torch.zeros_like(running)
    inner = torch.zeros_like(running)
    length = lr / gradient.abs().sum(1, keepdim=True).clamp(min=1)
    while True:
        direction = curvature.direction(gradient)
        going &= (gradient.abs().amax(1) > FLAT) & (vecdot(gradient, direction) < -STALLED) & (taken < steps)
        if not going.all():
            curvature.keep(going)
            running, points, objective, gradient, direction, taken, inner = (
                one[going] for one in (running, points, objective, gradient, direction, taken, inner)
            )
            length = length[going]
        if not len(running):
            return best.result()
        reached = project(points + length * direction)
        before, slope = objective, gradient
        objective, gradient, matching = evaluate(reached, running)
        going = best.see(reached, running, objective, gradient, matching)
        move = reached - points
        curvature.remember(move, gradient - slope)
        stalled = (move.abs().amax(1) <= STALLED) | ((objective - before).abs() < STALLED)
        inner += 1
        ends = stalled | (inner == INNER)
        taken += ends
        inner[ends] = 0
        points, length = reached, torch.full_like(length, lr)
