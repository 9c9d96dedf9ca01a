"""Which of several drawings of a class to keep: the one that stays in it when it is moved a little."""

import torch
from torch import Tensor, nn
from torch.nn import functional

SHIFT, ZOOM, NOISE, DRAWS = 2, 1.06, 0.05, 4


def robustness(model: nn.Module, records: Tensor, targets: Tensor, *, generator: torch.Generator) -> Tensor:
    """Mean posterior `(k,)` of the class over small changes of each record.

    Images `(k, C, H, W)` are shifted in four directions, enlarged and blurred, as Struppek et al. 2022 (arXiv
    2201.12179) choose among candidates; other records get a little noise of their own spread.
    """
    changed = _images(records) if records.ndim == 4 else _noisy(records, generator)
    with torch.no_grad():
        seen = [model(one).softmax(dim=1).gather(1, targets[:, None])[:, 0] for one in (records, *changed)]
    return torch.stack(seen).mean(dim=0)


def _images(images: Tensor) -> list[Tensor]:
    height, width = images.shape[-2:]
    wide = functional.pad(images, (SHIFT,) * 4, mode="replicate")
    shifted = [
        wide[..., down : down + height, right : right + width]
        for down, right in ((0, SHIFT), (2 * SHIFT, SHIFT), (SHIFT, 0), (SHIFT, 2 * SHIFT))
    ]
    size = (round(height * ZOOM), round(width * ZOOM))
    larger = functional.interpolate(images, size, mode="bilinear", align_corners=False)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    blurred = functional.avg_pool2d(functional.pad(images, (1,) * 4, mode="replicate"), 3, stride=1)
    return [*shifted, larger[..., top : top + height, left : left + width], blurred]


def _noisy(records: Tensor, generator: torch.Generator) -> list[Tensor]:
    spread = records.flatten(1).std(dim=1).view(-1, *[1] * (records.ndim - 1))
    return [records + NOISE * spread * torch.randn(records.shape, generator=generator) for _ in range(DRAWS)]
