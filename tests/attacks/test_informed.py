"""The one record that is not known, out of a linear model: exact, or refused in words."""

import numpy as np
import pytest
import torch
from torch import nn

from divulge.attacks.reconstruction.informed import LinearModel, last_record, read_out
from divulge.errors import BadInputError


def records(n: int = 30, width: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, width))


def fitted(kind: str, inputs: np.ndarray, targets: np.ndarray) -> LinearModel:
    from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

    estimator = {
        "linear": LinearRegression(),
        "ridge": Ridge(alpha=0.3, solver="cholesky"),
        "logistic": LogisticRegression(C=2.0, tol=1e-12, solver="newton-cholesky", max_iter=1000),
        "softmax": LogisticRegression(C=0.5, tol=1e-12, solver="newton-cholesky", max_iter=1000),
    }[kind]
    return LinearModel.of(estimator.fit(inputs, targets))


def targets_of(kind: str, n: int = 30) -> np.ndarray:
    draw = np.random.default_rng(1)
    if kind in ("linear", "ridge"):
        return draw.normal(size=n)
    return draw.permutation(np.arange(n) % (2 if kind == "logistic" else 4))


@pytest.mark.parametrize("place", [0, 17])
@pytest.mark.parametrize("kind", ["linear", "ridge", "logistic", "softmax"])
def test_a_scikit_learn_model_gives_away_the_record_and_its_target(kind, place):
    inputs, targets = records(), targets_of(kind)
    model = fitted(kind, inputs, targets)
    rest = np.arange(30) != place
    found = last_record(model, inputs=inputs[rest], targets=targets[rest])
    np.testing.assert_allclose(found.input, inputs[place], atol=1e-6)
    assert found.target == pytest.approx(targets[place], abs=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_softmax_layer_of_torch_does_as_well(classes):
    inputs, targets = records(), np.arange(30) % classes
    layer = nn.Linear(6, classes).double()
    x, y = torch.from_numpy(inputs), torch.from_numpy(targets)
    optimizer = torch.optim.LBFGS(
        layer.parameters(), max_iter=500, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(layer(x), y, reduction="sum") + 0.1 * layer.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    model = LinearModel(layer.weight.detach().numpy(), layer.bias.detach().numpy(), "softmax", penalty=0.2)
    found = last_record(model, inputs=inputs[1:], targets=targets[1:])
    np.testing.assert_allclose(found.input, inputs[0], atol=1e-6)
    assert found.target == targets[0]


def test_a_model_of_the_known_records_alone_gives_nothing():
    inputs, targets = records(), targets_of("softmax")
    model = fitted("softmax", inputs[1:], targets[1:])
    with pytest.raises(BadInputError, match="left no trace"):
        last_record(model, inputs=inputs[1:], targets=targets[1:])


def test_noise_on_the_weights_is_divided_by_the_slope():
    inputs, targets = records(), targets_of("logistic")
    model = fitted("logistic", inputs, targets)
    errors = []
    for scale in (1e-6, 1e-4, 1e-2):
        noisy = LinearModel(
            model.weight + scale * np.random.default_rng(0).normal(size=model.weight.shape),
            *(model.bias, model.link, model.penalty),
        )
        found = last_record(noisy, inputs=inputs[1:], targets=targets[1:])
        errors.append(np.abs(found.input - inputs[0]).max())
    assert 0 < errors[0] < 1e-4
    assert errors[1] > 30 * errors[0]
    assert errors[2] > 10 * errors[1]


def test_rows_of_a_strongly_penalized_softmax_regression_are_its_records():
    from sklearn.linear_model import LogisticRegression

    inputs = records(5)
    estimator = LogisticRegression(C=1e-4, tol=1e-14, solver="newton-cholesky", max_iter=100).fit(inputs, np.arange(5))
    shown = read_out(LinearModel.of(estimator))
    np.testing.assert_allclose(shown, inputs - inputs.mean(axis=0), atol=1e-4)
    with pytest.raises(BadInputError, match="with a penalty"):
        read_out(LinearModel(np.zeros((2, 3)), np.zeros(2), "softmax"))


def test_what_is_no_such_model_is_refused():
    from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression
    from sklearn.svm import LinearSVC

    inputs, targets = records(), targets_of("logistic")
    for estimator, told in (
        (Lasso(), "got Lasso"),
        (LinearSVC(), "got LinearSVC"),
        (LogisticRegression(fit_intercept=False), "fit_intercept=True"),
        (LogisticRegression(l1_ratio=0.5, solver="saga", max_iter=5000), "squared penalty"),
        (LogisticRegression(class_weight="balanced"), "class_weight='balanced'"),
        (LogisticRegression(solver="liblinear"), "solver='liblinear'"),
        (LinearRegression(positive=True), "positive=True"),
    ):
        with pytest.raises(BadInputError, match=told):
            LinearModel.of(estimator.fit(inputs, targets))
    for weight, bias, link, penalty, told in (
        (np.zeros((2, 3)), np.zeros(2), "logistic", 0.0, "K = 1 unless"),
        (np.zeros((1, 3)), np.zeros(1), "softmax", 0.0, "K = 1 unless"),
        (np.zeros(3), np.zeros(1), "identity", 0.0, "expected weights"),
        (np.full((1, 3), np.nan), np.zeros(1), "identity", 0.0, "finite"),
        (np.zeros((1, 3)), np.zeros(1), "identity", -1.0, "penalty -1.0"),
    ):
        with pytest.raises(BadInputError, match=told):
            LinearModel(weight, bias, link, penalty)


def test_records_that_do_not_fit_and_a_record_without_a_trace_are_refused():
    inputs = records()
    model = LinearModel(np.zeros((1, 6)), np.zeros(1), "identity")
    with pytest.raises(BadInputError, match=r"known records \(n, 6\)"):
        last_record(model, inputs=inputs[:, :5], targets=np.zeros(30))
    with pytest.raises(BadInputError, match="known records"):
        last_record(model, inputs=inputs, targets=np.zeros(29))
    with pytest.raises(BadInputError, match="left no trace"):
        last_record(model, inputs=inputs, targets=np.zeros(30))
