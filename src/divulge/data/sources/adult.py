"""Adult (census income) as the UCI repository distributes it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from divulge.data.dataset import Dataset
from divulge.data.parts import require_part
from divulge.data.sources.csvfile import read_columns
from divulge.data.tables import Encoding, categories, from_columns
from divulge.errors import BadInputError

_FILES = {"train": "adult.data", "test": "adult.test"}
_COLUMNS = (
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education_num",
    "marital_status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital_gain",
    "capital_loss",
    "hours_per_week",
    "native_country",
    "income",
)


def parts(path: Path) -> tuple[str, ...]:
    """The parts whose files `adult.data` and `adult.test` are in a folder."""
    return tuple(part for part, name in _FILES.items() if (path / name).is_file())


def read(
    path: Path,
    *,
    part: str = "train",
    target: str = "income",
    attributes: Sequence[str] = (),
    encoding: Encoding | None = None,
) -> Dataset:
    """Read `adult.data` and `adult.test`; the texts of both together make the categories.

    Source: B. Becker and R. Kohavi, "Adult", UCI Machine Learning Repository, 1996, DOI 10.24432/C5XW20.

    Args:
        path: the folder of the two files.
        part: `train` or `test`.
        target: the column of labels.
        attributes: columns to keep as attributes too.
        encoding: how texts become numbers.

    Raises:
        BadInputError: an unknown part or column, or a file that is not Adult's.
    """
    present = parts(path)
    require_part(part, present, where=str(path))
    tables = {name: _columns(path / _FILES[name]) for name in present}
    vocabulary = {
        name: categories(np.concatenate([table[name] for table in tables.values()]))
        for name, values in tables[part].items()
        if values.dtype.kind == "U"
    }
    return from_columns(
        tables[part], where=str(path), target=target, attributes=attributes, encoding=encoding, vocabulary=vocabulary
    )


def _columns(file: Path) -> dict[str, np.ndarray]:
    columns = read_columns(file, _COLUMNS, comment="|")
    if columns["income"].dtype.kind != "U":
        raise BadInputError(f"{file}: expected incomes such as '<=50K', got numbers.")
    columns["income"] = np.char.rstrip(columns["income"], ".")  # the test file ends its lines with a period
    return columns
