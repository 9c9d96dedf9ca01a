import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from divulge.errors import BadInputError
from divulge.metrics import accuracy, bootstrap, clopper_pearson, macro_scores

LABELS = st.lists(st.integers(0, 4), min_size=12, max_size=12)


@settings(deadline=None, max_examples=50)
@given(LABELS, LABELS)
def test_macro_scores_agree_with_scikit_learn(labels, predictions):
    ours = macro_scores(np.array(labels), np.array(predictions), resamples=20)
    theirs = precision_recall_fscore_support(labels, predictions, average="macro", zero_division=0)[:3]
    np.testing.assert_allclose([estimate.value for estimate in ours], theirs, atol=1e-12)


def test_macro_intervals_are_those_of_a_bootstrap_over_records():
    rng = np.random.default_rng(0)
    labels = rng.random(400) < 0.5
    predictions = labels ^ (rng.random(400) < np.where(labels, 0.3, 0.1))

    def f1(a, b):
        return precision_recall_fscore_support(a, b, average="macro", zero_division=0)[2]

    ours, theirs = macro_scores(labels, predictions).f1, bootstrap(f1, labels, predictions, seed=0, resamples=300)
    np.testing.assert_allclose(ours, theirs, atol=0.01)


def test_accuracy_has_the_clopper_pearson_interval():
    estimate = accuracy(np.array([1, 1, 0, 0, 1]), np.array([1, 0, 0, 0, 1]))
    assert estimate.value == 0.8
    np.testing.assert_allclose(estimate[1:], clopper_pearson(4, 5))


@pytest.mark.parametrize(("labels", "predictions"), [([1], [1, 2]), ([], []), ([[1]], [[1]])])
def test_bad_input(labels, predictions):
    for metric in (accuracy, macro_scores):
        with pytest.raises(BadInputError, match="one shape"):
            metric(np.array(labels), np.array(predictions))
