"""Descent to almost no loss: where it ends, what it leaves alone, and what it refuses."""

import pytest
import torch
from torch import nn

from divulge.data import Dataset, load
from divulge.errors import BadInputError
from divulge.models.homogeneous import HomogeneousMLP
from divulge.training.margin import Descent, fit_to_margin

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def data() -> Dataset:
    digits = load("digits")
    rows = torch.cat([(digits.targets == kind).nonzero()[:10, 0] for kind in (3, 8)])
    return Dataset(digits.inputs[rows], torch.arange(2).repeat_interleave(10), classes=("3", "8"))


def network(classes: int = 2, **settings: object) -> nn.Module:
    return HomogeneousMLP(hidden=(60, 40), **settings).build(SHAPE, classes, seed=0)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_reaches_the_loss_and_leaves_float32_weights(data, precision):
    model = network()
    ended = fit_to_margin(model, data, Descent(loss=1e-6, precision=precision))
    assert ended.reached
    assert ended.loss <= 1e-6
    assert not model.training
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert torch.equal(model(data.inputs).argmax(dim=1), data.targets)


def test_steps_at_a_rate_are_plain_gradient_descent(data):
    model, plain = network(first_std=None), network(first_std=None)
    fit_to_margin(model, data, Descent(loss=1e-9, steps=3, lr=0.1, weight_decay=0.01))
    plain[0].measure(data.inputs)
    plain.double()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, weight_decay=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(plain(data.inputs.double()), data.targets).backward()
        optimizer.step()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours, theirs.float(), atol=1e-6)


def test_a_step_is_as_long_as_told(data):
    model = network()
    before = torch.cat([weight.detach().flatten() for weight in model.parameters()])
    fit_to_margin(model, data, Descent(steps=1, length=0.25))
    after = torch.cat([weight.detach().flatten() for weight in model.parameters()])
    assert float((after - before).norm()) == pytest.approx(0.25, rel=1e-4)


def test_scaling_the_weights_scales_the_answer(data):
    model = network()
    fit_to_margin(model, data, Descent(steps=20))
    first = model(data.inputs)[:, 1]
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 2.0
    # the bias stands in the first of three layers, so it scales with the rest
    assert torch.allclose(model(data.inputs)[:, 1], 8 * first, rtol=1e-4)


def test_an_end_before_the_loss_is_told(data):
    assert not fit_to_margin(network(), data, Descent(steps=2)).reached


@pytest.mark.parametrize("setting", [{"loss": 0.0}, {"steps": 0}, {"length": -1.0}, {"lr": -1.0}, {"weight_decay": -1}])
def test_settings_out_of_range(setting):
    with pytest.raises(BadInputError, match="descent"):
        Descent(**setting)


def test_no_records_and_a_loss_that_is_not_finite_are_refused(data):
    with pytest.raises(BadInputError, match="none"):
        fit_to_margin(network(), data[:0], Descent())
    broken = network()
    broken[2].weight.data.fill_(torch.nan)
    with pytest.raises(BadInputError, match="Lower"):
        fit_to_margin(broken, data, Descent())
    with pytest.raises(BadInputError, match="hidden layer"):
        HomogeneousMLP(hidden=())
