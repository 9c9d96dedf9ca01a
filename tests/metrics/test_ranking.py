import math

import numpy as np
import pytest

from divulge.errors import BadInputError
from divulge.metrics.ranking import average_precision, ndcg, r_precision, recall_at


def slow_ndcg(scores, relevant, k):
    order = sorted(range(len(scores)), key=lambda item: (-scores[item], item))[:k]
    gain = sum(1 / math.log2(place + 2) for place, item in enumerate(order) if relevant[item])
    best = sum(1 / math.log2(place + 2) for place in range(min(k, len(scores), sum(relevant))))
    return gain / best


@pytest.mark.parametrize("k", [1, 3, 7, 50])
def test_gain_and_recall_are_those_of_a_slow_reference(k):
    rng = np.random.default_rng(k)
    scores, relevant = rng.normal(size=(40, 12)).round(1), rng.random((40, 12)) < 0.3
    relevant[:, 4] |= ~relevant.any(axis=1)
    expected = [slow_ndcg(*row, k) for row in zip(scores, relevant.tolist(), strict=True)]
    np.testing.assert_allclose(ndcg(scores, relevant, k=k), expected)
    for row, own, got in zip(scores, relevant, recall_at(scores, relevant, k=k), strict=True):
        order = sorted(range(12), key=lambda item: (-row[item], item))[:k]
        assert got == pytest.approx(own[order].sum() / min(k, own.sum()))


def test_precision_of_a_ranking_is_that_of_another_library():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    for scores in (rng.normal(size=(30, 20)), rng.integers(0, 3, size=(30, 20)).astype(float)):
        relevant = rng.random((30, 20)) < 0.3
        relevant[:, 0] |= ~relevant.any(axis=1)
        expected = [average_precision_score(own, row) for own, row in zip(relevant, scores, strict=True)]
        np.testing.assert_allclose(average_precision(scores, relevant), expected)


def test_r_precision_of_ties_is_its_mean_over_all_orders():
    scores = np.array([[2.0, 1.0, 1.0, 1.0, 0.0]])
    relevant = np.array([[True, True, False, False, False]])
    assert r_precision(scores, relevant) == pytest.approx([(1 + 1 / 3) / 2])
    assert r_precision(np.zeros((1, 4)), np.array([[True, False, False, False]])) == pytest.approx([0.25])


@pytest.mark.parametrize(
    ("scores", "relevant", "k"),
    [
        (np.zeros((1, 3)), np.ones((1, 2), dtype=bool), 1),
        (np.zeros((1, 3)), np.zeros((1, 3), dtype=bool), 1),
        (np.zeros((1, 3)), np.ones((1, 3)), 1),
        (np.zeros((1, 3)), np.ones((1, 3), dtype=bool), 0),
    ],
    ids=["other shape", "nothing relevant", "no booleans", "no item"],
)
def test_bad_rankings_are_refused(scores, relevant, k):
    with pytest.raises(BadInputError, match="ranking: expected"):
        ndcg(scores, relevant, k=k)
