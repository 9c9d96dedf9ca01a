"""Censoring and an information bottleneck: what their training amounts to, what they hide and where they do not."""

import contextlib
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from divulge.attacks.attributes import Overlearning
from divulge.auditing.representations import ACCURACY, expose_attribute
from divulge.data import Dataset
from divulge.defenses.censoring import AdversarialCensoring
from divulge.defenses.information_bottleneck import InformationBottleneck
from divulge.errors import BadInputError
from divulge.models.censored import Censored
from divulge.training import Recipe, fit

PROBE = Overlearning(probes=("logistic",))
LONG = Recipe(epochs=30, batch_size=32, lr=0.01, lr_decay=1.0, weight_decay=0.0, precision="float32")
BRIEF = Recipe(epochs=1, batch_size=16, precision="float32")


def records(n: int, *, seed: int = 0) -> Dataset:
    """Two entries tell the class, two others the attribute, and they have nothing to do with each other."""
    draw = np.random.default_rng(seed)
    label, tall = draw.integers(0, 2, (2, n))
    inputs = draw.normal(size=(n, 8)).astype(np.float32)
    inputs[:, :2] += 3 * label[:, None]
    inputs[:, 2:4] += 3 * tall[:, None]
    return Dataset(torch.from_numpy(inputs), torch.from_numpy(label), attributes={"tall": torch.from_numpy(tall)})


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 2))


def told(model: nn.Module, layer: str) -> float:
    """Accuracy of the attribute from a layer."""
    found = expose_attribute(model, records(400, seed=1), records(400, seed=2), "tall", names=(layer,), attack=PROBE)
    return found.layers[0].findings[ACCURACY].value


class TestCensored:
    def test_its_loss_is_that_of_network_and_adversary_and_the_network_ascends_on_the_second(self):
        model, gamma = network(), 0.7
        both = Censored(model, (8,), "3", values=3, hidden=(5,), gamma=gamma, seed=0).train()
        x, y, s = torch.rand(9, 8), torch.arange(9) % 2, torch.arange(9) % 3
        loss = functional.cross_entropy(both(x), y * 3 + s)
        loss.backward()
        got = {name: value.grad.clone() for name, value in both.named_parameters()}

        seen = model[:4](x)
        task = functional.cross_entropy(model[4:](seen), y)
        adversary = functional.cross_entropy(both.adversary(seen), s)
        assert torch.allclose(loss, task + adversary, atol=1e-6)
        own = list(both.adversary.parameters())
        for value, expected in zip(own, torch.autograd.grad(adversary, own, retain_graph=True), strict=True):
            assert torch.allclose(value.grad, expected, atol=1e-6)
        expected = torch.autograd.grad(task - gamma * adversary, list(model[:4].parameters()))
        for (name, _), one in zip(model[:4].named_parameters(), expected, strict=True):
            assert torch.allclose(got[f"inner.{name}"], one, atol=1e-6)

    def test_in_evaluation_the_class_alone_is_told(self):
        model = network()
        both = Censored(model, (8,), None, values=3, hidden=(), gamma=1.0, seed=0).eval()
        x, y = torch.rand(9, 8), torch.arange(9) % 2
        loss, plain = functional.cross_entropy(both(x), y * 3), functional.cross_entropy(model(x), y)
        assert torch.allclose(loss, plain + math.log(3), atol=1e-6)

    def test_without_a_name_what_the_last_linear_layer_is_given_is_read(self):
        assert Censored(network(), (8,), None, values=3, hidden=(), gamma=1.0, seed=0).adversary[0].in_features == 6
        assert Censored(network(), (8,), "1", values=3, hidden=(), gamma=1.0, seed=0).adversary[0].in_features == 16


