"""Coarsened posteriors against rows worked out by hand, and what holds for any row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from divulge.defenses import DEFENSES
from divulge.defenses.coarse import LabelOnly, Rounding, TopK
from divulge.errors import BadInputError

ROWS = np.array([[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4], [0.97, 0.01, 0.01, 0.01]])

BY_HAND = {
    "top-1": (TopK(1), [[0.5, 1 / 6, 1 / 6, 1 / 6], [0.2, 0.2, 0.2, 0.4], [0.97, 0.01, 0.01, 0.01]]),
    "top-2": (TopK(2), [[0.5, 0.3, 0.1, 0.1], [0.15, 0.15, 0.3, 0.4], [0.97, 0.01, 0.01, 0.01]]),
    "top-4 of 4": (TopK(4), ROWS.tolist()),
    "top-9 of 4": (TopK(9), ROWS.tolist()),
    # 0.15 rounds to the even 0.2; its sum is 1, so is that of the others once 0.01 is gone
    "one digit": (Rounding(1), [[0.5, 0.3, 0.2, 0.0], [0.1, 0.2, 0.3, 0.4], [1.0, 0.0, 0.0, 0.0]]),
    "two digits": (Rounding(2), ROWS.tolist()),
    "label only": (LabelOnly(), [[1.0, 0, 0, 0], [0, 0, 0, 1.0], [1.0, 0, 0, 0]]),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_rows_by_hand(case):
    defense, expected = BY_HAND[case]
    assert np.allclose(defense.respond(ROWS), expected, atol=1e-12)


def test_rounding_brings_rows_back_to_sum_one_and_spreads_what_vanished():
    told = Rounding(1).respond(np.array([[0.36, 0.33, 0.31], [0.96, 0.02, 0.02], *np.full((1, 3), 1 / 3)]))
    assert np.allclose(told, [[0.4, 0.3, 0.3], [1, 0, 0], [1 / 3] * 3])
    many = np.full((1, 30), 1 / 30)  # every entry rounds to zero: nothing is told
    assert np.allclose(Rounding(1).respond(many), many)


def test_equal_posteriors_are_told_in_the_order_of_the_classes():
    tied = np.array([[0.25, 0.25, 0.25, 0.25], [0.4, 0.4, 0.1, 0.1]])
    assert np.allclose(TopK(1).respond(tied), [[0.25] * 4, [0.4, 0.2, 0.2, 0.2]])
    assert LabelOnly().respond(tied).argmax(axis=1).tolist() == [0, 0]


RESPONDING = [TopK(1), TopK(2), TopK(3), Rounding(1), Rounding(3), LabelOnly()]


@pytest.mark.parametrize("defense", RESPONDING, ids=repr)
@settings(max_examples=40, deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 8)), elements=st.floats(0.001, 1)))
def test_what_holds_for_every_row(defense, table):
    given_rows = table / table.sum(axis=1, keepdims=True)
    before = given_rows.copy()
    told = defense.respond(given_rows)
    assert np.array_equal(given_rows, before), "the caller's posteriors were written to"
    assert told.shape == before.shape
    assert told.min() >= 0
    assert np.allclose(told.sum(axis=1), 1)
    best = before.argmax(axis=1)
    assert (told[np.arange(len(told)), best] >= told.max(axis=1) - 1e-12).all(), "the answer changed"
    if not isinstance(defense, Rounding):  # sums that are not 1 after rounding can round differently again
        assert np.allclose(defense.respond(told), told, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(arrays(np.float64, (4, 6), elements=st.floats(0.001, 1)), st.integers(1, 6))
def test_top_k_tells_at_most_k_values_and_one_more(table, k):
    told = TopK(k).respond(table / table.sum(axis=1, keepdims=True))
    assert all(len(np.unique(row.round(12))) <= k + 1 for row in told)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "top-k", "k": 0}, "top-k: expected k >= 1, got 0"),
        ({"name": "top-k", "k": "many"}, "setting 'k'"),
        ({"name": "top-k", "kk": 2}, "no setting 'kk'; the nearest is 'k'"),
        ({"name": "rounding", "digits": 0}, "for less use label-only"),
        ({"name": "label-only", "k": 1}, "no setting 'k'"),
        ("topk", "the nearest is 'top-k'"),
        ({}, "a 'name' is needed"),
    ],
)
def test_bad_settings_are_refused(spec, message):
    with pytest.raises(BadInputError, match=message):
        DEFENSES.make(spec)
