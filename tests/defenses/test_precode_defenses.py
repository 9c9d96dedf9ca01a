"""PRECODE and its kin: what they put in, what a client shares under them, and what an oracle is told of it."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from divulge.data import Dataset
from divulge.defenses import DEFENSES
from divulge.defenses.precode import Precode, behind
from divulge.errors import BadInputError
from divulge.models.lenet import LeNet
from divulge.models.mlp import MLP
from divulge.models.stochastic import Sample, penalties, stochastic_layers
from divulge.releases import GradientRecord, share
from divulge.training import Recipe, fit
from divulge.training.loop import drawn_accuracies

NAMES = ["precode", "cvb", "ppp", "gradient-dropout"]


def seed(value=0):
    return torch.Generator().manual_seed(value)


@pytest.fixture(scope="module")
def batch():
    return torch.rand(3, 1, 12, 12, generator=seed()), torch.tensor([0, 2, 1])


def protected(name):
    return DEFENSES.make(name), DEFENSES.make(name).architecture(LeNet(spread=None).build((1, 12, 12), 3, seed=0))


def shared(name, batch, *, value=0, training=True, reduction="mean"):
    defense, model = protected(name)
    record = share(model, *batch, training=training, reduction=reduction)
    return defense.share(record, model=model, inputs=batch[0], targets=batch[1], generator=seed(value)), record, model


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [False, True])
def test_what_is_shared_is_the_gradient_under_the_noise_that_an_oracle_is_told(name, training, batch):
    sent, honest, model = shared(name, batch, training=training, reduction="sum")
    assert sent.record.facts == honest.facts
    noise = {key: sent.randomness[key] for key in stochastic_layers(model)}
    assert all(len(one) == 3 for one in noise.values())
    told = share(model, *batch, training=training, reduction="sum", noise=noise)
    for key, gradient in sent.record.gradients.items():
        torch.testing.assert_close(gradient, told.gradients[key] + sent.randomness.get(key, 0), rtol=1e-4, atol=1e-6)
    other, *_ = shared(name, batch, value=1, training=training)
    same, *_ = shared(name, batch, training=training, reduction="sum")
    for key, gradient in sent.record.gradients.items():
        assert torch.equal(gradient, same.record.gradients[key])
        assert not torch.equal(gradient, other.record.gradients[key])


@pytest.mark.parametrize("name", NAMES)
def test_sharing_changes_nothing_of_the_callers(name, batch):
    defense, model = protected(name)
    model.train()
    state, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    record = share(model, *batch)
    kept = {key: one.clone() for key, one in record.gradients.items()}
    defense.share(record, model=model, inputs=batch[0], targets=batch[1], generator=seed())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(torch.equal(record.gradients[key], one) for key, one in kept.items())
    assert all(layer.training for layer in model.modules())
    assert not any(layer._forward_pre_hooks or layer._forward_hooks for layer in model.modules())
    assert all(layer.noise is None for layer in stochastic_layers(model).values())
    assert torch.equal(random, torch.get_rng_state())


def test_the_divergence_is_part_of_the_gradient_for_every_record(batch):
    _, model = protected("precode")
    noise = {"8.noise": torch.randn(3, 108, generator=seed())}
    record = share(model, *batch, reduction="sum", noise=noise)
    with penalties(model) as extra:
        loss = functional.cross_entropy(
            torch.func.functional_call(model, noise, (batch[0],)), batch[1], reduction="sum"
        )
    (loss + extra[0].sum()).backward()
    for key, parameter in model.named_parameters():
        torch.testing.assert_close(record.gradients[key], parameter.grad, rtol=1e-4, atol=1e-6)
    single = [
        share(model, batch[0][i : i + 1], batch[1][i : i + 1], noise={"8.noise": noise["8.noise"][i : i + 1]})
        for i in range(3)
    ]
    mean = share(model, *batch, noise=noise)
    for key, gradient in mean.gradients.items():
        of_each = torch.stack([one.gradients[key] for one in single]).mean(dim=0)
        torch.testing.assert_close(gradient, of_each, rtol=1e-4, atol=1e-6)


def test_bits_weigh_more_than_nats_by_the_logarithm_of_two():
    base = LeNet().build((1, 12, 12), 3, seed=0)
    nats, bits = (Precode(bits=bits).architecture(base)[8].beta for bits in (False, True))
    assert nats / bits == pytest.approx(np.log(2))


def test_clients_draw_in_either_mode_and_answers_only_when_asked(batch):
    _, model = protected("precode")
    for training in (False, True):
        one, two = (share(model, *batch, training=training, seed=value).gradients["7.weight"] for value in (0, 1))
        assert not torch.equal(one, two)
    assert torch.equal(model.eval()(batch[0]), model(batch[0]))
    noisy = Precode(always=True).architecture(LeNet().build((1, 12, 12), 3, seed=0)).eval()
    assert not torch.equal(noisy(batch[0]), noisy(batch[0]))


def test_partial_perturbation_adds_noise_before_the_bottleneck_only(batch):
    sent, _, model = shared("ppp", batch)
    added = {key for key in sent.randomness if key in sent.record.gradients}
    assert added == {f"{layer}.{kind}" for layer in (0, 2, 4) for kind in ("weight", "bias")}
    pooled = torch.cat([sent.randomness[key].flatten() for key in added])
    assert float(pooled.std()) == pytest.approx(1e-2, rel=0.1)
    assert DEFENSES.make("ppp").tampering(model).std == 1e-2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("precode", ["9.weight", "9.bias", "10.weight"]),
        ("cvb", ["4.weight", "5.weight", "5.bias", "7.weight", "7.bias", "10.weight"]),
    ],
)
def test_what_depends_on_the_noise_the_most_is_named(name, expected):
    defense, model = protected(name)
    assert list(behind(model)) == expected
    assert defense.tampering(model).withheld == tuple(expected)
    assert behind(LeNet().build((1, 12, 12), 3, seed=0)) == ()


def test_an_update_over_local_steps_stays_as_it_is(batch):
    defense, model = protected("precode")
    gradients = share(model, *batch).gradients
    update = GradientRecord(gradients, batch_size=3, classes=3, shape=(1, 12, 12), kind="update", lr=0.1, local_steps=2)
    sent = defense.share(update, model=model, inputs=batch[0], targets=batch[1], generator=seed())
    assert sent.record is update
    assert sent.randomness is None


def blobs(n=150):
    targets = torch.randint(3, (n,), generator=seed())
    return Dataset(torch.randn(n, 6, generator=seed(1)) + 2 * targets[:, None].float(), targets)


@pytest.mark.parametrize("name", ["precode", "ppp", "gradient-dropout"])
def test_training_under_a_defense_learns_and_its_cost_is_measured_over_draws(name):
    data, defense = blobs(), DEFENSES.make(name)
    model = defense.architecture(MLP((32,)).build((6,), 3, seed=0))
    defense.train(model, data, Recipe(epochs=40, batch_size=32, lr=5e-3), seed=0)
    assert drawn_accuracies(model, data, draws=3, seed=0).mean() > 0.8


def test_accuracy_is_drawn_from_its_seed_and_leaves_the_global_state_alone():
    data = blobs()
    model = Precode(always=True).architecture(MLP((32,)).build((6,), 3, seed=0))
    random = torch.get_rng_state()
    first, same, other = (drawn_accuracies(model, data, draws=4, seed=value) for value in (0, 0, 1))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    assert len(set(first)) > 1
    assert torch.equal(random, torch.get_rng_state())


def test_the_divergence_is_part_of_the_training_loss():
    data, models = blobs(), {}
    for beta in (0.0, 10.0):
        model = models[beta] = Precode(beta=beta).architecture(MLP((32,)).build((6,), 3, seed=0))
        history = fit(model, data, Recipe(epochs=30, batch_size=32, lr=5e-3), seed=0)
        assert history[-1].loss < history[0].loss
    spreads = {beta: float(_divergence(model, data)) for beta, model in models.items()}
    assert spreads[10.0] < spreads[0.0] / 3


def _divergence(model, data):
    with penalties(model) as extra, torch.no_grad():
        model(data.inputs)
    (layer,) = (one for one in model.modules() if isinstance(one, Sample))
    with torch.no_grad():
        mean, std = layer.moments(model[:4](data.inputs))
    assert len(extra) == 1
    return ((mean.square() + std.square() - 1) / 2 - std.log()).sum(dim=1).mean()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "precode", "beta": -1.0}, "beta >= 0"),
        ({"name": "cvb", "beta": -1.0}, "beta >= 0"),
        ({"name": "cvb", "kernel": 4}, "odd kernel"),
        ({"name": "ppp", "std": 0.0}, "positive std"),
        ({"name": "gradient-dropout", "rate": 1.0}, "0 < rate < 1"),
        ({"name": "precode", "widths": 3}, "nearest is 'width'"),
    ],
)
def test_bad_settings(spec, words):
    with pytest.raises(BadInputError, match=words):
        DEFENSES.make(spec)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_that_did_not_come_through_the_architecture(name, batch):
    model = LeNet().build((1, 12, 12), 3, seed=0)
    with pytest.raises(BadInputError, match="without a stochastic layer"):
        DEFENSES.make(name).share(
            share(model, *batch), model=model, inputs=batch[0], targets=batch[1], generator=seed()
        )


def test_noise_for_what_is_no_stochastic_layer(batch):
    _, model = protected("precode")
    with pytest.raises(BadInputError, match=r"expected noise for 8.noise, got it for 3.noise"):
        share(model, *batch, noise={"3.noise": torch.zeros(3, 4)})
    with pytest.raises(BadInputError, match="as none is stochastic"):
        share(LeNet().build((1, 12, 12), 3, seed=0), *batch, noise={"3.noise": torch.zeros(3, 4)})
