"""Adam over many problems at once, on the gradient or on its sign."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from divulge.attacks.gradients.minimize import Best, Evaluate, Minimized, Project

Sign = Literal["none", "hard", "soft"]
Schedule = Literal["constant", "steps", "cosine"]


def _three_drops(done: float) -> float:
    return 0.1 ** sum(done >= mark for mark in (3 / 8, 5 / 8, 7 / 8))


def _half_cosine(done: float) -> float:
    return (1 + math.cos(math.pi * done)) / 2


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "steps": _three_drops,
    "cosine": _half_cosine,
}
"""From the share of the steps that is done to a factor of the step size: `steps` is 0.1 after 3/8, 0.01 after 5/8 and
0.001 after 7/8."""


def adam(
    evaluate: Evaluate,
    start: Tensor,
    *,
    steps: int,
    lr: float,
    project: Project,
    sign: Sign = "none",
    signed: int = 0,
    schedule: Schedule = "constant",
    warmup: int = 0,
    enough: float = -math.inf,
) -> Minimized:
    """Minimize each row of `start` `(M, n)` by Adam (Kingma & Ba 2015, arXiv 1412.6980).

    Args:
        evaluate: see `Evaluate`.
        start: the first points.
        steps: how many.
        lr: step size before `schedule`.
        project: applied after every step.
        sign: what Adam is fed for the first `signed` columns: the gradient, its sign, or a tanh of it that turns from
            a sign into the gradient as the steps go by.
        signed: see `sign`.
        schedule: of the step size.
        warmup: steps over which the step size first grows.
        enough: a problem whose matching is this or less is done.
    """
    points = start.clone()
    best = Best(start, enough=enough)
    running = torch.arange(len(start), device=start.device)
    optimizer = torch.optim.Adam([points], lr=lr)
    for step in range(steps):
        objective, gradient, matching = evaluate(points[running], running)
        going = best.see(points[running], running, objective, gradient, matching)
        running = running[going]
        if not len(running):
            break
        direction = gradient[going]
        if sign == "hard":
            direction[:, :signed].sign_()
        elif sign == "soft":
            left = 1 - step / steps
            direction[:, :signed].mul_(left).tanh_().div_(left)
        points.grad = torch.zeros_like(points)
        points.grad[running] = direction
        optimizer.param_groups[0]["lr"] = lr * SCHEDULES[schedule](step / steps) * min(1.0, (step + 1) / max(1, warmup))
        optimizer.step()
        points.copy_(project(points))
    else:
        best.see(points[running], running, *evaluate(points[running], running))
    return best.result()
