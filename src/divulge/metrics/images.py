"""How close a reconstruction comes to the record: in `[0, 1]`, after clamping."""

import torch
from torch import Tensor
from torch.nn import functional

from divulge.errors import BadInputError


def mse(found: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error of each record in `[0, 1]`, `found` clamped to it.

    Args:
        found: `(N, *shape)`.
        truth: the same shape, in `[0, 1]`.

    Returns:
        float64 `(N,)`.

    Raises:
        BadInputError: different shapes, NaN in `found`, or a truth outside `[0, 1]`.

    Example:
        >>> mse(torch.tensor([[0.5, 2.0]]), torch.tensor([[0.0, 1.0]])).tolist()
        [0.125]
    """
    found, truth = _checked(found, truth)
    return (found - truth).square().flatten(1).mean(dim=1)


def psnr(found: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each record in decibels, of a peak of 1; infinite where nothing differs.

    Shapes and errors as in `mse`.

    Example:
        >>> psnr(torch.full((1, 4), 0.6), torch.full((1, 4), 0.5)).round(decimals=3).tolist()
        [20.0]
    """
    return -10 * mse(found, truth).log10()


def ssim(found: Tensor, truth: Tensor, *, window: int = 7) -> Tensor:
    """Structural similarity of each image, the mean over channels and over uniform windows inside the image.

    Wang et al. 2004 (doi 10.1109/TIP.2003.819861) with constants 0.01 and 0.03 for a range of 1 and the sample
    covariance, as scikit-image computes it by default.

    Args:
        found: `(N, C, H, W)`, clamped to `[0, 1]`.
        truth: the same shape, in `[0, 1]`.
        window: pixels a side, odd.

    Returns:
        float64 `(N,)`.

    Raises:
        BadInputError: as in `mse`, records that are no images, or a window that does not fit.
    """
    found, truth = _checked(found, truth)
    if truth.ndim != 4 or window % 2 == 0 or not 3 <= window <= min(truth.shape[-2:]):
        raise BadInputError(
            f"ssim: expected images (N, C, H, W) and an odd window of 3 or more that fits them, got shape "
            f"{tuple(truth.shape)} and window {window}."
        )
    planes = torch.cat([found, truth, found * found, truth * truth, found * truth])
    a, b, aa, bb, ab = functional.avg_pool2d(planes, window, stride=1).chunk(5)
    unbiased = window**2 / (window**2 - 1)
    spread_a, spread_b, both = (unbiased * part for part in (aa - a * a, bb - b * b, ab - a * b))
    one, two = 0.01**2, 0.03**2
    similarity = (2 * a * b + one) * (2 * both + two) / ((a * a + b * b + one) * (spread_a + spread_b + two))
    return similarity.flatten(1).mean(dim=1)


def best_order(found: Tensor, truth: Tensor) -> Tensor:
    """Which reconstruction belongs to which record of a batch: the assignment of the least total squared error.

    Args:
        found: `(B, *shape)`.
        truth: `(B, *shape)`.

    Returns:
        int64 `(B,)`, such that `found[order]` goes with `truth`.

    Example:
        >>> best_order(torch.tensor([[0.1], [0.9], [0.4]]), torch.tensor([[1.0], [0.0], [0.5]])).tolist()
        [1, 0, 2]
    """
    from scipy.optimize import linear_sum_assignment

    found, truth = _checked(found, truth)
    costs = torch.cdist(truth.flatten(1), found.flatten(1)).square()
    return torch.from_numpy(linear_sum_assignment(costs.numpy())[1])


def _checked(found: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    if found.shape != truth.shape:
        raise BadInputError(
            f"images: expected reconstructions and records of one shape, got {tuple(found.shape)} and "
            f"{tuple(truth.shape)}."
        )
    if torch.isnan(found).any():
        raise BadInputError("images: a reconstruction holds NaN. Leave out what the attack did not find.")
    if truth.numel() and not (truth.min() >= 0 and truth.max() <= 1):
        raise BadInputError(
            f"images: expected records in [0, 1], got {float(truth.min()):.4g} to {float(truth.max()):.4g}. Undo the "
            "standardization first."
        )
    return found.detach().cpu().double().clamp(0, 1), truth.detach().cpu().double()
