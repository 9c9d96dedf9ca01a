"""Decoding pictures into one array."""

import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from divulge.data.text import inert
from divulge.errors import BadInputError

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff"))
"""File names that are taken for pictures, in lower case."""

Size = int | tuple[int, int]
Item = tuple[str, bytes | Path]

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM", "TIFF")  # no format whose decoder starts another program
_BATCH = 256
_THREADED = 100 * 100  # below this many bytes a picture, threads spend more on the interpreter's lock than they gain


def to_inputs(pixels: np.ndarray) -> Tensor:
    """Pixels uint8 `(N, C, H, W)` as a dataset's inputs, float32 in `[0, 1]`."""
    return torch.from_numpy(pixels).to(torch.float32).div_(255)


def both_sides(size: Size | None) -> tuple[int, int] | None:
    """A size as `(height, width)`; one number means a square.

    Raises:
        BadInputError: not one or two positive whole numbers.
    """
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise BadInputError(f"size: expected a positive whole number or (height, width), got {size!r}.")
    return sides


def decode(
    encoded: Iterable[bytes | Path], *, ids: Sequence[str], size: Size | None = None, channels: int | None = None
) -> np.ndarray:
    """Decode pictures to uint8 `(N, C, H, W)`.

    Args:
        encoded: file contents or files, in order.
        ids: what to call each picture in an error; their number is N.
        size: resize to this height and width; without it all pictures must be of one size.
        channels: 1 for gray, 3 for color; by default color if any picture has it. Palettes are looked up and
            transparency is dropped.

    Raises:
        BadInputError: no picture, one that cannot be decoded or has more than 8 bits a channel, or pictures of several
            sizes.
    """
    sides = both_sides(size)
    if channels not in (None, 1, 3):
        raise BadInputError(f"channels: expected 1 (gray) or 3 (color), got {channels!r}.")
    if not ids:
        raise BadInputError("expected pictures, found none.")

    def one(item: Item) -> np.ndarray:
        return _decode(*item, sides=sides, channels=channels)

    pictures = _mapped(one, zip(ids, encoded, strict=True))
    first = next(pictures)
    pixels = np.empty((len(ids), *first.shape), np.uint8)
    for row, picture in enumerate(itertools.chain([first], pictures)):
        if picture.shape[1:] != pixels.shape[2:]:
            raise BadInputError(
                f"picture {ids[row]}: expected {_by(pixels)} pixels as in {ids[0]}, got {_by(picture)}. "
                "Pass size=(height, width) to resize them all."
            )
        if len(picture) > pixels.shape[1]:  # the first picture in color after gray ones
            pixels = np.repeat(pixels, 3, axis=1)
        pixels[row] = picture
    return pixels


def _mapped(one: Callable[[Item], np.ndarray], items: Iterator[Item]) -> Iterator[np.ndarray]:
    """`one` of each item in order, in threads where the pictures are large."""
    first = one(next(items))
    yield first
    if first.size < _THREADED:
        yield from map(one, items)
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while batch := list(itertools.islice(items, _BATCH)):
            yield from pool.map(one, batch)


def _decode(name: str, source: bytes | Path, *, sides: tuple[int, int] | None, channels: int | None) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(source if isinstance(source, Path) else io.BytesIO(source), formats=_FORMATS) as image:
            mode = image.mode
            gray = channels == 1 or (channels is None and mode in ("1", "L", "LA"))
            flat = image.convert("L" if gray else "RGB")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise BadInputError(f"picture {name}: expected one of {', '.join(_FORMATS)}, but {inert(error)}.") from None
    if mode.startswith(("I", "F")):
        raise BadInputError(
            f"picture {name}: expected 8 bits a channel, got mode {mode!r}. Convert it to 8 bits first."
        )
    if sides is not None and flat.size != sides[::-1]:
        flat = flat.resize(sides[::-1], Image.Resampling.BILINEAR)
    pixels = np.asarray(flat)
    return pixels[None] if gray else pixels.transpose(2, 0, 1)


def _by(pixels: np.ndarray) -> str:
    return f"{pixels.shape[-2]} x {pixels.shape[-1]}"
