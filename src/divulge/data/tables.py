"""Turning columns of numbers and texts into records: categories become one column for each value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from divulge.data.dataset import Dataset
from divulge.data.text import inert
from divulge.errors import BadInputError

TARGETS = ("label", "labels", "target", "targets", "class", "y", "fine_label")
"""Names a column of labels usually has, the likeliest first."""

_MOST_CATEGORIES = 1000


@dataclass(frozen=True)
class Encoding:
    """How texts become numbers, so that two files of one kind are encoded alike.

    Args:
        classes: the classes in the order of their numbers; sorted as found if left out.
        attribute_classes: the same for attributes.
        features: the columns of a table after encoding; all as found if left out.
    """

    classes: tuple[str, ...] = ()
    attribute_classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    features: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: Dataset) -> "Encoding":
        """The encoding that `data` was made with."""
        return cls(data.classes, data.attribute_classes, data.features)


def target_column(names: Sequence[str], target: str, *, where: str) -> str:
    """The column of labels: `target` if given, else one that has a usual name.

    Raises:
        BadInputError: no such column, or none with a usual name.
    """
    found = [name for name in ((target,) if target else TARGETS) if name in names]
    if found:
        return found[0]
    listed = ", ".join(inert(name) for name in names)
    if target:
        raise BadInputError(f"{where}: no column {target!r} for the labels. Columns: {listed}.")
    raise BadInputError(
        f"{where}: expected a column of labels called {', '.join(TARGETS)}; pass target=. Columns: {listed}."
    )


def categories(values: np.ndarray) -> tuple[str, ...]:
    """The distinct texts of a column, sorted."""
    return tuple(str(value) for value in np.unique(values))


def encode(values: np.ndarray, names: Sequence[str], *, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """A column of labels or categories as class numbers, and what the numbers are called.

    Args:
        values: whole numbers, which stay as they are, or texts.
        names: the texts in the order of their numbers, or names for the numbers; empty for the texts as found, sorted.
        where: what to call the column in an error.

    Returns:
        int64 numbers `(N,)` and their names, which are empty for numbers without names.

    Raises:
        BadInputError: numbers that are not whole, or a text that is not among `names`.
    """
    if values.dtype.kind == "U":
        known = tuple(names) or categories(values)
        number = {name: position for position, name in enumerate(known)}
        distinct, rows = np.unique(values, return_inverse=True)
        for value in distinct:
            if value not in number:
                listed = ", ".join(inert(name) for name in known[:20])
                raise BadInputError(f"{where}: {inert(value)!r} is not one of its {len(known)} values: {listed}.")
        codes = np.array([number[str(value)] for value in distinct], dtype=np.int64)
        return codes[rows], tuple(inert(name) for name in known)
    if not np.array_equal(values, np.round(values)):
        wrong = values[values != np.round(values)][0]
        raise BadInputError(f"{where}: expected class numbers or texts, got {wrong}. Only classification is audited.")
    return values.astype(np.int64), tuple(inert(name) for name in names)


def encode_attribute(values: np.ndarray, names: Sequence[str], *, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """An attribute column: measurements as float32, whole numbers and texts as `encode` gives them."""
    if values.dtype.kind == "f" and not np.array_equal(values, np.round(values)):
        return values.astype(np.float32), ()
    return encode(values, names, where=where)


def from_columns(
    columns: Mapping[str, np.ndarray],
    *,
    where: str,
    target: str = "",
    attributes: Sequence[str] = (),
    encoding: Encoding | None = None,
    vocabulary: Mapping[str, Sequence[str]] | None = None,
) -> Dataset:
    """Make a dataset of a table.

    Every column but the target is a feature, attributes too: a number as it is, a text as one column `name=value` for
    each of its values, 1 where the record has it.

    Args:
        columns: numbers or texts (dtype U) `(N,)` by name.
        where: what to call the table in an error.
        target: the column of labels; one with a usual name if left out.
        attributes: columns to keep as attributes as well.
        encoding: how texts become numbers; by default from the texts found, sorted.
        vocabulary: the values of text columns, where they are known beyond this table.

    Raises:
        BadInputError: an unknown column or value, a missing value, or a text column with over 1,000 values.
    """
    encoding, vocabulary = encoding or Encoding(), vocabulary or {}
    columns = {inert(name): _inert(values) for name, values in columns.items()}
    target = target_column(tuple(columns), target, where=where)
    for name in attributes:
        if name not in columns:
            raise BadInputError(f"{where}: no column {name!r} for an attribute. Columns: {', '.join(columns)}.")
    for name, values in columns.items():
        _refuse_missing(values, where=f"{where}, column {name!r}")
    classes = encoding.classes or vocabulary.get(target, ())
    targets, classes = encode(columns[target], classes, where=f"{where}, column {target!r}")
    kept, attribute_classes = {}, {}
    for name in attributes:
        known = encoding.attribute_classes.get(name) or vocabulary.get(name, ())
        values, names = encode_attribute(columns[name], known, where=f"{where}, column {name!r}")
        kept[name] = torch.from_numpy(values)
        if names:
            attribute_classes[name] = names
    if encoding.features:
        vocabulary = {name: _values_of(name, encoding.features) for name in columns}
    features: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        if name != target:
            features |= _block(name, values, vocabulary.get(name, ()), where=where)
    if not features:
        raise BadInputError(f"{where}: expected columns of features beside the labels, found none.")
    if encoding.features:
        features = _ordered(features, encoding.features, where=where)
    return Dataset(
        torch.from_numpy(np.stack([column.astype(np.float32) for column in features.values()], axis=1)),
        torch.from_numpy(targets),
        attributes=kept,
        classes=tuple(classes),
        attribute_classes=attribute_classes,
        features=tuple(features),
    )


def _inert(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "U":
        return values
    distinct, rows = np.unique(values, return_inverse=True)
    return np.array([inert(value) for value in distinct])[rows]


def _refuse_missing(values: np.ndarray, *, where: str) -> None:
    if not len(values):
        raise BadInputError(f"{where}: expected records, found none.")
    missing = values == "" if values.dtype.kind == "U" else ~np.isfinite(values)
    if missing.any():
        raise BadInputError(
            f"{where}: {int(missing.sum())} missing or infinite values, the first in row {int(missing.argmax())}. "
            "Remove those records or fill them in."
        )


def _ordered(features: Mapping[str, np.ndarray], wanted: Sequence[str], *, where: str) -> dict[str, np.ndarray]:
    """The feature columns in the order of another table's, which must have the same."""
    lacking, extra = sorted(set(wanted) - set(features)), sorted(set(features) - set(wanted))
    if lacking or extra:
        raise BadInputError(
            f"{where}: expected the columns of the other table; it lacks {lacking[:5] or 'none'} and adds "
            f"{extra[:5] or 'none'}."
        )
    return {name: features[name] for name in wanted}


def _values_of(name: str, features: Sequence[str]) -> tuple[str, ...]:
    return tuple(feature.removeprefix(f"{name}=") for feature in features if feature.startswith(f"{name}="))


def _block(name: str, values: np.ndarray, known: Sequence[str], *, where: str) -> dict[str, np.ndarray]:
    """The feature columns that one column becomes."""
    if values.dtype.kind != "U":
        return {name: values}
    known = known or categories(values)
    if len(known) > _MOST_CATEGORIES:
        raise BadInputError(
            f"{where}, column {name!r}: expected at most {_MOST_CATEGORIES:,} different texts, got {len(known):,}, "
            f"such as {known[0]!r}. Leave the column out of the file or group its values."
        )
    codes, _ = encode(values, known, where=f"{where}, column {name!r}")
    return {f"{name}={value}": codes == code for code, value in enumerate(known)}
