"""Layers of networks, and attributes exposed by them: planted ones, none, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from divulge.attacks.attributes import Overlearning
from divulge.auditing.representations import (
    ACCURACY,
    ANSWER,
    BALANCED,
    INPUT,
    LABEL,
    MACRO_F1,
    MAJORITY,
    expose_attribute,
    layers,
    readable,
    scored,
)
from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.models.pooled_lenet import PooledLeNet

PROBE = Overlearning(probes=("logistic",))


def records(n: int, *, seed: int = 0, leak: float = 0.0, attribute: str = "tall") -> Dataset:
    """Records whose first entry tells a two-valued attribute as clearly as `leak`; their class is at random."""
    draw = np.random.default_rng(seed)
    inputs, tall = draw.normal(size=(n, 6)).astype(np.float32), draw.integers(0, 2, n)
    inputs[:, 0] += leak * (2 * tall - 1)
    return Dataset(
        torch.from_numpy(inputs),
        torch.from_numpy(draw.integers(0, 2, n)),
        attributes={attribute: torch.from_numpy(tall)},
        attribute_classes={attribute: ("short", "high")},
    )


def copier() -> nn.Module:
    """A network whose first layer copies the first entry of a record, and whose second forgets it."""
    model = nn.Sequential(nn.Linear(6, 2), nn.Tanh(), nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2, 6))
        model[0].bias.zero_()
        model[2].weight[:, 0] = 0
    return model


class TestExposed:
    def test_a_layer_that_copies_the_attribute_is_found(self):
        found = expose_attribute(copier(), records(400, leak=3), records(300, seed=1, leak=3), "tall", attack=PROBE)
        by_name = {one.source: one for one in found.layers}
        assert list(by_name) == ["0", "1", "2", "3", "4"]
        assert found.strongest.source in ("0", "1")
        assert by_name["1"].findings[ACCURACY].value > 0.95
        assert by_name["3"].findings[ACCURACY].high < 0.65, "a later layer has forgotten it"
        assert found.gained(found.strongest).low > 0.4
        assert found.names == ("short", "high")
        assert set(found.strongest.findings) >= {ACCURACY, BALANCED, MACRO_F1, "F1 of short", "F1 of high"}

    def test_an_attribute_independent_of_everything_is_not_found(self):
        found = expose_attribute(copier(), records(600), records(600, seed=1), "tall", attack=PROBE)
        for one in (*found.layers, *found.blank, *found.controls):
            assert one.findings[ACCURACY].low < 0.5 + 0.02 < one.findings[ACCURACY].high + 0.02
        assert found.gained(found.strongest).low < 0

    def test_controls_stand_beside_every_layer(self):
        known, test = records(300, leak=3), records(200, seed=1, leak=3)
        found = expose_attribute(copier(), known, test, "tall", attack=PROBE)
        assert [one.source for one in found.controls] == [MAJORITY, LABEL, INPUT]
        assert [one.source for one in found.blank] == [one.source for one in found.layers]
        by_source = {one.source: one.findings for one in (*found.controls, *found.blank)}
        for one in found.layers:
            assert one.findings[ACCURACY].control is by_source[one.source][ACCURACY]
        for one in (*found.blank, *found.controls[1:]):
            assert one.findings[ACCURACY].control is by_source[MAJORITY][ACCURACY]
        assert by_source[INPUT][ACCURACY].value > 0.95, "the record itself tells it"
        assert by_source[LABEL][ACCURACY].value < 0.65, "its class does not"
        assert found.anyway.source in (MAJORITY, LABEL)
        assert found.gained(found.layers[0]).control is not None

    def test_what_the_class_tells_is_no_gain(self):
        known, test = records(300), records(200, seed=1)
        for part in (known, test):
            part.attributes["tall"].copy_(part.targets)
        model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
        found = expose_attribute(model, known, test, "tall", attack=PROBE)
        assert found.anyway.source == LABEL
        assert found.anyway.findings[ACCURACY].value == 1
        assert found.gained(found.strongest).value < 0

    def test_the_model_is_left_as_it_was(self):
        model = copier().train()
        model[1].eval()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        state = torch.get_rng_state()
        expose_attribute(model, records(60), records(30, seed=1), "tall", attack=PROBE)
        assert [layer.training for layer in model] == [True, False, True, True, True]
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert not any(layer._forward_hooks for layer in model.modules())
        assert torch.equal(state, torch.get_rng_state())

    def test_a_function_is_read_by_its_answer(self):
        model = copier()
        found = expose_attribute(
            lambda x: torch.softmax(model[:2](x), 1).detach().numpy(),
            records(300, leak=3),
            records(200, seed=1, leak=3),
            "tall",
            attack=PROBE,
        )
        assert [one.source for one in found.layers] == [ANSWER]
        assert found.layers[0].findings[ACCURACY].value > 0.9
        assert found.layers[0].findings[ACCURACY].control is found.controls[0].findings[ACCURACY]
        assert found.blank == ()

    def test_a_network_without_layers_to_name_is_read_by_its_answer(self):
        found = expose_attribute(nn.Linear(6, 2), records(60), records(30, seed=1), "tall", attack=PROBE)
        assert [one.source for one in found.layers] == [ANSWER]

    def test_copies_of_records_to_guess_are_left_out_and_said(self):
        test = records(60)
        found = expose_attribute(copier(), records(120, seed=3), test, "tall", attack=PROBE)
        assert found.notes == ()
        both = Dataset(
            torch.cat([records(90, seed=2).inputs, test.inputs]),
            torch.zeros(150, dtype=torch.int64),
            attributes={"tall": torch.arange(150) % 2},
        )
        found = expose_attribute(copier(), both, test, "tall", attack=PROBE)
        assert "60 of the adversary's records are copies" in found.notes[0]

    def test_progress_is_told_to_the_end(self):
        seen = []
        expose_attribute(copier(), records(60), records(30), "tall", names=("1",), attack=PROBE, watch=seen.append)
        assert seen == [0.25, 0.5, 0.75, 1.0]

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"attribute": "mood"}, "no attribute 'mood'. There are: tall"),
            ({"names": ("relu",)}, "no layer 'relu'"),
            ({"names": ("1x",)}, "the nearest is '1'"),
            ({"tall": torch.zeros(60, dtype=torch.int64)}, "two values"),
            ({"tall": torch.arange(60) % 2 / 2}, "whole numbers"),
            ({"tall": torch.full((60,), torch.nan)}, "leave out unknown"),
            ({"tall": torch.arange(60) - 1}, "from -1"),
            ({"tall": (torch.arange(60) % 2) * 10_000_000}, "great gaps"),
            ({"tall": torch.arange(60)}, "each on 3 known records"),
        ],
    )
    def test_what_cannot_be_exposed_is_refused(self, change, told):
        known = records(60)
        if "tall" in change:
            known = Dataset(known.inputs, known.targets, attributes={"tall": change.pop("tall")})
        change = {"attribute": "tall", **change}
        with pytest.raises(BadInputError, match=told):
            expose_attribute(copier(), known, records(30, seed=1), attack=PROBE, **change)

    @pytest.mark.parametrize(
        ("code", "names", "told"),
        [
            (7, ("a", "b"), "from 0 to 1, as among"),
            (10**9, (), "got 0 to 1000000000"),
            (-1, (), "got -1 to 1"),
        ],
    )
    def test_values_to_guess_that_the_adversary_cannot_know_of_are_refused(self, code, names, told):
        named = {"tall": names} if names else {}
        known = Dataset(
            records(60).inputs, torch.zeros(60).long(), {"tall": torch.arange(60) % 2}, attribute_classes=named
        )
        test = Dataset(known.inputs[:9] + 1, known.targets[:9], {"tall": torch.tensor([code, *[0, 1] * 4])})
        with pytest.raises(BadInputError, match=told):
            expose_attribute(copier(), known, test, "tall", attack=PROBE)

    def test_features_that_are_not_finite_are_refused(self):
        model = copier()
        with torch.no_grad():
            model[2].bias[0] = torch.inf
        with pytest.raises(BadInputError, match="representation of 2: expected finite"):
            expose_attribute(model, records(60), records(30, seed=1), "tall", attack=PROBE)


class TestScored:
    def test_equal_to_counts_by_hand(self):
        truth, values = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 0])
        found = scored(truth, values, truth, names=("a", "b", "c"))
        assert found[ACCURACY].value == 3 / 6
        assert np.isclose(found[BALANCED].value, (2 / 3 + 1 / 2 + 0) / 3)
        assert np.isclose(found["F1 of a"].value, 2 * 2 / (2 * 2 + 2 + 1))
        assert found["F1 of c"].value == 0
        assert found[f"{BALANCED}, rare values weighed up"].value == 1
        assert all(one.low <= one.value <= one.high for one in found.values())


class TestLayers:
    def test_modes_of_single_layers_are_left_as_they_were(self):
        model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.ReLU(), nn.Linear(3, 2)).train()
        model[1].eval()
        layers(model, torch.rand(6, 4))
        assert [layer.training for layer in model] == [True, False, True, True]

    def test_an_activation_that_runs_twice_is_left_out_and_refused_by_name(self):
        rectify = nn.ReLU()
        twice = nn.Sequential(nn.Linear(4, 3), rectify, nn.Linear(3, 3), rectify, nn.Linear(3, 2))
        assert readable(twice, torch.rand(6, 4)) == (("0", "2", "4"), ("1",))
        with pytest.raises(BadInputError, match=r"layer 1 to run once .* each of 6 records, got \[6, 6\] rows"):
            layers(twice, torch.rand(6, 4), names=("1",))

    def test_a_layer_that_never_runs_is_left_out_and_refused_by_name(self):
        class Idle(nn.Linear):
            def __init__(self) -> None:
                super().__init__(4, 2)
                self.idle = nn.ReLU()

        model = nn.Sequential(Idle(), nn.Linear(2, 2))
        assert readable(model, torch.rand(6, 4)) == (("1",), ("0.idle",))
        with pytest.raises(BadInputError, match=r"got \[\] rows"):
            layers(model, torch.rand(6, 4), names=("0.idle",))

    def test_convolutions_stand_in_where_no_activation_is_a_module(self):
        class Functional(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv, self.head = nn.Conv2d(1, 3, 3), nn.Linear(3 * 36, 2)

            def forward(self, x):
                return self.head(torch.relu(self.conv(x)).flatten(1))

        found = layers(Functional(), torch.rand(4, 1, 8, 8))
        assert {name: values.shape for name, values in found.items()} == {"conv": (4, 108), "head": (4, 2)}

    def test_a_layer_that_gives_no_row_a_record_is_left_out(self):
        class Flat(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.mean, self.head = nn.Linear(3, 3), nn.Linear(3, 2)

            def forward(self, x):
                self.mean(x.mean(dim=0, keepdim=True))
                return self.head(x)

        assert readable(Flat(), torch.rand(5, 3)) == (("head",), ("mean",))

    def test_every_activation_every_linear_layer_and_the_answer(self):
        model = PooledLeNet().build((3, 50, 50), 2, seed=0)
        model.train()
        inputs = torch.rand(5, 3, 50, 50)
        found = layers(model, inputs, batch_size=2)
        assert list(found) == ["3", "6", "9", "11", "12", "13", "14", "15"]
        widths = [16 * 7 * 7, 32 * 6 * 6, 64 * 3 * 3, 128, 128, 64, 64, 2]
        assert [values.shape[1] for values in found.values()] == widths
        assert model.training
        assert not any(layer._forward_hooks for layer in model.modules())
        model.eval()
        assert np.allclose(found["15"], model(inputs).detach().numpy(), atol=1e-5)

    def test_equal_to_a_pass_by_hand(self):
        model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
        inputs = torch.rand(6, 4)
        assert np.allclose(layers(model, inputs)["1"], model[1](model[0](inputs)).detach().numpy(), atol=1e-6)
        assert list(layers(model, inputs, names=("2",))) == ["2"]
