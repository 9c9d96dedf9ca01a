"""Which candidate comes nearest to which record, and whether that is more than chance: scores of a reconstruction."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from divulge.errors import BadInputError
from divulge.metrics.images import ssim

WINDOW = 3
"""Pixels a side of the window of SSIM, as in the literature on reconstruction from weights."""
ROUNDING = 1e-6
"""Share of a channel's length up to which what varies in it is rounding."""


def correlation(candidates: Tensor, records: Tensor) -> Tensor:
    """Normalized cross-correlation of every candidate with every record, channel by channel.

    Each channel of each is brought to mean 0 and length 1, so contrast and brightness say nothing; a constant channel
    correlates with nothing.

    Args:
        candidates: `(n, C, ...)`; channels are the first dimension of a record with two or more.
        records: `(k, C, ...)`.

    Returns:
        float32 `(n, k)`, -1 to 1.

    Raises:
        BadInputError: different shapes.

    Example:
        >>> correlation(torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[2.0, 4.0, 2.0], [1.0, 0.0, 1.0]])).tolist()
        [[1.0, -1.0]]
    """
    if candidates.shape[1:] != records.shape[1:]:
        raise BadInputError(
            f"correlation: expected candidates and records of one shape, got {tuple(candidates.shape[1:])} and "
            f"{tuple(records.shape[1:])}."
        )
    left, right = (_standard(part) for part in (candidates, records))
    return (left @ right.T).round(decimals=6)


def stretched(images: Tensor) -> Tensor:
    """Each record with its least value brought to 0 and its largest to 1, all channels together.

    Example:
        >>> stretched(torch.tensor([[-1.0, 1.0, 3.0]])).tolist()
        [[0.0, 0.5, 1.0]]
    """
    flat = images.flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    return ((flat - low) / (high - low).clamp_min(1e-12)).view(images.shape)


@dataclass(frozen=True, eq=False)
class Matches:
    """What was found of some records among candidates.

    Args:
        candidate: number of the nearest candidate of each record, int64 `(k,)`.
        correlation: with it `(k,)`.
        ssim: with it, its contrast stretched, `(k,)`; NaN for records that are no images.
        found: whether the nearest candidate is nearer to this record than to every held-out one, bool `(k,)`.
    """

    candidate: Tensor
    correlation: Tensor
    ssim: Tensor
    found: Tensor


def matches(candidates: Tensor, records: Tensor, held_out: Tensor, *, center: Tensor, window: int = WINDOW) -> Matches:
    """The nearest candidate of each record, and whether held-out records explain it as well.

    Candidates and records are compared after `center` was taken from both, since what they share with every record of
    their kind is no find. Among thousands of candidates some come near to any record: one that comes nearer to a
    held-out record is no find either.

    Args:
        candidates: `(n, *shape)`, in the units of records.
        records: `(k, *shape)` in `[0, 1]`.
        held_out: of the same kind, which the network never saw `(h, *shape)`.
        center: the mean record `(*shape)`.
        window: of SSIM.

    Raises:
        BadInputError: nothing to compare, NaN, or different shapes.
    """
    for name, part in (("candidates", candidates), ("records", records), ("held-out records", held_out)):
        if len(part) == 0 or not part.isfinite().all():
            raise BadInputError(f"matches: expected one of the {name} or more, all finite, got {len(part)}.")
    near = correlation(candidates - center, records - center)
    best, candidate = near.max(dim=0)
    elsewhere = correlation(candidates - center, held_out - center).amax(dim=1)
    alike = torch.full((len(records),), torch.nan, dtype=torch.float64)
    if records.ndim == 4:
        alike = ssim(stretched(candidates[candidate]), records, window=window)
    return Matches(candidate, best, alike, best > elsewhere[candidate])


def _standard(records: Tensor) -> Tensor:
    channels = records.flatten(2) if records.ndim > 2 else records[:, None]
    centered = channels - channels.mean(dim=2, keepdim=True)
    # what is left of a constant channel is rounding, which would be as long as any other once brought to length 1
    varies = centered.norm(dim=2, keepdim=True) > ROUNDING * channels.norm(dim=2, keepdim=True)
    return (normalize(centered, dim=2) * varies).flatten(1) / channels.shape[1] ** 0.5
