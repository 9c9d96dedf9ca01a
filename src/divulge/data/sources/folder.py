"""Folders of pictures, one subfolder for each class."""

from collections.abc import Sequence
from pathlib import Path

import torch

from divulge.data.cache import cached
from divulge.data.dataset import Dataset
from divulge.data.images import SUFFIXES, Size, both_sides, decode, to_inputs
from divulge.data.parts import known_part, require_part
from divulge.data.tables import Encoding
from divulge.data.text import inert
from divulge.errors import BadInputError


def parts(path: Path) -> tuple[str, ...]:
    """The parts at a folder of class folders, `train` if it has none; none if there are no such pictures."""
    return tuple(_roots(path))


def read(
    path: Path,
    *,
    part: str = "train",
    size: Size | None = None,
    channels: int | None = None,
    encoding: Encoding | None = None,
) -> Dataset:
    """Read a folder with one subfolder of pictures for each class, the subfolder's name.

    Classes are numbered in the order of their names as Python sorts them, as torchvision's `ImageFolder` does. Names of
    files and classes are kept as text with unprintable characters escaped.

    Args:
        path: a folder of class folders; or of `train` and `test` folders, each with class folders.
        part: which part; a folder without parts is all `train`.
        size: resize to this height and width.
        channels: 1 for gray, 3 for color; by default as the pictures are.
        encoding: fixes the classes and their order.

    Raises:
        BadInputError: an unknown part, a class folder without pictures or of no known class, a picture that cannot be
            decoded, or pictures of several sizes.
    """
    roots = _roots(path)
    require_part(part, roots, where=str(path))
    root = roots[part]
    folders = {inert(folder.name): folder for folder in _subfolders(root)}
    classes = encoding.classes if encoding and encoding.classes else tuple(folders)
    for name in folders:
        if name not in classes:
            raise BadInputError(
                f"{root}: folder {name!r} is none of the {len(classes)} classes: {', '.join(classes[:20])}."
            )
    files, targets = [], []
    for name, folder in folders.items():
        own = _pictures(folder)
        if not own:
            raise BadInputError(
                f"{inert(folder)}: expected pictures ({', '.join(sorted(SUFFIXES))}), found none. Remove the folder."
            )
        files += own
        targets += [classes.index(name)] * len(own)
    return pictures(files, targets, root=root, classes=classes, size=size, channels=channels)


def pictures(
    files: Sequence[Path],
    targets: Sequence[int],
    *,
    root: Path,
    classes: tuple[str, ...],
    size: Size | None,
    channels: int | None,
) -> Dataset:
    """A dataset of picture files, called by their paths below `root`."""
    ids = tuple(inert(file.relative_to(root).as_posix()) for file in files)
    options = {"kind": "files", "size": both_sides(size), "channels": channels}
    pixels = cached(files, options, lambda: decode(files, ids=ids, size=size, channels=channels))
    return Dataset(to_inputs(pixels), torch.tensor(targets), classes=classes, ids=ids)


def _roots(path: Path) -> dict[str, Path]:
    """The folder of class folders of each part."""
    folders = _subfolders(path)
    named = {known_part(folder.name): folder for folder in folders}
    if folders and None not in named:
        return {part: folder for part, folder in named.items() if part and _has_pictures(folder)}
    return {"train": path} if _has_pictures(path) else {}


def _has_pictures(root: Path) -> bool:
    return any(_is_picture(file) for folder in _subfolders(root) for file in folder.rglob("*"))


def _subfolders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if _is_picture(file))


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
