"""Closed forms: exact against the truth, silent where there is nothing, and refused where they do not apply."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from divulge.attacks import ATTACKS
from divulge.attacks.gradients import GradientAttack
from divulge.attacks.gradients.layer_input import layer_input, signal_below
from divulge.attacks.gradients.layers import layer
from divulge.errors import BadInputError
from divulge.metrics.images import best_order, psnr
from divulge.models.layers import Flatten, Normalize, Standardize
from divulge.models.lenet import LeNet
from divulge.models.mlp import MLP
from divulge.releases import share

CLOSED = ["active-neurons", "first-layer", "spear"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def victims(n, seed=0, shape=(1, 8, 8), classes=10):
    return torch.rand(n, *shape, generator=generator(seed)), torch.randint(classes, (n,), generator=generator(seed + 1))


def attack(name, record, model, **settings):
    return ATTACKS.make({"name": name, **settings}).run(record, model, generator=generator())


def standardized():
    front = Standardize((3, 6, 6))
    front.measure(torch.rand(50, 3, 6, 6, generator=generator()) * 5 + 2)
    return front


ENTRANCES = {
    "flatten": lambda: nn.Sequential(nn.Flatten()),
    "normalize": lambda: nn.Sequential(Normalize([0.4, 0.5, 0.6], [0.2, 0.3, 0.1]), nn.Flatten()),
    "channels last": lambda: nn.Sequential(Normalize([0.4, 0.5, 0.6], [0.2, 0.3, 0.1]), Flatten()),
    "standardize": lambda: nn.Sequential(standardized(), nn.Flatten()),
}


@pytest.mark.parametrize("front", ENTRANCES)
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid, nn.GELU])
def test_batches_of_one_are_exact_whatever_stands_before_and_after_the_first_layer(front, activation):
    torch.manual_seed(0)
    model = nn.Sequential(ENTRANCES[front](), nn.Linear(108, 24), activation(), nn.BatchNorm1d(24), nn.Linear(24, 10))
    inputs, targets = victims(5, shape=(3, 6, 6))
    records = [share(model, inputs[i : i + 1], targets[i : i + 1]) for i in range(5)]
    found = attack("first-layer", records, model)
    assert found.inputs.shape == (5, 1, 3, 6, 6)
    assert (found.inputs[:, 0] - inputs).abs().max() < 1e-6
    assert torch.equal(found.targets[:, 0], targets)
    assert found.exact
    assert found.found.all()


@pytest.mark.parametrize("name", CLOSED)
def test_every_closed_form_leaves_everything_as_it_was(name):
    model = MLP((64, 16)).build((1, 8, 8), 10, seed=0).train()
    record = share(model, *victims(1))
    state, gradients = copy.deepcopy(model.state_dict()), copy.deepcopy(dict(record.gradients))
    random = torch.get_rng_state()
    first = attack(name, record, model)
    assert torch.equal(random, torch.get_rng_state())
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(torch.equal(value, gradients[key]) for key, value in record.gradients.items())
    assert torch.equal(first.inputs, attack(name, record, model).inputs), "the generator decides"


def test_defenses_that_leave_the_first_layer_alone_change_nothing():
    model = MLP((64, 16)).build((1, 8, 8), 10, seed=0)
    inputs, targets = victims(1)
    record = share(model, inputs, targets)
    above = {name: torch.randn(g.shape, generator=generator()) for name, g in record.gradients.items()}
    above |= {name: record.gradients[name] for name in ("1.weight", "1.bias")}
    found = attack("first-layer", replace(record, gradients=above), model)
    assert found.exact
    assert (found.inputs[0] - inputs).abs().max() < 1e-6


def test_weighing_all_rows_averages_noise_away_and_claims_nothing():
    model = MLP((256, 16)).build((1, 8, 8), 10, seed=0)
    inputs, targets = victims(1)
    record = share(model, inputs, targets)
    weight, bias = record.gradients["1.weight"], record.gradients["1.bias"]
    noise = 0.1 * bias.abs().max() * torch.randn(weight.shape, generator=generator())
    noisy = replace(record, gradients={**record.gradients, "1.weight": weight + noise})
    found = attack("first-layer", noisy, model)
    one_row = (weight + noise)[bias.abs().argmax()] / bias[bias.abs().argmax()]
    error = (found.inputs.flatten() - inputs.flatten()).square().mean()
    assert error < 0.2 * (one_row - inputs.flatten()).square().mean()
    assert not found.exact


def test_a_dead_layer_is_not_found():
    model = MLP((8, 4)).build((1, 8, 8), 10, seed=0)
    inputs, targets = victims(1)
    with torch.no_grad():
        model[1].bias.fill_(-100)
    found = attack("first-layer", share(model, inputs, targets), model)
    assert not found.found.any()
    assert not found.inputs.any()
    assert not found.exact


@pytest.mark.parametrize("name", ["active-neurons", "spear"])
@pytest.mark.parametrize(("batch", "width", "classes"), [(1, 64, 10), (2, 1024, 10), (4, 1024, 10), (3, 128, 2)])
def test_batches_are_exact_on_relu_layers(name, batch, width, classes):
    model = MLP((width, 16)).build((1, 8, 8), classes, seed=0)
    inputs, targets = victims(batch, classes=classes)
    found = attack(name, share(model, inputs, targets), model)
    order = best_order(found.inputs[0], inputs)
    assert psnr(found.inputs[0][order], inputs).min() > 100
    assert torch.equal(found.targets[0][order], targets)
    assert found.exact
    assert found.found.all()


@pytest.mark.parametrize(
    ("name", "family", "batch"),
    [
        ("first-layer", MLP((64,)), 1),
        ("active-neurons", MLP((256,)), 4),
        ("spear", MLP((256,)), 4),
        ("peel", LeNet(), 1),
    ],
)
def test_thirty_two_records_are_rebuilt_by_every_closed_form(name, family, batch):
    model = family.build((1, 8, 8), 10, seed=0)
    inputs, targets = victims(32)
    records = [share(model, *one) for one in zip(inputs.split(batch), targets.split(batch), strict=True)]
    found = attack(name, records, model)
    assert found.inputs.shape == (32 // batch, batch, 1, 8, 8)
    assert found.exact
    for rebuilt, labels, *truth in zip(
        found.inputs, found.targets, inputs.split(batch), targets.split(batch), strict=True
    ):
        order = best_order(rebuilt, truth[0])
        assert psnr(rebuilt[order], truth[0]).min() > 80
        assert torch.equal(labels[order], truth[1])


def test_spear_rebuilds_eight_records():
    model = MLP((512, 32)).build((1, 8, 8), 10, seed=0)
    inputs, targets = victims(8)
    found = attack("spear", share(model, inputs, targets, reduction="sum"), model)
    order = best_order(found.inputs[0], inputs)
    assert psnr(found.inputs[0][order], inputs).min() > 100
    assert torch.equal(found.targets[0][order], targets)


@pytest.mark.parametrize("name", ["active-neurons", "spear"])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_nothing_is_claimed_where_no_neuron_is_ever_silent(name, activation):
    model = MLP((128, 16), activation=activation).build((1, 8, 8), 10, seed=0)
    settings = {"samples": 2000} if name == "spear" else {}
    found = attack(name, share(model, *victims(3)), model, **settings)
    assert not found.found.any()
    assert not found.inputs.any()
    assert not found.exact
    assert (found.targets == -1).all()


@pytest.mark.parametrize("name", ["active-neurons", "spear"])
def test_a_record_twice_in_a_batch_is_not_mistaken_for_two(name):
    model = MLP((128, 16)).build((1, 8, 8), 10, seed=0)
    inputs, targets = victims(2)
    twice = share(model, inputs[[0, 0, 1]], targets[[0, 0, 1]])
    found = attack(name, twice, model)
    assert not found.exact


def test_of_larger_batches_active_neurons_give_those_records_that_had_one():
    model = MLP((256, 16)).build((1, 8, 8), 10, seed=0)
    inputs, targets = victims(16)
    found = attack("active-neurons", share(model, inputs, targets), model)
    rebuilt = found.inputs[0][found.found[0]]
    assert 4 <= len(rebuilt) < 16
    assert torch.cdist(rebuilt.flatten(1), inputs.flatten(1)).min(dim=1).values.max() < 1e-3
    assert not found.exact


@pytest.mark.parametrize("classes", [10, 2])
def test_the_signal_and_the_input_of_the_head_stand_for_all_that_lies_above_the_body(classes):
    model = LeNet().build((3, 8, 8), classes, seed=0).double()
    inputs, targets = victims(1, shape=(3, 8, 8), classes=classes)
    record = share(model, inputs.double(), targets)
    head = layer(record, model, "7")
    signal = signal_below(head)
    features = model[:-1](inputs.double())[0]
    assert torch.allclose(layer_input(head).values, features, rtol=1e-10)
    body = list(model[:-1].parameters())
    shared = list(record.gradients.values())[: len(body)]
    for mine, theirs in zip(torch.autograd.grad(signal @ features, body), shared, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-15)


def test_masked_columns_are_zero_and_the_others_exact():
    model = LeNet().build((1, 8, 8), 10, seed=0)
    inputs, targets = victims(1)
    record = share(model, inputs, targets)
    masked = record.gradients["7.weight"].clone()
    masked[:, ::3] = 0
    answer = layer_input(layer(replace(record, gradients={**record.gradients, "7.weight": masked}), model, "7"))
    features = model[:-1](inputs)[0].detach().double()
    assert not answer.values[::3].any()
    kept = torch.arange(len(features)) % 3 != 0
    assert torch.allclose(answer.values[kept], features[kept], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "model", "batch", "words"),
    [
        ("first-layer", MLP((8,)), 2, "batches of 1, got 2. Use active-neurons or spear"),
        ("first-layer", LeNet(), 1, "whose first layer with weights is linear"),
        ("spear", LeNet(), 2, "whose first layer with weights is linear"),
        ("active-neurons", LeNet(), 2, "whose first layer with weights is linear"),
    ],
)
def test_records_that_closed_forms_cannot_use(name, model, batch, words):
    built = model.build((1, 8, 8), 10, seed=0)
    with pytest.raises(BadInputError, match=words):
        attack(name, share(built, *victims(batch)), built)


def test_a_first_layer_without_bias_or_behind_batch_norm_in_training_mode_is_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8, bias=False), nn.ReLU(), nn.Linear(8, 10))
    with pytest.raises(BadInputError, match="has a bias"):
        attack("first-layer", share(model, *victims(1)), model)
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    with pytest.raises(BadInputError, match="batch norm comes first"):
        attack("active-neurons", share(model, *victims(3), training=True), model)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "spear", "samples": 0}, "1 sample or more"),
        ({"name": "spear", "agreement": 0.5}, r"agreement in \(0.5, 1\]"),
        ({"name": "active-neurons", "tolerance": 0.0}, r"tolerance in \(0, 1\)"),
        ({"name": "first-layer", "tolerance": 0.0}, "positive tolerance"),
        ({"name": "spear", "sample": 3}, "nearest is 'samples'"),
    ],
)
def test_wrong_settings(spec, words):
    with pytest.raises(BadInputError, match=words):
        ATTACKS.make(spec)


@pytest.mark.parametrize("name", ATTACKS.kind_of(GradientAttack))
def test_every_gradient_attack_refuses_records_that_are_not_alike_or_not_there(name):
    model = MLP((8,)).build((1, 8, 8), 10, seed=0)
    one, two = share(model, *victims(1)), share(model, *victims(2))
    with pytest.raises(BadInputError, match="one record or more, got none"):
        attack(name, [], model)
    with pytest.raises(BadInputError, match="got 2 kinds of records"):
        attack(name, [one, two], model)
    with pytest.raises(BadInputError, match="another architecture"):
        attack(name, one, MLP((9,)).build((1, 8, 8), 10, seed=0))
