"""How well items were ranked: one row a user."""

import numpy as np

from divulge.errors import BadInputError


def ndcg(scores: np.ndarray, relevant: np.ndarray, *, k: int) -> np.ndarray:
    """Normalized discounted cumulative gain of the best `k` items of each user `(N,)`.

    Järvelin and Kekäläinen 2002 (doi 10.1145/582415.582418), gains 0 and 1, divided by the best that the user's number
    of relevant items allows.

    Args:
        scores: `(N, items)`; `-inf` for an item that is not ranked.
        relevant: bool `(N, items)`, at least one a user.
        k: how many items count.

    Raises:
        BadInputError: arrays of different shapes, a user without a relevant item, or no item asked for.

    Example:
        >>> ndcg(np.array([[3.0, 2.0, 1.0]]), np.array([[True, False, True]]), k=2).round(4).tolist()
        [0.6131]
    """
    hits = _hits(scores, relevant, k)
    discount = 1 / np.log2(np.arange(2, hits.shape[1] + 2))
    best = np.cumsum(discount)[np.minimum(relevant.sum(axis=1), hits.shape[1]) - 1]
    return hits @ discount / best


def recall_at(scores: np.ndarray, relevant: np.ndarray, *, k: int) -> np.ndarray:
    """The share of a user's relevant items, or of `k` if there are more, that is among the best `k`, `(N,)`.

    Args:
        scores: see `ndcg`.
        relevant: see `ndcg`.
        k: how many items count.

    Raises:
        BadInputError: see `ndcg`.
    """
    hits = _hits(scores, relevant, k)
    return hits.sum(axis=1) / np.minimum(relevant.sum(axis=1), hits.shape[1])


def average_precision(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """The mean, over a user's relevant items, of the precision of the ranking down to each, `(N,)`.

    Items of equal score share a rank: precision is that of the whole group, so that no order among them is made up.

    Args:
        scores: see `ndcg`.
        relevant: see `ndcg`.

    Raises:
        BadInputError: see `ndcg`.

    Example:
        >>> average_precision(np.array([[1.0, 1.0]]), np.array([[True, False]])).tolist()
        [0.5]
    """
    _require(scores, relevant, 1)
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked, hits = (np.take_along_axis(values, order, axis=1) for values in (scores, relevant))
    place = np.arange(1, scores.shape[1] + 1)
    last = np.ones_like(hits)
    last[:, :-1] = ranked[:, 1:] != ranked[:, :-1]
    # of each item the end of its group: the next place at which a group ends
    ends = np.minimum.accumulate(np.where(last, place, scores.shape[1])[:, ::-1], axis=1)[:, ::-1]
    precision = np.take_along_axis(hits.cumsum(axis=1), ends - 1, axis=1) / ends
    return (precision * hits).sum(axis=1) / hits.sum(axis=1)


def r_precision(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """The share of relevant items among as many of the best as there are relevant ones, `(N,)`.

    Of items with the score of the last place, those that fit are taken to be relevant at the group's own share.

    Args:
        scores: see `ndcg`.
        relevant: see `ndcg`.

    Raises:
        BadInputError: see `ndcg`.
    """
    _require(scores, relevant, 1)
    wanted = relevant.sum(axis=1)
    edge = np.take_along_axis(-np.sort(-scores, axis=1), wanted[:, None] - 1, axis=1)
    above, tied = scores > edge, scores == edge
    left = wanted - above.sum(axis=1)
    return ((above & relevant).sum(axis=1) + left * (tied & relevant).sum(axis=1) / tied.sum(axis=1)) / wanted


def _hits(scores: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Whether each of the best `k` items is relevant, best first, `(N, k)`; of equal scores the first item is first."""
    _require(scores, relevant, k)
    return np.take_along_axis(relevant, np.argsort(-scores, axis=1, kind="stable")[:, :k], axis=1)


def _require(scores: np.ndarray, relevant: np.ndarray, k: int) -> None:
    if scores.ndim != 2 or scores.shape != relevant.shape or relevant.dtype != bool:
        raise BadInputError(
            f"ranking: expected scores (N, items) and relevant bool alike, got {scores.shape} and {relevant.dtype} "
            f"{relevant.shape}."
        )
    if k < 1 or not relevant.any(axis=1).all():
        raise BadInputError(f"ranking: expected k of 1 or more and a relevant item for each user, got k = {k}.")
