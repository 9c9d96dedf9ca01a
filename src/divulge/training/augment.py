"""Random transforms of a batch as tensor operations, each drawing from the generator it is given."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from divulge.errors import BadInputError


def flip(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability one half; `(N, C, H, W)`."""
    chosen = torch.rand(len(batch), 1, 1, 1, generator=generator).to(batch.device) < 0.5
    return torch.where(chosen, batch.flip(3), batch)


MARGIN = 4


def crop(batch: Tensor, generator: torch.Generator, *, margin: int = MARGIN) -> Tensor:
    """Shift each image by up to `margin` pixels both ways, reflecting at the border; `(N, C, H, W)`."""
    n, _, height, width = batch.shape
    padded = functional.pad(batch, (margin,) * 4, mode="reflect")
    down, right = torch.randint(2 * margin + 1, (2, n), generator=generator)
    rows = (down[:, None] + torch.arange(height))[:, :, None]
    columns = (right[:, None] + torch.arange(width))[:, None, :]
    return padded.permute(0, 2, 3, 1)[torch.arange(n)[:, None, None], rows, columns].permute(0, 3, 1, 2)


TRANSFORMS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {"flip": flip, "crop": crop}


def transforms(names: tuple[str, ...], shape: Sequence[int]) -> list[Callable[[Tensor, torch.Generator], Tensor]]:
    """The transforms called `names`, for records of `shape`.

    Raises:
        BadInputError: an unknown name, or records that cannot be transformed so.
    """
    for name in names:
        if name not in TRANSFORMS:
            raise BadInputError(f"augment: expected any of {', '.join(TRANSFORMS)}, got {name!r}.")
    if names and len(shape) != 3:
        raise BadInputError(
            f"augment: expected images (C, H, W) to transform by {', '.join(names)}, got records of shape "
            f"{tuple(shape)}. A table, or features that were computed before, cannot be: leave augment empty."
        )
    if "crop" in names and min(shape[1:]) <= MARGIN:
        raise BadInputError(
            f"augment: expected images larger than {MARGIN} x {MARGIN} pixels to crop, got {shape[1]} x {shape[2]}. "
            "Leave crop out."
        )
    return [TRANSFORMS[name] for name in names]
