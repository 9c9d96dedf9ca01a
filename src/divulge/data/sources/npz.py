"""NumPy archives."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from divulge.data.dataset import Dataset, as_dataset
from divulge.data.parts import require_part
from divulge.data.tables import TARGETS, Encoding, encode, encode_attribute
from divulge.data.text import inert
from divulge.errors import BadInputError

INPUTS = ("inputs", "x", "X", "images", "data", "features")
"""Names that an array of inputs usually has, the likeliest first."""

_SHORT = {"train": ("train",), "test": ("test",), "validation": ("validation", "val", "valid")}


def parts(path: Path) -> tuple[str, ...]:
    """The parts that names of arrays tell of, such as `x_train` or `test_images`; none if it is no `.npz` file."""
    if not path.is_file() or path.suffix.lower() != ".npz":
        return ()
    names = _names(path)
    return tuple(part for part in _SHORT if _find(names, INPUTS, part)) or ("train",)


def read(
    path: Path,
    *,
    part: str = "train",
    target: str = "",
    attributes: Sequence[str] = (),
    encoding: Encoding | None = None,
) -> Dataset:
    """Read an `.npz` archive of an array of inputs and one of labels; pickled objects in it are refused.

    Args:
        path: a file with arrays such as `inputs` and `targets`, `x` and `y`, `x_train` and `y_train`, `train_images`
            and `train_labels`. Images may be uint8 or floats in `[0, 1]`, `(N, H, W)`, `(N, C, H, W)` or
            `(N, H, W, C)`. An array `classes` of texts names the classes.
        part: which part to read; arrays without parts are all `train`.
        target: the array of labels; one with a usual name if left out.
        attributes: further arrays `(N,)` to keep as attributes.
        encoding: how texts become numbers.

    Raises:
        BadInputError: a damaged file, pickled objects, a lacking array, or records that `Dataset` refuses.
    """
    require_part(part, parts(path), where=str(path))
    encoding = encoding or Encoding()
    names = _names(path)
    inputs = _find(names, INPUTS, part) or _require(names, INPUTS, path)
    target = target or _find(names, TARGETS, part) or _require(names, TARGETS, path)
    values = np.atleast_1d(_array(path, target))
    known = encoding.classes
    if not known and "classes" in names:
        known = tuple(str(name) for name in _array(path, "classes"))
    numbers, classes = encode(
        values.ravel() if values.size == len(values) else values, known, where=f"{path}, array {inert(target)!r}"
    )
    data = as_dataset((_array(path, inputs), numbers), classes=classes)
    kept, attribute_classes = {}, {}
    for name in attributes:
        column, value_names = encode_attribute(
            _array(path, name), encoding.attribute_classes.get(name, ()), where=f"{path}, array {name!r}"
        )
        kept[name] = torch.from_numpy(column)
        if value_names:
            attribute_classes[name] = value_names
    return Dataset(
        data.inputs, data.targets, attributes=kept, classes=data.classes, attribute_classes=attribute_classes
    )


def _names(path: Path) -> list[str]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return list(archive.files)
    except ValueError:  # NumPy's own words advise to unpickle
        raise BadInputError(f"{path}: expected a NumPy archive, got something else. Write it with np.savez.") from None
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise BadInputError(f"{path}: expected a NumPy archive, but {inert(error)}.") from None


def _array(path: Path, name: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as archive:
            array = archive[name]
    except KeyError:
        listed = ", ".join(inert(known) for known in _names(path))
        raise BadInputError(f"{path}: no array {name!r}. Arrays: {listed}.") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadInputError(
            f"{path}, array {inert(name)!r}: expected plain numbers or texts, but {inert(error)}. "
            "Pickled objects are not read."
        ) from None
    if array.dtype.kind not in "buifU":
        raise BadInputError(f"{path}, array {inert(name)!r}: expected numbers or texts, got {array.dtype}.")
    return array


def _find(names: Sequence[str], usual: Sequence[str], part: str) -> str:
    """The array with one of the usual names, alone or joined with the part's; empty if there is none."""
    joined = [f"{name}_{short}" for short in _SHORT.get(part, ()) for name in usual]
    joined += [f"{short}_{name}" for short in _SHORT.get(part, ()) for name in usual]
    return next((name for name in joined if name in names), "")


def _require(names: Sequence[str], usual: Sequence[str], path: Path) -> str:
    found = next((name for name in usual if name in names), "")
    if not found:
        listed = ", ".join(inert(name) for name in names) or "none"
        raise BadInputError(f"{path}: expected an array called {', '.join(usual)}. Arrays: {listed}.")
    return found
