"""F1 of each class: equal to scikit-learn's, intervals that hold, and what is refused."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from divulge.errors import BadInputError
from divulge.metrics.by_class import f1_by_class


def test_equal_to_scikit_learn():
    draw = np.random.default_rng(0)
    labels = draw.choice(4, 300, p=[0.5, 0.3, 0.19, 0.01])
    predictions = np.where(draw.random(300) < 0.6, labels, draw.integers(0, 4, 300))
    found = f1_by_class(labels, predictions, resamples=50)
    expected = f1_score(labels, predictions, average=None)
    assert list(found) == [0, 1, 2, 3]
    assert np.allclose([one.value for one in found.values()], expected)
    assert all(one.low <= one.value <= one.high for one in found.values())
    assert found == f1_by_class(labels, predictions, resamples=50)


def test_the_interval_covers_what_more_records_tell():
    draw = np.random.default_rng(1)

    def told(n):
        labels = draw.integers(0, 2, n)
        return labels, np.where(draw.random(n) < 0.7, labels, 1 - labels)

    truth = f1_by_class(*told(200_000), resamples=2)[1].value
    inside = [one.low <= truth <= one.high for one in (f1_by_class(*told(150), resamples=200)[1] for _ in range(200))]
    assert 0.89 <= np.mean(inside) <= 0.99


def test_classes_that_only_guesses_name_are_left_out_and_a_class_never_guessed_has_none():
    found = f1_by_class(np.array([0, 0, 5]), np.array([0, 7, 0]))
    assert list(found) == [0, 5]
    assert found[5].value == 0


@pytest.mark.parametrize(("labels", "predictions"), [([], []), ([0, 1], [0]), ([[0]], [[0]])])
def test_what_cannot_be_scored_is_refused(labels, predictions):
    with pytest.raises(BadInputError, match="one shape"):
        f1_by_class(np.array(labels), np.array(predictions))


def test_no_level_outside_0_to_1():
    with pytest.raises(BadInputError, match="between 0 and 1"):
        f1_by_class(np.array([0]), np.array([0]), confidence=95)
