"""What was done to a gradient before it was shared: columns zeroed, small entries pruned, values rounded, noise."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from divulge.attacks.gradients.layers import linear_layers
from divulge.releases import GradientRecord

LEVELS = 256
"""A tensor with at most so many different values, each four times in the mean or more, was rounded."""
ROUNDING = 1e-6
"""Noise below this share of a gradient's largest singular value may be that of float32."""
CROWD = 10
"""Surviving magnitudes that are compared to see whether smaller ones were pruned."""
HEAVY = 4.5
"""Kurtosis halfway between a normal law's 3 and a Laplace law's 6."""


@dataclass(frozen=True, eq=False)
class Traces:
    """What a shared tensor looks like to an attacker who knows of no defense.

    Args:
        zeros: share of entries that are exactly zero.
        hidden: which columns of a weight gradient are zero though others are not; None for a tensor without columns.
            After ReLU they may be inactive features, after a sigmoid they were masked.
        pruned_below: the smallest magnitude that survived, if entries were pruned by magnitude; None if not.
        levels: different values besides zero, if so few that they were rounded; None if not.
        precision: the narrowest format that holds all values.
    """

    zeros: float
    hidden: Tensor | None
    pruned_below: float | None
    levels: int | None
    precision: Literal["bfloat16", "float16", "float32", "float64"]


@dataclass(frozen=True)
class Noise:
    """Noise found in a linear layer's gradient.

    Args:
        std: of each entry.
        law: whichever of the two fits its kurtosis better.
    """

    std: float
    law: Literal["gaussian", "laplace"]


def traces(tensor: Tensor) -> Traces:
    """Look at one shared gradient.

    Example:
        >>> traces(torch.tensor([[0.0, 1.5], [0.0, -0.1]])).hidden.tolist()
        [True, False]
    """
    zero = tensor == 0
    hidden = zero.all(dim=0) if tensor.ndim == 2 and not zero.all() else None
    values = tensor[~zero].unique().numel()
    levels = values if 0 < values <= min(LEVELS, int((~zero).sum()) // 4) else None
    return Traces(
        zeros=float(zero.double().mean()),
        hidden=hidden,
        pruned_below=_threshold(tensor) if levels is None else None,
        levels=levels,
        precision=_precision(tensor),
    )


def noise_floor(record: GradientRecord, model: nn.Module) -> dict[str, Noise]:
    """Noise in the weight gradients of linear layers, by the layers' names; those without any are left out.

    A batch of B gives such a gradient rank B; what is left beyond is noise, and its size needs no other knowledge.
    """
    found = {}
    for layer in linear_layers(record, model):
        rank = record.batch_size * record.local_steps
        rows, columns = layer.weight.shape
        if rank >= min(rows, columns) - 1:
            continue
        left, sizes, right = torch.linalg.svd(layer.weight, full_matrices=False)
        rest = (left[:, rank:] * sizes[rank:]) @ right[rank:]
        std = float(rest.norm()) / math.sqrt((rows - rank) * (columns - rank))
        if std * math.sqrt(max(rows, columns)) > ROUNDING * float(sizes[0]):
            kurtosis = float((rest**4).mean() / (rest**2).mean() ** 2)
            found[layer.name] = Noise(std, "gaussian" if kurtosis < HEAVY else "laplace")
    return found


def _threshold(tensor: Tensor) -> float | None:
    """The magnitude below which entries were pruned.

    Without pruning the smallest magnitudes spread over all sizes down to zero: the smallest is about a tenth of the
    tenth, and more than half of it by a chance of 1 in 512. Above a threshold they crowd.
    """
    sizes = tensor[tensor != 0].abs()
    if not CROWD <= sizes.numel() < tensor.numel():
        return None
    smallest, tenth = (float(sizes.kthvalue(place).values) for place in (1, CROWD))
    return smallest if smallest > 0.5 * tenth else None


def _precision(tensor: Tensor) -> Literal["bfloat16", "float16", "float32", "float64"]:
    if torch.equal(tensor.bfloat16().to(tensor), tensor):
        return "bfloat16"
    if torch.equal(tensor.half().to(tensor), tensor):
        return "float16"
    return "float32" if torch.equal(tensor.float().to(tensor), tensor) else "float64"
