"""Scikit-learn classifiers as targets: column order, unseen classes, shadows."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from divulge.auditing.targets import as_target
from divulge.auditing.targets.labels import class_numbers
from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.releases import FLOOR


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    images = torch.from_numpy(data.images).float()[:, None] / 16
    return Dataset(images[:400], torch.from_numpy(data.target[:400]).long())


def rows(data):
    return data.inputs.reshape(len(data), -1).numpy()


def test_posteriors_are_those_of_predict_proba(digits):
    model = LogisticRegression(max_iter=200).fit(rows(digits), digits.targets)
    target = as_target(model, classes=digits.classes, probe=digits.inputs)
    assert (target.kind, target.name) == ("scikit-learn classifier", "LogisticRegression")
    assert np.allclose(np.exp(target.release.logits(digits.inputs)), model.predict_proba(rows(digits)), atol=1e-9)
    assert target.estimator is model
    assert target.architecture() is None


def test_string_labels_and_missing_classes_land_in_the_datas_order(digits):
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    seen = digits.targets.numpy() != 4
    labels = np.array(names)[digits.targets.numpy()]
    model = RandomForestClassifier(20, random_state=0).fit(rows(digits)[seen], labels[seen])
    assert list(model.classes_) != sorted(names, key=names.index), "the orders must differ to be tested"
    target = as_target(model, classes=names, probe=digits.inputs)
    logits = target.release.logits(digits.inputs)
    assert np.allclose(logits[:, 4], np.log(FLOOR))
    assert (logits.argmax(1)[seen] == digits.targets.numpy()[seen]).all()
    assert any("never saw 1 of 10 classes (four)" in note for note in target.notes)


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        (["b", "a"], ("a", "b", "c"), [1, 0]),
        ([3, 7], ("3", "7"), [0, 1]),
        ([1, 0], ("cat", "dog"), [1, 0]),
        ([0.0, 1.0], ("0", "1"), [0, 1]),
        ([False, True], ("0", "1"), [0, 1]),
        ([-1, 1], ("-1", "1"), [0, 1]),
        (["yes", "no"], ("0", "1"), [1, 0]),
    ],
)
def test_labels_become_class_numbers(labels, classes, numbers):
    assert class_numbers(np.array(labels), classes, what="labels")[0] == numbers


@pytest.mark.parametrize(
    ("labels", "classes"),
    [(["a", "x"], ("a", "b")), ([0, 2], ("cat", "dog")), ([-1, 1], ("0", "1")), (["yes", "no"], ("0", "1", "2"))],
)
def test_labels_of_no_class_are_refused(labels, classes):
    with pytest.raises(BadInputError, match="neither a class name nor a class number"):
        class_numbers(np.array(labels), classes, what="labels")


@pytest.mark.parametrize("classes", [2, 10])
def test_decision_function_is_read_as_logits_and_said_so(classes, digits):
    kept = digits[digits.targets < classes]
    model = LinearSVC().fit(rows(kept), kept.targets)
    target = as_target(model, classes=classes, probe=kept.inputs)
    logits = target.release.logits(kept.inputs)
    scores = model.decision_function(rows(kept))
    wanted = scores if classes > 2 else np.stack([np.zeros(len(kept)), scores], axis=1)
    assert np.allclose(logits, wanted)
    assert any("no calibrated posteriors" in note for note in target.notes)


def test_an_unseen_class_has_the_floor_posterior_among_scores_too(digits):
    kept = digits[digits.targets < 3]
    model = LinearSVC().fit(rows(kept), kept.targets)
    logits = as_target(model, classes=4, probe=kept.inputs).release.logits(kept.inputs)
    posteriors = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    assert np.allclose(posteriors[:, 3], FLOOR, rtol=1e-6, atol=0)


def test_shadows_are_seeded_clones_fitted_to_other_records(digits):
    model = make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0))
    model.fit(rows(digits), digits.targets)
    target = as_target(model, classes=10, probe=digits.inputs)
    before = target.release.logits(digits.inputs)
    half = digits[digits.targets != 9][:150]
    first, second, third = (target.refit(half, seed=seed).logits(digits.inputs) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)
    assert np.allclose(first[:, 9], np.log(FLOOR))
    inside = first[: len(half)].argmax(1)[digits.targets[: len(half)].numpy() != 9]
    assert (inside == digits.targets[: len(half)].numpy()[digits.targets[: len(half)].numpy() != 9]).mean() > 0.95
    assert np.array_equal(target.release.logits(digits.inputs), before), "the target is as it was"
    assert np.array_equal(pickle.loads(pickle.dumps(target.refit))(half, seed=1).logits(digits.inputs), first)


def test_fingerprints_follow_what_was_fitted(digits):
    def fit(seed):
        model = RandomForestClassifier(5, random_state=seed).fit(rows(digits), digits.targets)
        return as_target(model, classes=10, probe=digits.inputs).fingerprint

    assert fit(0) == fit(0)
    assert fit(0) != fit(1)


def test_fitted_to_named_columns_it_stays_quiet(digits, recwarn):
    model = LogisticRegression(max_iter=200).fit(rows(digits), digits.targets)
    model.feature_names_in_ = np.array([f"pixel {number}" for number in range(64)])
    as_target(model, classes=10, probe=digits.inputs)
    assert not [w for w in recwarn if "feature names" in str(w.message)]


class Uncloneable:
    classes_ = np.array([0, 1])

    def predict_proba(self, x):
        return np.full((len(x), 2), 0.5)


REFUSED = {
    "not fitted": (lambda x, y: LogisticRegression(), "it is not fitted"),
    "other width": (
        lambda x, y: LogisticRegression().fit(x[:, :10], y),
        "fitted to 10 features a record and the records have 64",
    ),
    "outputs": (
        lambda x, y: MultiOutputClassifier(LogisticRegression()).fit(x[:50], np.stack([y, y], 1)[:50]),
        "has 2 outputs",
    ),
    "other labels": (
        lambda x, y: LogisticRegression().fit(x, y + 100),
        "'100' is neither a class name nor a class number",
    ),
    "one against one": (lambda x, y: SVC(decision_function_shape="ovo").fit(x, y), "decision_function_shape='ovr'"),
    "regressor": (lambda x, y: DummyRegressor().fit(x, y), "neither predict_proba nor decision_function"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_audited_is_refused(case, digits):
    make, message = REFUSED[case]
    with pytest.raises(BadInputError, match=message):
        as_target(make(rows(digits)[:100], digits.targets.numpy()[:100]), classes=10, probe=digits.inputs)


def test_a_classifier_that_cannot_be_cloned_has_no_shadows(digits):
    target = as_target(Uncloneable(), classes=2, probe=digits.inputs)
    with pytest.raises(BadInputError, match="shadow models need a clone of Uncloneable"):
        target.refit(digits, seed=0)
