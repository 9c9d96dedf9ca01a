"""CIFAR-10 and CIFAR-100 as their author distributes them: the binary version and the Python version."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from divulge.data.dataset import Dataset
from divulge.data.images import to_inputs
from divulge.data.parts import require_part
from divulge.data.sources.batches import read_batch
from divulge.data.tables import Encoding
from divulge.data.text import inert
from divulge.errors import BadInputError

_PIXELS = 3 * 32 * 32


class _Version(NamedTuple):
    files: dict[str, tuple[str, ...]]
    labels: tuple[str, ...]  # in the order of the bytes before each image


_TEN = _Version({"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}, ("label",))
_HUNDRED = _Version({"train": ("train",), "test": ("test",)}, ("coarse_label", "fine_label"))
_KEYS = {"label": b"labels", "coarse_label": b"coarse_labels", "fine_label": b"fine_labels"}
_BINARY_NAMES = {
    "label": "batches.meta.txt",
    "coarse_label": "coarse_label_names.txt",
    "fine_label": "fine_label_names.txt",
}
_PYTHON_NAMES = {"label": b"label_names", "coarse_label": b"coarse_label_names", "fine_label": b"fine_label_names"}


def parts(path: Path) -> tuple[str, ...]:
    """The parts at a folder of CIFAR batches; none if it is no such folder."""
    found = _locate(path)
    return tuple(part for part, files in found[2].items() if files[0].is_file()) if found else ()


def read(
    path: Path,
    *,
    part: str = "train",
    target: str = "",
    attributes: Sequence[str] = (),
    encoding: Encoding | None = None,
) -> Dataset:
    """Read CIFAR batches, binary or Python's, of CIFAR-10 or CIFAR-100.

    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. The Python version is pickled;
    it is read by a reader that knows plain values and arrays of bytes and refuses everything else.

    Args:
        path: a folder with `data_batch_1.bin` or `data_batch_1` and so on (CIFAR-10), or `train.bin` or `train`
            (CIFAR-100).
        part: `train` or `test`.
        target: `label`; for CIFAR-100 `fine_label` (the default) or `coarse_label`.
        attributes: further columns of labels to keep.
        encoding: names the classes; by default the names in the folder.

    Raises:
        BadInputError: an unknown part or column, a lacking batch, a damaged one, or one that holds other objects.
    """
    require_part(part, parts(path), where=str(path))
    version, binary, by_part = _locate(path) or (_TEN, True, {})
    files = by_part[part]
    for file in files:
        if not file.is_file():
            raise BadInputError(f"{file}: expected all {len(files)} batches of part {part!r}, this one is not there.")
    target = target or version.labels[-1]
    for name in (target, *attributes):
        if name not in version.labels:
            raise BadInputError(f"{path}: no column {name!r}. Columns: {', '.join(version.labels)}.")
    batches = [(_binary if binary else _python)(file, version) for file in files]
    labels = {name: np.concatenate([numbers[name] for _, numbers in batches]) for name in version.labels}
    names = {name: (_binary_names if binary else _python_names)(files[0].parent, name) for name in version.labels}
    encoding = encoding or Encoding()
    value_names = {name: encoding.attribute_classes.get(name) or names[name] for name in attributes}
    return Dataset(
        to_inputs(np.concatenate([pixels for pixels, _ in batches])),
        torch.from_numpy(labels[target]),
        attributes={name: torch.from_numpy(labels[name]) for name in attributes},
        classes=encoding.classes or names[target],
        attribute_classes={name: listed for name, listed in value_names.items() if listed},
    )


def _locate(path: Path) -> tuple[_Version, bool, dict[str, tuple[Path, ...]]] | None:
    """Which version lies at the folder, whether it is binary, and the files of each part."""
    for folder in (path, *(child for child in sorted(path.glob("cifar-*")) if child.is_dir())):
        for version, suffix, sign in (
            (_TEN, ".bin", ("data_batch_1.bin", "test_batch.bin")),
            (_TEN, "", ("data_batch_1", "test_batch")),
            (_HUNDRED, ".bin", ("train.bin", "test.bin")),
            (_HUNDRED, "", ("meta",)),
        ):
            if any((folder / name).is_file() for name in sign):
                files = {
                    part: tuple(folder / f"{name}{suffix}" for name in stems) for part, stems in version.files.items()
                }
                return version, bool(suffix), files
    return None


def _binary(file: Path, version: _Version) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    content = np.fromfile(file, np.uint8)
    width = len(version.labels) + _PIXELS
    if not len(content) or len(content) % width:
        raise BadInputError(
            f"{file}: expected records of {width:,} bytes, got {len(content):,} bytes. Get the file again."
        )
    rows = content.reshape(-1, width)
    labels = {name: rows[:, position].astype(np.int64) for position, name in enumerate(version.labels)}
    return rows[:, len(version.labels) :].reshape(-1, 3, 32, 32), labels


def _binary_names(folder: Path, column: str) -> tuple[str, ...]:
    file = folder / _BINARY_NAMES[column]
    if not file.is_file():
        return ()
    return tuple(inert(line) for line in file.read_text(encoding="utf-8", errors="replace").split("\n") if line.strip())


def _python(file: Path, version: _Version) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    batch = _batch(file)
    pixels = batch.get(b"data")
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        found = pixels.shape if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise BadInputError(f"{file}: expected data (N, {_PIXELS:,}) of unsigned bytes, got {found}.")
    labels = {}
    for name in version.labels:
        numbers: Any = batch.get(_KEYS[name])
        whole = isinstance(numbers, list) and all(type(number) is int and 0 <= number < 256 for number in numbers)
        if not whole or len(numbers) != len(pixels):
            raise BadInputError(f"{file}: expected a list of {len(pixels):,} class numbers as {_KEYS[name].decode()}.")
        labels[name] = np.array(numbers, dtype=np.int64)
    return pixels.reshape(-1, 3, 32, 32), labels


def _python_names(folder: Path, column: str) -> tuple[str, ...]:
    file = next((folder / name for name in ("batches.meta", "meta") if (folder / name).is_file()), None)
    listed = _batch(file).get(_PYTHON_NAMES[column], []) if file else []
    return tuple(inert(name.decode("utf-8", "replace")) for name in listed if isinstance(name, bytes))


def _batch(file: Path) -> dict[bytes, Any]:
    try:
        return read_batch(file.read_bytes())
    except BadInputError as error:
        raise BadInputError(f"{file}: {error}") from None
