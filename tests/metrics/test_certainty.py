"""Precision of the most certain guesses: by hand, ties, and gains with and without something to gain."""

import numpy as np
import pytest

from divulge.errors import BadInputError
from divulge.metrics import Estimate
from divulge.metrics.certainty import over_models, precision_at, precision_gain, right_at, score_attribute


def test_by_hand():
    right = np.array([True, True, False, True])
    assert right_at(right, np.array([0.1, 0.9, 0.8, 0.7]), k=3) == 2
    assert precision_at(right, np.array([0.1, 0.9, 0.8, 0.7]), k=1).value == 1


def test_ties_have_no_order():
    right = np.array([True, False, False, False])
    assert right_at(right, np.ones(4), k=2) == 0.5
    assert right_at(right[::-1], np.ones(4), k=2) == 0.5


def test_a_gain_is_seen_and_none_is_not():
    draw = np.random.default_rng(0)
    right, sure = draw.random(600) < 0.3, draw.random(600)
    knowing = sure + 2 * right
    gain = precision_gain(right, knowing, right, sure, k=50, seed=0)
    assert gain.low > 0.4
    nothing = precision_gain(right, sure, right, draw.random(600), k=50, seed=0)
    assert nothing.low < 0 < nothing.high


def test_findings_of_one_value_and_of_any():
    truth = np.array([0, 1, 1, 0, 1, 0])
    probabilities = np.stack([1 - truth * 0.9, truth * 0.9], axis=1)
    one = {f.metric: f for f in score_attribute(truth, probabilities, value=1, top=(3, 100))}
    assert one["precision at top 3"].value == one["accuracy"].value == 1
    assert "precision at top 100" not in one
    any_of = score_attribute(truth, probabilities, control=np.full((6, 2), 0.5), top=(2,))
    assert [f.control is not None for f in any_of] == [True] * 4


def test_several_models_are_less_sure_than_the_spread_between_them():
    estimate = over_models([Estimate(0.2, 0.1, 0.3), Estimate(0.6, 0.5, 0.7)])
    assert estimate.value == pytest.approx(0.4)
    assert (estimate.low, estimate.high) == (0.0, 1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: right_at(np.ones(3, dtype=bool), np.ones(3), k=4),
        lambda: right_at(np.ones(3, dtype=bool), np.ones(2), k=1),
        lambda: over_models([]),
        lambda: score_attribute(np.array([0, 1]), np.array([[np.nan, 1.0], [0.5, 0.5]]), top=()),
        lambda: score_attribute(np.array([0, 1]), np.ones((3, 2)) / 2, top=()),
        lambda: score_attribute(np.array([0, -1]), np.ones((2, 2)) / 2, top=()),
    ],
)
def test_what_cannot_be_scored_is_refused(make):
    with pytest.raises(BadInputError):
        make()
