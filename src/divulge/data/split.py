"""Seeded, disjoint parts of a dataset, and copies across them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from divulge.data.dataset import Dataset
from divulge.errors import BadInputError


@dataclass(frozen=True, eq=False)
class Split(Mapping[str, Dataset]):
    """Disjoint parts of a dataset by name.

    Args:
        parts: the records of each part.
        rows: where they stand in the dataset, int64 row numbers in the parts' order.
        dropped: how many records were left out beforehand as exact copies of an earlier one.
    """

    parts: Mapping[str, Dataset]
    rows: Mapping[str, np.ndarray]
    dropped: int

    def __getitem__(self, name: str) -> Dataset:
        return self.parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)


def split(
    data: Dataset, sizes: Mapping[str, int | float], *, seed: int, unique: bool = True, stratify: bool = False
) -> Split:
    """Draw disjoint parts at random.

    Args:
        data: where to draw from.
        sizes: records of each part: a whole number, or a fraction of the records left after copies are dropped, rounded
            down, so that equal fractions give equal parts.
        seed: the same seed gives the same parts.
        unique: drop exact copies of an earlier record first, so that none stands on both sides of a line.
        stratify: give each part the classes in the proportions of the whole, to within rounding.

    Raises:
        BadInputError: a size that is no count and no fraction, or more records asked for than there are.

    Example:
        >>> import torch
        >>> data = Dataset(torch.arange(10.0).reshape(10, 1), torch.zeros(10, dtype=torch.int64))
        >>> parts = split(data, {"members": 4, "nonmembers": 0.5}, seed=0)
        >>> len(parts["members"]), len(parts["nonmembers"]), parts.dropped
        (4, 5, 0)
    """
    pool = _first_of_each(data) if unique else np.arange(len(data))
    counts = {name: _count(name, size, len(pool)) for name, size in sizes.items()}
    if sum(counts.values()) > len(pool):
        left_out = f" after dropping {len(data) - len(pool):,} exact copies" if len(pool) < len(data) else ""
        asked = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        raise BadInputError(
            f"expected parts of at most {len(pool):,} records together{left_out}, got {asked}. Make them smaller."
        )
    rng = np.random.default_rng(seed)
    order = pool[rng.permutation(len(pool))]
    if stratify:
        order = order[np.argsort(_ranks(data.targets.numpy()[order], rng), kind="stable")]
    ends = np.cumsum(list(counts.values()), dtype=np.int64)
    rows = {name: order[end - counts[name] : end] for name, end in zip(counts, ends, strict=True)}
    return Split({name: data[own] for name, own in rows.items()}, rows, len(data) - len(pool))


def copies(data: Dataset, *, of: Dataset) -> np.ndarray:
    """Which records of `data` are exact copies, in their inputs, of a record of `of`: bool `(N,)`.

    Raises:
        BadInputError: records of different shapes.
    """
    if data.shape != of.shape:
        raise BadInputError(
            f"expected records of one shape, got {data.shape} and {of.shape}. Resize or encode them alike."
        )
    known = set(of.hashes())
    return np.array([digest in known for digest in data.hashes()], dtype=bool)


def overlap(a: Dataset, b: Dataset) -> int:
    """How many records of `b` are exact copies of one in `a`.

    Raises:
        BadInputError: records of different shapes.
    """
    return int(copies(b, of=a).sum())


def without(data: Dataset, other: Dataset) -> Dataset:
    """The records of `data` that are not exact copies of one in `other`.

    Raises:
        BadInputError: records of different shapes.
    """
    return data[~copies(data, of=other)]


def require_disjoint(members: Dataset, nonmembers: Dataset) -> None:
    """Check that no non-member is an exact copy of a member.

    Raises:
        BadInputError: some are, and how many; or records of different shapes.
    """
    shared = overlap(members, nonmembers)
    if shared:
        whole = "all" if shared == len(nonmembers) else f"{shared:,}"
        raise BadInputError(
            f"members and non-members overlap: {whole} of {len(nonmembers):,} non-members are exact copies of a member."
            " Give records the model has not seen; divulge.data.without(nonmembers, members) drops the copies."
        )


def _first_of_each(data: Dataset) -> np.ndarray:
    first: dict[bytes, int] = {}
    for row, digest in enumerate(data.hashes()):
        first.setdefault(digest, row)
    return np.fromiter(first.values(), np.int64, len(first))


def _count(name: str, size: int | float, pool: int) -> int:
    if isinstance(size, (int, np.integer)) and not isinstance(size, bool) and size >= 0:
        return int(size)
    if isinstance(size, float) and 0 <= size <= 1:
        return math.floor(size * pool + 1e-9)  # 0.29 of 100 is 29, whatever the binary fraction
    raise BadInputError(f"part {name!r}: expected a count of records or a fraction from 0.0 to 1.0, got {size!r}.")


def _ranks(classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A place in [0, 1) for each record that spreads every class evenly, so that any stretch has its share of each."""
    ranks = np.empty(len(classes))
    for number in np.unique(classes):
        own = np.flatnonzero(classes == number)
        ranks[own] = (np.arange(len(own)) + rng.random()) / len(own)
    return ranks