class TestCensoring:
    def test_a_censored_layer_forgets_the_attribute_and_the_class_is_told(self):
        plain, censored, data = network(), network(), records(400)
        AdversarialCensoring(layer="1", hidden=(32,)).train(censored, data, LONG, seed=0)
        fit(plain, data, LONG, seed=0)
        assert told(plain, "1") > 0.9 > 0.7 > told(censored, "1")
        assert told(censored, "0") > 0.9, "the layer before it has not forgotten"
        test = records(400, seed=1)
        assert (censored(test.inputs).argmax(1) == test.targets).float().mean() > 0.95

    def test_the_model_is_trained_in_place_and_nothing_else_changes(self):
        model, state = network().train(), torch.get_rng_state()
        before = model[0].weight.clone()
        found = AdversarialCensoring().train(model, records(64), BRIEF, seed=0)
        assert not torch.equal(before, model[0].weight)
        assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model.modules())
        assert torch.equal(state, torch.get_rng_state())
        assert not model.training
        assert len(found.history) == 1

    def test_equal_seeds_give_equal_weights(self):
        one, two = network(), network()
        for model in (one, two):
            AdversarialCensoring(gamma=0.5).train(model, records(64), BRIEF, seed=0)
        assert torch.equal(one[0].weight, two[0].weight)

    def test_early_stopping_looks_at_the_class(self):
        found = AdversarialCensoring().train(
            network(), records(64), Recipe(epochs=2, patience=2, precision="float32"), seed=0, validation=records(32)
        )
        assert all(np.isfinite(epoch.validation_loss) for epoch in found.history)

    @pytest.mark.parametrize(
        ("defense", "attributes", "message"),
        [
            (AdversarialCensoring(), {}, "expected training records with one attribute, got none"),
            (AdversarialCensoring(), {"a": torch.arange(8), "b": torch.arange(8)}, "got a, b"),
            (AdversarialCensoring(attribute="mood"), {"a": torch.arange(8)}, "with 'mood', got a"),
            (AdversarialCensoring(), {"a": torch.zeros(8, dtype=torch.int64)}, "two or more of them"),
            (AdversarialCensoring(), {"a": torch.arange(8) - 1}, "from -1 to 6"),
            (AdversarialCensoring(), {"a": torch.arange(8) / 2}, "got float32"),
            (AdversarialCensoring(layer="7"), {"a": torch.arange(8)}, "got '7'. There are: 0, 1, 2, 3, 4"),
        ],
    )
    def test_what_cannot_be_censored_is_refused(self, defense, attributes, message):
        data = Dataset(torch.rand(8, 8), torch.arange(8) % 2, attributes=attributes)
        with pytest.raises(BadInputError, match=message):
            defense.train(network(), data, BRIEF, seed=0)

    def test_looking_for_the_layer_leaves_every_mode_as_it_was(self):
        model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        model[1].eval()
        state = torch.get_rng_state()
        for name, works in ((None, True), ("7", False)):
            with contextlib.nullcontext() if works else pytest.raises(BadInputError, match="'7'"):
                Censored(model, (8,), name, values=2, hidden=(3,), gamma=1.0, seed=0)
            assert [layer.training for layer in model] == [True, False, True]
        assert torch.equal(torch.get_rng_state(), state)

    def test_a_network_without_a_linear_layer_needs_a_name(self):
        model = nn.Sequential(nn.Flatten(), nn.ReLU())
        with pytest.raises(BadInputError, match="none, and no layer is linear"):
            AdversarialCensoring().train(model, records(8), BRIEF, seed=0)

    @pytest.mark.parametrize("settings", [{"gamma": 0.0}, {"gamma": -1.0}, {"hidden": (4, 0)}])
    def test_bad_settings_are_refused(self, settings):
        with pytest.raises(BadInputError, match="expected gamma > 0 and widths from 1"):
            AdversarialCensoring(**settings)


class TestInformationBottleneck:
    def test_a_dear_code_forgets_the_attribute_and_layers_before_it_do_not(self):
        defense, data = InformationBottleneck(beta=0.1), records(400)
        model = defense.architecture(network())
        defense.train(model, data, LONG, seed=0)
        assert told(model, "0") > 0.85
        assert told(model, "5") < told(model, "0") - 0.1, "the code"
        test = records(400, seed=1)
        assert (model(test.inputs).argmax(1) == test.targets).float().mean() > 0.9

    def test_answers_are_drawn_and_the_model_given_is_left_alone(self):
        model, x = network(), torch.rand(4, 8)
        guarded = InformationBottleneck(width=3).architecture(model).eval()
        assert not torch.equal(guarded(x), guarded(x))
        assert torch.equal(model(x), model(x))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [({"beta": 0.0}, "beta > 0"), ({"layer": "1"}, "Linear layer, got '1'"), ({"width": 7}, "got 7")],
    )
    def test_bad_settings_are_refused(self, settings, message):
        with pytest.raises(BadInputError, match=message):
            InformationBottleneck(**settings).architecture(network())
