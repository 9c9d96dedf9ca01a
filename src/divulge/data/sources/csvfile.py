"""Tables of comma-separated values."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from divulge.data.dataset import Dataset
from divulge.data.tables import Encoding, from_columns
from divulge.data.text import inert
from divulge.errors import BadInputError

_MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?"))


def parts(path: Path) -> tuple[str, ...]:
    """`train` for a `.csv` file, which has no parts; none for anything else."""
    return ("train",) if path.is_file() and path.suffix.lower() == ".csv" else ()


def read(
    path: Path,
    *,
    part: str = "train",
    target: str = "",
    attributes: Sequence[str] = (),
    encoding: Encoding | None = None,
) -> Dataset:
    """Read a CSV file: every column but the target is a feature; texts become one column for each of their values.

    Args:
        path: a file in UTF-8. Its first line names the columns; if that line is all numbers, they are `0`, `1`, ...
        part: `train`; a CSV file has no other.
        target: the column of labels; one with a usual name if left out.
        attributes: columns to keep as attributes too.
        encoding: how texts become numbers.

    Raises:
        BadInputError: not CSV, lines of different lengths, a missing value, or an unknown column.
    """
    columns = read_columns(path)
    return from_columns(columns, where=str(path), target=target, attributes=attributes, encoding=encoding)


def read_columns(path: Path, names: Sequence[str] = (), *, comment: str = "") -> dict[str, np.ndarray]:
    """The columns of a CSV file as numbers or, where not all cells are numbers, texts.

    Args:
        path: a file in UTF-8.
        names: the names of the columns, if the file does not hold them.
        comment: lines that begin with this are left out.
    """
    lines = [line for line in _lines(path) if not comment or not line[0].startswith(comment)]
    if not lines:
        raise BadInputError(f"{path}: expected a line of column names and records, found an empty file.")
    if not names:
        if all(_is_number(cell) for cell in lines[0]):
            names = [str(position) for position in range(len(lines[0]))]
        else:
            names = [inert(cell) for cell in lines.pop(0)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInputError(f"{path}: expected different column names, got {twice!r} twice.")
    for row, line in enumerate(lines):
        if len(line) != len(names):
            raise BadInputError(f"{path}, record {row}: expected {len(names)} cells, got {len(line)}.")
    if not lines:
        raise BadInputError(f"{path}: expected records below the line of column names, found none.")
    return {name: _column(cells) for name, cells in zip(names, zip(*lines, strict=True), strict=True)}


def _lines(path: Path) -> list[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [[cell.strip() for cell in line] for line in csv.reader(file, skipinitialspace=True) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInputError(f"{path}: expected comma-separated values in UTF-8, but {error}.") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python reads 1_000 as a number, a table does not


def _column(cells: Sequence[str]) -> np.ndarray:
    """Numbers if all cells are, missing ones NaN; else texts."""
    present = [cell for cell in cells if cell.lower() not in _MISSING]
    if not present or not all(map(_is_number, present)):
        return np.array(cells)
    if len(present) < len(cells):
        return np.array([float(cell) if cell.lower() not in _MISSING else np.nan for cell in cells])
    return np.array([float(cell) for cell in cells])
