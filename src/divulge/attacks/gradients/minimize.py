"""Many independent minimizations side by side: one row of a matrix each, with its own state and its own end."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Evaluate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""From points `(m, n)` and the problems that they belong to `(m,)` to the objective `(m,)`, its gradient `(m, n)`, and
the part of the objective that is the matching `(m,)`."""
Project = Callable[[Tensor], Tensor]
"""From points `(m, n)` to the nearest points that are allowed."""


@dataclass(frozen=True, eq=False)
class Minimized:
    """Where the minimizations ended: each at the best point that it saw.

    Args:
        points: `(M, n)`.
        objective: what was made small, `(M,)`; infinite where no point of a problem was finite.
        matching: its matching part, `(M,)`.
        diverged: problems that met a value that was not finite and stopped there, bool `(M,)`.
        evaluations: gradients computed, over all problems.
    """

    points: Tensor
    objective: Tensor
    matching: Tensor
    diverged: Tensor
    evaluations: int


class Best:
    """The best point of each problem so far."""

    def __init__(self, start: Tensor, *, enough: float) -> None:
        problems = len(start)
        self.points = start.clone()
        self.objective = start.new_full((problems,), math.inf)
        self.matching = start.new_full((problems,), math.inf)
        self.diverged = torch.zeros(problems, dtype=torch.bool, device=start.device)
        self.enough = enough
        self.evaluations = 0

    def see(self, points: Tensor, problems: Tensor, objective: Tensor, gradient: Tensor, matching: Tensor) -> Tensor:
        """Keep what is better; returns which of `problems` may go on, bool `(m,)`."""
        self.evaluations += len(points)
        finite = objective.isfinite() & gradient.isfinite().all(dim=1)
        self.diverged[problems[~finite]] = True
        better = finite & (objective < self.objective[problems])
        winners = problems[better]
        self.points[winners] = points[better]
        self.objective[winners] = objective[better]
        self.matching[winners] = matching[better]
        return finite & (matching > self.enough)

    def result(self) -> Minimized:
        """What was found."""
        return Minimized(self.points, self.objective, self.matching, self.diverged, self.evaluations)


def in_turn(minimize: Callable[[Tensor], Minimized], rows: Tensor, start: Tensor, *, enough: float) -> Minimized:
    """Run the restarts of each victim one after another, until one matches enough.

    Args:
        minimize: runs the restarts of some rows `(m,)` of `start`.
        rows: the restarts of each victim, `(victims, restarts)`.
        start: `(M, n)`.
        enough: the matching that is enough.
    """
    best = Best(start, enough=enough)
    for turn in rows.T:
        left = turn[best.matching[rows].amin(dim=1) > enough]
        if len(left):
            found = minimize(left)
            best.points[left], best.objective[left], best.matching[left] = found.points, found.objective, found.matching
            best.diverged[left] = found.diverged
            best.evaluations += found.evaluations
    return best.result()
