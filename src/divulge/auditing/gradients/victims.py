"""Whose gradients are attacked, and which other records of their classes a reconstruction is held against."""

from dataclasses import dataclass

import numpy as np

from divulge.data import Dataset
from divulge.errors import BadInputError


@dataclass(frozen=True, eq=False)
class Victims:
    """Row numbers of the records that clients share gradients of.

    Args:
        rows: int64 `(victims * batch,)`, one batch after another.
        others: for each of them another record of the same class, none of which is a victim `(victims * batch,)`.
    """

    rows: np.ndarray
    others: np.ndarray


def choose(data: Dataset, *, count: int, batch: int = 1, seed: int) -> Victims:
    """Draw victims at random, without exact copies, and a record of the same class for each.

    The records of a class take turns as the other where there are fewer than victims.

    Args:
        data: where to draw from.
        count: how many clients.
        batch: records that each shares the gradient of.
        seed: the same seed gives the same victims, and fewer are the first of more.

    Raises:
        BadInputError: fewer records than that, or a class all of whose records are victims.
    """
    digests = data.hashes()
    order = np.random.default_rng(seed).permutation(len(data))
    unique = np.array(list({digests[row]: row for row in order[::-1]}.values())[::-1], dtype=np.int64)
    if count * batch >= len(unique):
        raise BadInputError(
            f"expected more than {count * batch} different records, {count} batches of {batch} and some to compare "
            f"with, got {len(unique)}. Ask for fewer victims."
        )
    targets = data.targets.numpy()
    rows, rest = unique[: count * batch], unique[count * batch :]
    others = np.empty_like(rows)
    for label in np.unique(targets[rows]):
        own, free = np.flatnonzero(targets[rows] == label), rest[targets[rest] == label]
        if not len(free):
            raise BadInputError(
                f"class {data.classes[label]!r}: all of its records are victims, so none is left to compare a "
                "reconstruction with. Ask for fewer victims."
            )
        others[own] = free[np.arange(len(own)) % len(free)]
    return Victims(rows, others)
