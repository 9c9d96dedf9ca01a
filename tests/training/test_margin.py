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


def test_the_loss_and_the_steps_told_are_those_at_the_end(data):
    model, seen = network(), []
    ended = fit_to_margin(model, data, Descent(steps=2), watch=lambda step, loss: seen.append((step, loss)))
    assert ended.steps == 2
    assert [step for step, _ in seen] == [1, 2]
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(data.inputs), data.targets)
    assert ended.loss == pytest.approx(float(loss), rel=1e-5)
    assert ended.loss < seen[-1][1]
    again = fit_to_margin(model, data, Descent(loss=ended.loss * 1.001))
    assert (again.steps, again.reached) == (0, True)


def test_what_the_model_draws_is_the_same_each_time_and_the_global_random_state_stays(data):
    def trained():
        model = nn.Sequential(nn.Dropout(0.3), *network(first_std=None))
        model[1].measure(data.inputs)
        fit_to_margin(model, data, Descent(steps=3))
        return model[3].weight

    state = torch.get_rng_state()
    first = trained()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert torch.equal(trained(), first)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_network_without_a_slope_stays_where_it_is(data, precision):
    dead = network()
    with torch.no_grad():
        dead[2].weight.zero_()
        dead[2].bias.fill_(-1.0)
    before = [weight.clone() for weight in dead.parameters()]
    ended = fit_to_margin(dead, data, Descent(steps=5, precision=precision))
    assert (ended.steps, ended.reached) == (0, False)
    assert all(torch.equal(*pair) for pair in zip(dead.parameters(), before, strict=True))


@pytest.mark.parametrize(
    "setting",
    [
        {"loss": 0.0},
        {"loss": float("nan")},
        {"steps": 0},
        {"length": -1.0},
        {"lr": -1.0},
        {"lr": float("nan")},
        {"weight_decay": -1},
        {"weight_decay": float("nan")},
    ],
)
def test_settings_out_of_range(setting):
    with pytest.raises(BadInputError, match="descent"):
        Descent(**setting)


def test_no_records_and_a_loss_that_is_not_finite_are_refused(data):
    with pytest.raises(BadInputError, match="none"):
        fit_to_margin(network(), data[:0], Descent())
    with pytest.raises(BadInputError, match="no weights"):
        fit_to_margin(network().requires_grad_(False), data, Descent())
    broken = network()
    broken[2].weight.data.fill_(torch.nan)
    with pytest.raises(BadInputError, match="Lower"):
        fit_to_margin(broken, data, Descent())
    with pytest.raises(BadInputError, match="hidden layer"):
        HomogeneousMLP(hidden=())
