"""Tables of interactions: MovieLens-1M, Steam, LastFM, and a user's own pairs of users and items."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from divulge.data.dataset import Dataset
from divulge.data.interactions import as_interactions, baskets
from divulge.data.parts import require_part
from divulge.data.sources import hub
from divulge.data.sources.csvfile import read_columns
from divulge.data.text import inert
from divulge.errors import BadInputError

PARTS = ("train", "validation", "test")
SEED = 98765
"""Of the published draw of held-out users, Liang et al. 2018 (arXiv 1802.05814)."""
FEWEST = 5
"""Interactions of a user who is kept."""
LIKED = 3.5
"""The lowest rating that counts as an interaction."""
EXTRA = frozenset(("rating", "weight", "timestamp"))
"""Columns that a table of pairs may have besides; they are not read."""


def movielens_parts(path: Path) -> tuple[str, ...]:
    """All parts for a folder with `ratings.dat` or `ratings.parquet`."""
    return PARTS if any((path / name).is_file() for name in ("ratings.dat", "ratings.parquet")) else ()


def read_movielens(path: Path, *, part: str = "train") -> Dataset:
    """MovieLens-1M: the movies that a user rated 3.5 or higher; 200 users each for validation and test.

    Args:
        path: the folder of `ratings.dat` as it is published, or of `ratings.parquet`.
        part: of the users.

    Raises:
        BadInputError: a file of another layout.
    """
    if (path / "ratings.dat").is_file():
        user, item, rating = _split(path / "ratings.dat", "::", 4)[:3]
    else:
        user, item, rating = _parquet(path / "ratings.parquet", ("user", "item", "rating"))
    liked = rating >= LIKED
    return _drawn(user[liked], item[liked], part, held=200, where=str(path))


def lastfm_parts(path: Path) -> tuple[str, ...]:
    """All parts for a folder with `user_artists.dat` or `interactions.parquet`."""
    return PARTS if any((path / name).is_file() for name in ("user_artists.dat", "interactions.parquet")) else ()


def read_lastfm(path: Path, *, part: str = "train") -> Dataset:
    """LastFM: the artists that a user listened to; 100 users each for validation and test.

    Args:
        path: the folder of `user_artists.dat` as it is published, or of `interactions.parquet`.
        part: of the users.

    Raises:
        BadInputError: a file of another layout.
    """
    if (path / "user_artists.dat").is_file():
        user, item = _split(path / "user_artists.dat", "\t", 3, header=True)[:2]
    else:
        user, item = _parquet(path / "interactions.parquet", ("user", "item"))
    return _drawn(user, item, part, held=100, where=str(path))


def steam_parts(path: Path) -> tuple[str, ...]:
    """All parts for a folder with `interactions.parquet` or `interactions.csv`."""
    return PARTS if any((path / name).is_file() for name in ("interactions.parquet", "interactions.csv")) else ()


def read_steam(path: Path, *, part: str = "train") -> Dataset:
    """Steam: the games of a user; which part a user is in stands in the file.

    Args:
        path: the folder of `interactions.parquet` or `interactions.csv`, one row a pair, with columns `user`, `item`
            and `nra_part`, whose beginning is the part.
        part: of the users.

    Raises:
        BadInputError: a file of another layout, or a user in two parts.
    """
    names = ("user", "item", "nra_part")
    if (path / "interactions.parquet").is_file():
        user, item, parts = _parquet(path / "interactions.parquet", names)
    else:
        user, item, parts = _named(read_columns(path / "interactions.csv"), names, str(path))
    require_part(part, PARTS, where=str(path))
    of = np.array([text.partition("_")[0] for text in parts.tolist()])
    people, where = np.unique(user, return_inverse=True)
    first = of[np.unique(user, return_index=True)[1]]
    if not set(of.tolist()) <= set(PARTS) or (first[where] != of).any():
        raise BadInputError(f"{path}: expected each user in one of {', '.join(PARTS)}, got a user in two, or another.")
    return _part(user, item, people[first == "train"], people[first == part], where=str(path))


def table_parts(path: Path) -> tuple[str, ...]:
    """`train` for a `.csv` or `.parquet` file with columns `user` and `item`, and at most a rating, weight or time
    besides.
    """
    if not path.is_file():
        return ()
    if path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            names = {cell.strip() for cell in next(csv.reader(file, skipinitialspace=True), [])}
    elif path.suffix.lower() == ".parquet":
        names = set(hub.column_names(path))
    else:
        return ()
    return ("train",) if {"user", "item"} <= names <= {"user", "item"} | EXTRA else ()


def read_table(path: Path, *, part: str = "train") -> Dataset:
    """Read a file with one pair of a user and an item a line; each is a number or a text.

    Every pair counts, whatever its rating: leave out those that do not before.

    Args:
        path: CSV in UTF-8, whose first line names the columns `user` and `item`, or a parquet file with these.
        part: `train`; there is no other.

    Raises:
        BadInputError: not CSV or parquet, a missing cell, or a pair that comes twice.
    """
    names = ("user", "item")
    if path.suffix.lower() == ".parquet":
        user, item = _parquet(path, names)
    else:
        user, item = _named(read_columns(path), names, str(path))
    for name, values in (("user", user), ("item", item)):
        missing = np.isnan(values) if values.dtype.kind == "f" else values == ""
        missing |= np.array([value is None for value in values.tolist()])
        if missing.any():
            raise BadInputError(f"{path}, column {name!r}: {int(missing.sum())} missing values. Remove those lines.")
    everyone = np.unique(user)
    return _part(user, item, everyone, everyone, where=str(path))


def _drawn(user: np.ndarray, item: np.ndarray, part: str, *, held: int, where: str) -> Dataset:
    """Users with enough interactions, dealt to the parts by the published draw."""
    require_part(part, PARTS, where=where)
    people, counts = np.unique(user, return_counts=True)
    people = people[counts >= FEWEST]
    if len(people) <= 2 * held:
        raise BadInputError(
            f"{where}: expected more than {2 * held} users with {FEWEST} interactions, got {len(people)}."
        )
    people = people[np.random.RandomState(SEED).permutation(len(people))]
    train, *others = np.split(people, [len(people) - 2 * held, len(people) - held])
    chosen = dict(zip(PARTS, (train, *others), strict=True))[part]
    return _part(user, item, train, np.sort(chosen), where=where)


def _part(user: np.ndarray, item: np.ndarray, train: np.ndarray, chosen: np.ndarray, *, where: str) -> Dataset:
    """The table of some users over the items of those in training."""
    known = np.unique(item[np.isin(user, train)])
    kept = np.isin(user, chosen) & np.isin(item, known)
    rows, columns = np.searchsorted(chosen, user[kept]), np.searchsorted(known, item[kept])
    table = baskets(rows, columns, count=len(chosen), width=len(known), where=where)
    return as_interactions(table, users=_names(chosen), items=_names(known))


def _names(values: np.ndarray) -> np.ndarray:
    """Whole numbers without a point, texts without what could act on a terminal."""
    if values.dtype.kind == "U":
        return np.array([inert(value) for value in values.tolist()])
    return values.astype(np.int64) if (values == values.round()).all() else values


def _parquet(file: Path, names: Sequence[str]) -> list[np.ndarray]:
    columns = hub.table([file])
    return _named({name: np.array(column.to_pylist()) for name, column in columns.items()}, names, str(file))


def _named(columns: dict[str, np.ndarray], names: Sequence[str], where: str) -> list[np.ndarray]:
    if missing := [name for name in names if name not in columns]:
        raise BadInputError(f"{where}: no column {missing[0]!r}. Columns: {', '.join(map(inert, columns))}.")
    return [columns[name] for name in names]


def _split(file: Path, separator: str, width: int, *, header: bool = False) -> np.ndarray:
    """Whole numbers between separators, `(width, N)`."""
    lines = file.read_text(encoding="latin-1").splitlines()[header:]
    try:
        cells = np.array([line.split(separator) for line in lines if line], dtype=np.int64)
    except ValueError:
        cells = np.empty((0, 0), dtype=np.int64)
    if cells.ndim != 2 or cells.shape[1] != width:
        raise BadInputError(f"{file}: expected {width} whole numbers a line with {separator!r} between them.")
    return cells.T
