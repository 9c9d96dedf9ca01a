"""The target as a table of posteriors: a CSV or NPZ file, or arrays, for members and for non-members."""

import csv
import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from divulge.auditing.targets.answers import looks_like_logits
from divulge.auditing.targets.base import Target
from divulge.auditing.targets.labels import class_numbers
from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.releases import Posteriors, table_to_logits


@dataclass(frozen=True, eq=False)
class Table:
    """What a target answered on a list of records.

    Args:
        values: logits or probabilities as they were given, float64 `(n, classes)`.
        labels: true class numbers, int64 `(n,)`.
        logits: whether `values` are logits.
        classes: class names in the order of the columns.
        ids: what to call each record; empty for row numbers.
    """

    values: np.ndarray
    labels: np.ndarray
    logits: bool
    classes: tuple[str, ...]
    ids: tuple[str, ...] = ()

    def log_posteriors(self) -> np.ndarray:
        """Log-posteriors up to a constant per row, float64 `(n, classes)`."""
        return table_to_logits(self.values, classes=len(self.classes), rows=len(self.labels), logits=self.logits)


def load_table(source: Any, *, logits: bool | None = None) -> Table:
    """Read posteriors and labels.

    Args:
        source: a CSV file with a header: a column `label` (class numbers or the names of the other columns), if wanted
            a column `id`, and a column of posteriors for each class in order; an NPZ file with `labels`, `posteriors`
            or `logits`, and if wanted `classes` and `ids`; or a pair `(posteriors, labels)` of arrays.
        logits: whether the values are logits; found out if None.

    Raises:
        BadInputError: the file is missing, damaged or of another form, a value is not a number, NaN or infinite, rows
            are neither logits nor probabilities, or a label is out of range.
    """
    if isinstance(source, (tuple, list)) and len(source) == 2:
        values, labels = (
            part.detach().cpu().numpy() if isinstance(part, Tensor) else np.asarray(part) for part in source
        )
        return _checked("posteriors", values, labels, (), (), logits)
    if not isinstance(source, (str, Path)):
        raise BadInputError(f"expected a CSV or NPZ file or a pair (posteriors, labels), got {type(source).__name__}.")
    path = Path(source)
    if not path.is_file():
        raise BadInputError(f"posteriors: there is no file {path}.")
    if path.suffix == ".csv":
        return _read_csv(path, logits)
    if path.suffix == ".npz":
        return _read_npz(path, logits)
    raise BadInputError(f"{path}: expected a table of posteriors as .csv or .npz, got {path.suffix or 'no suffix'}.")


def table_target(
    members: Any, nonmembers: Any, *, logits: bool | None = None, name: str = ""
) -> tuple[Target, Dataset, Dataset]:
    """A target of which only its answers are known, with its members and non-members.

    A record's input is the number of its row (`Target.has_inputs` is False); asking looks the row up.

    Args:
        members: a table of the training records, in any form of `load_table`.
        nonmembers: the same of records that were not trained on.
        logits: whether the values are logits; found out if None.
        name: what to call the target.

    Raises:
        BadInputError: as `load_table`, or the two tables differ in classes or scale.

    Example:
        >>> target, inside, outside = table_target(([[0.9, 0.1]], [0]), ([[0.6, 0.4]], [0]))
        >>> target.release.logits(outside.inputs).round(2).tolist()
        [[-0.51, -0.92]]
    """
    first, second = load_table(members, logits=logits), load_table(nonmembers, logits=logits)
    if first.classes != second.classes:
        raise BadInputError(
            f"members have {len(first.classes)} classes ({', '.join(first.classes[:5])}), non-members "
            f"{len(second.classes)} ({', '.join(second.classes[:5])}). Both tables need the same columns in the same "
            "order."
        )
    if first.logits != second.logits:
        kinds = ["logits" if table.logits else "probabilities" for table in (first, second)]
        raise BadInputError(f"members are {kinds[0]} and non-members are {kinds[1]}. Give both on one scale.")
    table = np.concatenate([first.log_posteriors(), second.log_posteriors()])
    total = len(table)

    def look_up(rows: Tensor) -> np.ndarray:
        numbers = rows.numpy()
        if (
            numbers.shape[1:] != (1,)
            or (numbers != np.floor(numbers)).any()
            or (numbers < 0).any()
            or (numbers >= total).any()
        ):
            raise BadInputError(
                f"this target is a table of {total:,} answers: expected row numbers (n, 1) from 0 to {total - 1}, got "
                f"inputs of shape {numbers.shape}. What was not asked when the table was made cannot be asked now."
            )
        return table[numbers[:, 0].astype(np.int64)]

    inside, outside = (
        Dataset(
            torch.arange(start, start + len(part.labels), dtype=torch.float32)[:, None],
            torch.from_numpy(part.labels),
            classes=part.classes,
            name=part_name,
            ids=part.ids,
        )
        for part, start, part_name in ((first, 0, "members"), (second, len(first.labels), "non-members"))
    )
    scale = "logits" if first.logits else "probabilities"
    target = Target(
        name=name or "table of posteriors",
        kind="table of posteriors",
        release=Posteriors(look_up, classes=len(first.classes), logits=True, batch_size=1 << 16),
        fingerprint=_digest(table, first, second),
        notes=(
            f"only its answers are known, as a table of {scale}: attacks that look at records or ask about others did "
            "not run",
            "without inputs, a record that stands in both tables is not noticed",
        ),
        has_inputs=False,
    )
    return target, inside, outside


