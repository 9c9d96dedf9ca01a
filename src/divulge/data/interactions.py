"""Who had to do with what: users and items as a table of zeros and ones, one row a user."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from divulge.data.dataset import Dataset
from divulge.errors import BadInputError

USER = "user"
"""The one class of a table of users, who have no label."""


def baskets(users: np.ndarray, items: np.ndarray, *, count: int, width: int, where: str = "interactions") -> Tensor:
    """The table of pairs of a user and an item, float32 `(count, width)`: 1 where there is a pair, else 0.

    Args:
        users: user numbers from 0, one a pair.
        items: item numbers from 0, one a pair.
        count: how many users there are.
        width: how many items there are.
        where: what to call the pairs in an error.

    Raises:
        BadInputError: arrays of different lengths, numbers out of range, a pair that comes twice, or a user without an
            item.

    Example:
        >>> baskets(np.array([0, 1, 1]), np.array([2, 0, 2]), count=2, width=3).tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 1.0]]
    """
    if users.shape != items.shape or users.ndim != 1 or users.dtype.kind not in "iu" or items.dtype.kind not in "iu":
        raise BadInputError(
            f"{where}: expected one user number and one item number a pair, got {users.dtype} of shape {users.shape} "
            f"and {items.dtype} of shape {items.shape}."
        )
    for what, numbers, size in (("user", users, count), ("item", items, width)):
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < size:
            raise BadInputError(
                f"{where}: expected {what} numbers from 0 to {size - 1}, got {numbers.min()} to {numbers.max()}. "
                "Number them anew, or take a wider table."
            )
    places, times = np.unique(users.astype(np.int64) * width + items, return_counts=True)
    if len(places) and times.max() > 1:
        user, item = divmod(int(places[times.argmax()]), width)
        raise BadInputError(
            f"{where}: {int((times > 1).sum())} pairs come more than once, the first of user {user} and item {item}. "
            "Keep one of each."
        )
    table = torch.zeros(count, width)
    table[torch.from_numpy(users.astype(np.int64)), torch.from_numpy(items.astype(np.int64))] = 1
    require_baskets(table, where=where)
    return table


def require_baskets(table: Tensor, *, where: str = "interactions") -> None:
    """See that these are users and their items.

    Raises:
        BadInputError: no table, other values than 0 and 1, or a user without an item.
    """
    if table.ndim != 2 or not len(table):
        raise BadInputError(f"{where}: expected a table (users, items), got shape {tuple(table.shape)}.")
    if not bool(((table == 0) | (table == 1)).all()):
        raise BadInputError(
            f"{where}: expected 1 for an item that a user has and 0 for others, got {float(table.min()):g} to "
            f"{float(table.max()):g}. Say which ratings count, such as those of 3.5 or more."
        )
    empty = (table.sum(dim=1) == 0).nonzero()[:, 0]
    if len(empty):
        raise BadInputError(
            f"{where}: {len(empty)} of {len(table)} users have no item, the first is user {int(empty[0])}. "
            "Leave them out."
        )


def are_interactions(data: object) -> bool:
    """Whether these are users with their items, rather than records with a label."""
    return isinstance(data, Dataset) and data.classes == (USER,)


def of_pairs(users: np.ndarray, items: np.ndarray, *, width: int | None = None) -> Dataset:
    """Users and their items, from pairs of the two.

    Args:
        users: numbers or texts, one a pair.
        items: with a `width`, item numbers from 0 as the model has them; else numbers or texts, which are sorted.
        width: how many items the model knows.

    Raises:
        BadInputError: arrays of different lengths, a missing value, an item out of range, or a pair that comes twice.

    Example:
        >>> of_pairs(np.array(["bo", "al", "bo"]), np.array([0, 2, 3]), width=4).inputs.tolist()
        [[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0]]
    """
    users, items = np.asarray(users), np.asarray(items)
    for name, values in (("user", users), ("item", items)):
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise BadInputError(f"interactions: the {name}s hold NaN or infinity. Remove those pairs.")
    people, rows = np.unique(users, return_inverse=True)
    if width is None:
        known, columns = np.unique(items, return_inverse=True)
    else:
        known, columns = np.arange(width), items
    table = baskets(rows, columns, count=len(people), width=len(known))
    return as_interactions(table, users=people, items=known)


def over_items(data: Dataset, width: int) -> Dataset:
    """Users and their items as a table over all items that a model knows.

    A table with as many items as the model knows is taken in its own order. Otherwise its items have to be numbers,
    from 0, as the model has them.

    Args:
        data: from `as_interactions`.
        width: how many items the model knows.

    Raises:
        BadInputError: more items than the model knows, items that are no numbers, or numbers out of range.
    """
    require_baskets(data.inputs)
    count = data.inputs.shape[1]
    if count == width:
        return data
    names = data.features or tuple(map(str, range(count)))
    hint = f"Number the items as the model does, from 0 to {width - 1}, or give a table of all {width} of them."
    try:
        numbers = np.array([int(name) for name in names])
    except ValueError:
        raise BadInputError(
            f"interactions: the model knows {width} items and the table has {count}, which are not numbered but named, "
            f"such as {names[0]!r}. {hint}"
        ) from None
    if not 0 <= numbers.min() <= numbers.max() < width:
        raise BadInputError(
            f"interactions: the model knows {width} items, and the table's are numbered from {numbers.min()} to "
            f"{numbers.max()}. {hint}"
        )
    wide = torch.zeros(len(data), width)
    wide[:, torch.from_numpy(numbers)] = data.inputs
    return replace(data, inputs=wide, features=tuple(map(str, range(width))))


def as_interactions(table: Tensor, *, users: np.ndarray, items: np.ndarray) -> Dataset:
    """A checked table with the names of its users and items, as records without a label."""
    return Dataset(
        table,
        torch.zeros(len(table), dtype=torch.int64),
        classes=(USER,),
        ids=tuple(map(str, users.tolist())),
        features=tuple(map(str, items.tolist())),
    )
