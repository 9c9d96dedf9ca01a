"""UTKFace as its authors distribute it: labels in the names of the files."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from divulge.data.dataset import Dataset
from divulge.data.images import Size
from divulge.data.parts import require_part
from divulge.data.sources.folder import pictures
from divulge.data.tables import Encoding
from divulge.errors import BadInputError

_LABELS = ("age", "gender", "race")
_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_\d+\.jpg(\.chip\.jpg)?")


def parts(path: Path) -> tuple[str, ...]:
    """`train` for a folder of files such as `26_1_0_20170116171048641.jpg.chip.jpg`; none for anything else."""
    return ("train",) if next(_files(path), None) else ()


def read(
    path: Path,
    *,
    part: str = "train",
    target: str = "gender",
    attributes: Sequence[str] = (),
    size: Size | None = None,
    channels: int | None = None,
    encoding: Encoding | None = None,
) -> Dataset:
    """Read faces whose age, gender and race stand in their file names; files named otherwise are left out.

    Source: Z. Zhang, Y. Song and H. Qi, "Age Progression/Regression by Conditional Adversarial Autoencoder", CVPR 2017.

    Args:
        path: the folder of the files, or the one above it.
        part: `train`; there is no other.
        target: `age`, `gender` or `race`.
        attributes: others of these to keep.
        size: resize to this height and width.
        channels: 1 for gray, 3 for color; by default as the pictures are.
        encoding: names the classes.

    Raises:
        BadInputError: an unknown label, or a picture that cannot be decoded.
    """
    require_part(part, parts(path), where=str(path))
    for name in (target, *attributes):
        if name not in _LABELS:
            raise BadInputError(f"{path}: no label {name!r}. Labels: {', '.join(_LABELS)}.")
    encoding = encoding or Encoding()
    found = sorted(_files(path))
    numbers = torch.tensor([[int(number) for number in file.name.split("_")[:3]] for file in found])
    columns = dict(zip(_LABELS, numbers.unbind(1), strict=True))
    faces = pictures(found, columns[target].tolist(), root=path, classes=encoding.classes, size=size, channels=channels)
    names = {name: encoding.attribute_classes[name] for name in attributes if encoding.attribute_classes.get(name)}
    return replace(faces, attributes={name: columns[name] for name in attributes}, attribute_classes=names)


def _files(path: Path) -> Iterator[Path]:
    return (file for pattern in ("*.jpg", "*/*.jpg") for file in path.glob(pattern) if _NAME.fullmatch(file.name))