def _read_csv(path: Path, logits: bool | None) -> Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [(number, row) for number, row in enumerate(csv.reader(file), start=1) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInputError(f"{path}: expected a CSV file in UTF-8: {error}") from None
    header = [column.strip() for column in lines[0][1]] if lines else []
    if header.count("label") != 1:
        raise BadInputError(
            f"{path}: expected a header line with one column `label` among its comma-separated columns, got: "
            f"{', '.join(header[:6]) or 'nothing'}."
        )
    columns = [place for place, column in enumerate(header) if column not in ("label", "id")]
    for number, row in lines[1:]:
        if len(row) != len(header):
            raise BadInputError(
                f"{path}, line {number}: expected {len(header)} columns as in the header, got {len(row)}."
            )
    classes = tuple(header[place] for place in columns)
    if len(set(classes)) != len(classes):
        raise BadInputError(f"{path}: two columns have one name. Name each class once.")
    try:
        values = np.array([[row[place] for place in columns] for _, row in lines[1:]], dtype=np.float64)
    except ValueError:
        number, column, value = next(
            (number, header[place], row[place])
            for number, row in lines[1:]
            for place in columns
            if not _is_number(row[place])
        )
        raise BadInputError(f"{path}, line {number}, column {column!r}: expected a number, got {value!r}.") from None
    labels = np.array([row[header.index("label")].strip() for _, row in lines[1:]], dtype=np.str_)
    ids = tuple(row[header.index("id")] for _, row in lines[1:]) if "id" in header else ()
    return _checked(str(path), values.reshape(-1, len(columns)), labels, classes, ids, logits)


def _read_npz(path: Path, logits: bool | None) -> Table:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            held = {key: arrays[key] for key in arrays.files}
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
        raise BadInputError(
            f"{path}: expected an NPZ file of plain arrays (np.savez; object arrays are pickles and never loaded): "
            f"{error}"
        ) from error
    scales = [key for key in ("posteriors", "logits") if key in held]
    if len(scales) != 1 or "labels" not in held:
        raise BadInputError(
            f"{path}: expected arrays `labels` and one of `posteriors` and `logits`, got {', '.join(held) or 'none'}."
        )
    classes, ids = (tuple(str(item) for item in held.get(key, ())) for key in ("classes", "ids"))
    told = True if scales == ["logits"] else logits
    return _checked(str(path), held[scales[0]], held["labels"], classes, ids, told)


def _checked(
    where: str,
    values: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    ids: tuple[str, ...],
    told: bool | None,
) -> Table:
    if values.ndim != 2 or values.dtype.kind not in "fiub" or not len(values) or values.shape[1] < 2:
        raise BadInputError(
            f"{where}: expected a table of numbers (records, classes) with one record and two classes at least, got "
            f"{values.dtype} of shape {values.shape}."
        )
    if labels.shape != (len(values),):
        raise BadInputError(f"{where}: expected {len(values):,} labels, one a record, got shape {labels.shape}.")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        raise BadInputError(
            f"{where}: NaN or infinity in {len(bad):,} of {len(values):,} rows, first in record {bad[0]}."
        )
    classes = classes or tuple(str(number) for number in range(values.shape[1]))
    if len(classes) != values.shape[1] or len(ids) not in (0, len(values)):
        raise BadInputError(
            f"{where}: {values.shape[1]} columns of posteriors and {len(values)} records, but {len(classes)} class "
            f"names and {len(ids)} ids."
        )
    try:
        numbers, guessed = class_numbers(labels, classes, what="labels")
        if guessed:
            raise BadInputError("labels are names, but the columns have none. Give `classes`, a name for each column.")
        scale = looks_like_logits(values, told)
    except BadInputError as error:
        raise BadInputError(f"{where}: {error}") from None
    table = Table(values, np.array(numbers, dtype=np.int64), scale, classes, ids)
    table.log_posteriors()
    return table


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _digest(table: np.ndarray, *parts: Table) -> str:
    digest = hashlib.blake2b(np.ascontiguousarray(table).tobytes(), digest_size=10)
    for part in parts:
        digest.update(repr((part.classes, part.ids)).encode())
        digest.update(part.labels.tobytes())
    return digest.hexdigest()
