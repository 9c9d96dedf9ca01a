"""How near reconstructions come to what clients kept private."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from divulge.metrics.images import best_order, mse, psnr, ssim

MOST = 150.0
"""Decibels: no record in float32 can be met more closely than this, but by luck."""
WINDOW = 7
"""Pixels a side of the windows of the structural similarity."""


def aligned(found: Tensor, truth: Tensor) -> Tensor:
    """The order `(victims, batch)` in which records `(victims, batch, *shape)` go with the true ones of their batch."""
    pairs = zip(found, truth, strict=True)
    return torch.stack([best_order(one, other) for one, other in pairs])


def pictures(found: Tensor, truth: Tensor, *, scale: Tensor | float = 1.0) -> dict[str, Tensor]:
    """The scores of aligned reconstructions, float64 `(victims,)` each, means over the batch.

    Args:
        found: `(victims, batch, *shape)`.
        truth: the same shape, in `[0, 1]`.
        scale: pixels in one unit of the network's own.

    Returns:
        `mse` and `psnr` in `[0, 1]`, `network mse` in the network's units and without clamping, and `ssim` where the
        records are images that a window fits into.
    """
    flat = [side.flatten(0, 1) for side in (found, truth)]
    scores = {
        "mse": mse(*flat),
        "network mse": ((flat[0] - flat[1]).double().cpu() / scale).square().flatten(1).mean(dim=1),
        "psnr": psnr(*flat).clamp(max=MOST),
    }
    if found.ndim == 5 and min(found.shape[-2:]) >= WINDOW:
        scores["ssim"] = ssim(*flat, window=WINDOW)
    return {name: values.view(len(found), -1).mean(dim=1) for name, values in scores.items()}


def noises(found: Mapping[str, Tensor], truth: Sequence[Mapping[str, Tensor]], order: Tensor) -> dict[str, Tensor]:
    """How near the noise of stochastic layers was met: `noise mse`, float64 `(victims,)`; nothing for no noise.

    Noise that was not rebuilt counts as zero. Independent draws from a standard normal law would score 2.

    Args:
        found: by layer, `(victims, batch, ...)`.
        truth: for each victim what was drawn, by layer `(batch, ...)`.
        order: the order in which records go with the true ones of their batch, `(victims, batch)`.
    """
    errors = []
    for name, values in found.items():
        true = torch.stack([own[name].double().cpu() for own in truth])
        best = torch.stack([own[rows] for own, rows in zip(values.double().cpu().nan_to_num(), order, strict=True)])
        errors.append((best - true).square().flatten(1))
    return {"noise mse": torch.cat(errors, dim=1).mean(dim=1)} if errors else {}


def distortion(shared: Mapping[str, Tensor], honest: Mapping[str, Tensor]) -> float:
    """How far what was shared is from the gradient, as a share of the gradient's length."""
    change = sum(float((shared[name] - honest[name]).double().square().sum()) for name in honest)
    return (change / sum(float(one.double().square().sum()) for one in honest.values())) ** 0.5
