"""IDX files, the format of MNIST and Fashion-MNIST, plain or compressed with gzip."""

import gzip
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from divulge.data.dataset import Dataset
from divulge.data.images import to_inputs
from divulge.data.parts import known_part, require_part
from divulge.data.tables import Encoding
from divulge.errors import BadInputError

_IMAGES = re.compile(r"(?:.*-)?(?P<part>train|t10k|test)-images[-.]idx3-ubyte(?:\.gz)?")


def parts(path: Path) -> tuple[str, ...]:
    """The parts at a folder of IDX files, or the one of a file of images; none if it is neither."""
    return tuple(_files(path))


def read(path: Path, *, part: str = "train", encoding: Encoding | None = None) -> Dataset:
    """Read IDX files of images and labels.

    Source: Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits".

    Args:
        path: a folder with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and so on, each perhaps ending in
            `.gz`; or one file of images, beside the file of its labels.
        part: `train`, or `test` for the files called `t10k` or `test`.
        encoding: names the classes.

    Raises:
        BadInputError: an unknown part, no file of labels, a damaged file, or unequal numbers of images and labels.
    """
    files = _files(path)
    require_part(part, files, where=str(path))
    images = files[part]
    stem = images.name.removesuffix(".gz").replace("-images", "-labels").replace("idx3", "idx1")
    labels = next((file for file in (images.with_name(stem), images.with_name(f"{stem}.gz")) if file.is_file()), None)
    if labels is None:
        raise BadInputError(f"{images}: expected the labels in {stem} beside it, found no such file.")
    pixels, numbers = read_idx(images), read_idx(labels)
    if pixels.ndim != 3 or numbers.shape != pixels.shape[:1]:
        raise BadInputError(
            f"{images}: expected images (N, H, W) and labels (N,), got {pixels.shape} and {numbers.shape} from "
            f"{labels.name}."
        )
    return Dataset(
        to_inputs(pixels[:, None]),
        torch.from_numpy(numbers.astype(np.int64)),
        classes=encoding.classes if encoding else (),
    )


def read_idx(path: Path) -> np.ndarray:
    """The array of unsigned bytes in one IDX file.

    Raises:
        BadInputError: not IDX, another type of number, or more or fewer bytes than its header says.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise BadInputError(f"{path}: expected an IDX file, but {error}. Get the file again.") from None
    if content[:4] not in (b"\0\0\x08\x01", b"\0\0\x08\x03"):
        raise BadInputError(
            f"{path}: expected an IDX file of unsigned bytes (00 00 08 01 or 00 00 08 03), it starts with "
            f"{content[:4].hex(' ') or 'nothing'}."
        )
    start = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:start].ljust(start - 4, b"\0"))
    if len(content) - start != math.prod(shape):
        raise BadInputError(
            f"{path}: expected {math.prod(shape):,} bytes for shape {shape}, got {max(len(content) - start, 0):,}. "
            "Get the file again."
        )
    return np.frombuffer(bytearray(content), np.uint8, offset=start).reshape(shape)


def _files(path: Path) -> dict[str, Path]:
    """The file of images of each part."""
    if path.is_file():
        match = _IMAGES.fullmatch(path.name)
        return {"train": path} if match else {}
    found: dict[str, Path] = {}
    for file in sorted((*path.glob("*idx3-ubyte*"), *path.glob("*/*idx3-ubyte*"))):
        match = _IMAGES.fullmatch(file.name)
        part = known_part(match["part"]) if match else None
        if part:
            found.setdefault(part, file)
    return found
