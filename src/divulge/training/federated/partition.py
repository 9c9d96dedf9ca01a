"""Who holds which records: disjoint, complete and seeded."""

from collections.abc import Sequence

import numpy as np

from divulge.errors import BadInputError
from divulge.training.federated.settings import Federation


def partition(targets: np.ndarray, federation: Federation, *, seed: int) -> tuple[np.ndarray, ...]:
    """The row numbers of each client, as the federation's `split` says.

    Args:
        targets: class numbers `(N,)`.
        federation: how many clients, and how records are dealt.
        seed: the same seed gives the same clients.

    Raises:
        BadInputError: a client would be left without a record, or the classes do not go round.
    """
    if federation.split == "iid":
        return iid(len(targets), federation.clients, seed=seed)
    return by_classes(targets, federation.clients, federation.classes_per_client, seed=seed)


def iid(n: int, clients: int, *, seed: int) -> tuple[np.ndarray, ...]:
    """Deal `n` records at random; the sizes of two clients differ by one at most.

    Raises:
        BadInputError: more clients than records.

    Example:
        >>> [len(rows) for rows in iid(10, 3, seed=0)]
        [4, 3, 3]
    """
    _require_enough(n, clients)
    return tuple(np.sort(rows) for rows in np.array_split(np.random.default_rng(seed).permutation(n), clients))


def by_classes(targets: np.ndarray, clients: int, classes: int, *, seed: int) -> tuple[np.ndarray, ...]:
    """Give each client records of exactly `classes` classes.

    The shards of McMahan et al. 2017 (arXiv 1602.05629), cut within classes rather than across their borders: each
    client is dealt `classes` shards, no two of one class.

    Args:
        targets: class numbers `(N,)`.
        clients: how many.
        classes: of each client.
        seed: the same seed gives the same clients.

    Raises:
        BadInputError: more classes a client than there are, fewer shards than classes, or too few records.

    Example:
        >>> targets = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
        >>> [sorted(set(targets[rows].tolist())) for rows in by_classes(targets, 3, 2, seed=1)]
        [[0, 2], [0, 1], [1, 2]]
    """
    present, counts = np.unique(targets, return_counts=True)
    _require_enough(len(targets), clients)
    if classes > len(present):
        raise BadInputError(
            f"federation: expected at most {len(present)} classes per client, as many as the records have, got "
            f"{classes}."
        )
    if clients * classes < len(present):
        raise BadInputError(
            f"federation: {clients} clients with {classes} classes each cannot hold all {len(present)} classes. Take "
            "more clients or more classes per client."
        )
    rng = np.random.default_rng(seed)
    shards = _shards(counts, clients, classes)
    pieces = [
        list(np.array_split(rng.permutation(np.flatnonzero(targets == value)), count))
        for value, count in zip(present, shards, strict=True)
    ]
    dealt = []
    for _ in range(clients):
        # the classes with most shards left, ties broken by lot: so none is left over that the last clients have twice
        left = np.array([len(own) for own in pieces])
        chosen = np.lexsort((rng.random(len(left)), -left))[:classes]
        dealt.append(np.sort(np.concatenate([pieces[index].pop() for index in chosen])))
    return tuple(dealt[index] for index in rng.permutation(clients))


def require_partition(clients: Sequence[np.ndarray], n: int, federation: Federation) -> None:
    """See that these are the clients of a federation on `n` records.

    Raises:
        BadInputError: another number of clients, an empty one, rows outside of the data, or a row held twice.
    """
    if len(clients) != federation.clients:
        raise BadInputError(
            f"federation: expected the rows of {federation.clients} clients, got {len(clients)}. Set clients alike."
        )
    if empty := [index for index, rows in enumerate(clients) if len(rows) == 0]:
        raise BadInputError(f"federation: expected records for every client, got none for client {empty[0]}.")
    rows = np.concatenate(list(clients))
    if rows.min() < 0 or rows.max() >= n:
        raise BadInputError(f"federation: expected rows from 0 to {n - 1}, got {rows.min()} to {rows.max()}.")
    if len(np.unique(rows)) < len(rows):
        raise BadInputError(
            f"federation: expected clients that share no record, got {len(rows) - len(np.unique(rows))} rows twice."
        )


def _shards(counts: np.ndarray, clients: int, classes: int) -> np.ndarray:
    """Into how many shards each class is cut: the largest shard as small as can be, and at most one for a client."""
    shards = np.ones(len(counts), dtype=np.int64)
    for _ in range(clients * classes - len(counts)):
        size = np.where(shards < np.minimum(clients, counts), counts / shards, 0)
        if not size.any():
            raise BadInputError(
                f"federation: {clients} clients with {classes} classes each need {clients * classes} shards, which "
                f"{counts.sum()} records in {len(counts)} classes cannot be cut into. Take fewer clients or classes."
            )
        shards[size.argmax()] += 1
    return shards


def _require_enough(n: int, clients: int) -> None:
    if clients > n:
        raise BadInputError(f"federation: expected at most {n} clients, one for each record, got {clients}.")
