"""The candidates of several searches as one list: the better searches, and each candidate once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from divulge.attacks.reconstruction.kkt import Candidates
from divulge.errors import BadInputError
from divulge.metrics.nearest import correlation

SAME = 0.95
"""Correlation from which two candidates of a class are one."""


def pooled(found: Sequence[Candidates], *, searches: int, center: Tensor) -> Candidates:
    """Keep the searches with the least loss, and merge candidates of one class that are nearly the same.

    Merged candidates are averaged, each as much as its multiplier; where two searches agree their noise cancels.

    Args:
        found: of one network.
        searches: how many to keep of all.
        center: the mean record `(*shape)`, which all share.

    Raises:
        BadInputError: no search ended with a finite loss.
    """
    losses = torch.cat([one.losses for one in found])
    order = losses.argsort()[:searches]
    order = order[losses[order].isfinite()]
    if len(order) == 0:
        raise BadInputError("kkt: every search diverged. Lower lr.")
    first = torch.tensor([0, *(len(one.losses) for one in found)]).cumsum(0)
    run = torch.cat([one.run + start for one, start in zip(found, first, strict=False)])
    mine = torch.isin(run, order)
    inputs = torch.cat([one.inputs for one in found])[mine]
    targets = torch.cat([one.targets for one in found])[mine]
    multipliers = torch.cat([one.multipliers for one in found])[mine]
    alike = (correlation(inputs - center, inputs - center) > SAME) & (targets[:, None] == targets)
    left = torch.ones(len(inputs), dtype=torch.bool)
    alike.fill_diagonal_(True)
    leaders, groups = [], []
    for leader in multipliers.abs().argsort(descending=True).tolist():
        if left[leader]:
            leaders.append(leader)
            groups.append((alike[leader] & left).nonzero()[:, 0])
            left[groups[-1]] = False
    return Candidates(
        torch.stack([_average(inputs[group], multipliers[group]) for group in groups]),
        targets[leaders],
        torch.stack([multipliers[group].sum() for group in groups]),
        run[mine][leaders],
        losses,
        {"searches kept": order.tolist(), "merged": int(mine.sum()) - len(groups)},
    )


def _average(inputs: Tensor, multipliers: Tensor) -> Tensor:
    shares = multipliers.abs() / multipliers.abs().sum().clamp_min(1e-12)
    return torch.einsum("n,n...->...", shares, inputs)
