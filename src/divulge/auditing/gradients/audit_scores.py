"""How good a reconstruction of an audit is, record by record."""

import numpy as np
import torch
from torch import Tensor

from divulge.auditing.gradients import scoring
from divulge.auditing.gradients.audit import Exchange

GRAY = 1 / 510
"""Half a gray level of eight bits: pixels within it are the same picture."""
SAME = 1e-3
"""Within this share of a column's range a value of a table is the same."""
NEAR = 0.05
"""Within this share it is right for most purposes."""
MOSTLY = 0.9
"""Share of a row's columns that must be right for it to be recognizable."""
SIMILAR = 0.6
"""Structural similarity from which a picture is recognizable, as in Scheliga et al. 2022 (arXiv 2108.04725)."""
PEAK = 20.0
"""Decibels from which one too small for that measure is."""
POOL = 2_000
"""At most so many of the records given are compared with what was rebuilt."""


def scored(exchange: Exchange, records: Tensor, found: Tensor, truth: Tensor) -> dict[str, np.ndarray]:
    """The scores of each record `(clients, batch, *shape)`, float64 `(clients * batch,)`.

    Returns:
        `mse`, `psnr` and, for images large enough, `ssim`; for tables `columns`, the share of columns that are near,
        and `worst`, the largest error as a share of a column's range. Of records that were found, `exact`: nothing
        differs that could be seen; `picked`: it is nearer to the true record than to any other that was given; and
        `recognizable`: picked, and like it as well.
    """
    single = [side.flatten(0, 1)[:, None] for side in (records, truth)]
    told = {name: values.numpy() for name, values in scoring.pictures(*single).items() if name != "network mse"}
    errors = (single[0] - single[1]).abs().flatten(1).double()
    known, largest = found.flatten().numpy(), errors.amax(dim=1).numpy()
    told["picked"] = known & _picked(exchange, *single)
    if truth.ndim == 3:
        told["columns"] = (errors <= NEAR).double().mean(dim=1).numpy()
        told["worst"] = largest
        alike = told["columns"] >= MOSTLY
    else:
        alike = told["ssim"] >= SIMILAR if "ssim" in told else told["psnr"] >= PEAK
    told["exact"] = known & (largest <= (SAME if truth.ndim == 3 else GRAY))
    told["recognizable"] = told["exact"] | (told["picked"] & alike)
    return told


def _picked(exchange: Exchange, records: Tensor, truth: Tensor) -> np.ndarray:
    """Whether each record is nearer to the true one than to any other of those given, or of as many as are compared."""
    rows = np.random.default_rng(exchange.seed).permutation(len(exchange.records))[:POOL]
    pool = exchange.records.inputs[rows].flatten(1)
    near = torch.cdist(records.flatten(1), pool).amin(dim=1)
    own = (records - truth).flatten(1).norm(dim=1)
    return (own <= near * (1 + 1e-5) + 1e-6).numpy()
