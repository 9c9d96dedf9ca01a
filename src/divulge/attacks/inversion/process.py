"""What each step of a search ends with: Fredrikson et al. 2015 (doi 10.1145/2810103.2813677), algorithm 2.

Their search against a stacked autoencoder goes on in the code of its first layer: a step ends by decoding it, taking
the noise out by non-local means, sharpening, and encoding again. Against other networks their processing does nothing.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Process = Literal["identity", "denoise-sharpen", "code"]
PATCH, REACH, STRENGTH, AMOUNT = 3, 3, 0.1, 0.5


def denoise_and_sharpen(images: Tensor) -> Tensor:
    """Non-local means and then an unsharp mask, for images `(N, C, H, W)`; the result stays in their range."""
    clean = non_local_means(images)
    low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
    return sharpen(clean).clamp(low, high)


def non_local_means(images: Tensor, *, patch: int = PATCH, reach: int = REACH, strength: float = STRENGTH) -> Tensor:
    """Every pixel replaced by the mean of those around it, weighed by how alike their surroundings are.

    Buades, Coll and Morel 2005 (doi 10.1109/CVPR.2005.38): weights `exp(-d / strength^2)`, `d` the mean squared
    difference of two patches. Borders are continued by their last pixels.

    Args:
        images: `(N, C, H, W)`.
        patch: side of the surroundings, odd.
        reach: how many pixels away a pixel may be.
        strength: difference of patches that counts as noise, in units of the pixels.
    """
    height, width = images.shape[-2:]
    wide = functional.pad(images, (reach,) * 4, mode="replicate")
    total, weights = torch.zeros_like(images), torch.zeros_like(images[:, :1])
    for down in range(2 * reach + 1):
        for right in range(2 * reach + 1):
            other = wide[..., down : down + height, right : right + width]
            apart = (images - other).square().mean(dim=1, keepdim=True)
            edge = functional.pad(apart, (patch // 2,) * 4, mode="replicate")
            weight = (-functional.avg_pool2d(edge, patch, stride=1) / strength**2).exp()
            total += weight * other
            weights += weight
    return total / weights


def sharpen(images: Tensor, *, amount: float = AMOUNT) -> Tensor:
    """Each pixel moved away from the mean of the nine around it, by `amount` of the difference."""
    around = functional.avg_pool2d(functional.pad(images, (1,) * 4, mode="replicate"), 3, stride=1)
    return images + amount * (images - around)
