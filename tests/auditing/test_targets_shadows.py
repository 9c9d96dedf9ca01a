"""What shadow models of a torch target start from, and what tells targets apart."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from divulge.auditing.targets import as_target
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.models.layers import measure
from divulge.models.mlp import MLP


@pytest.fixture
def records():
    return torch.rand(12, 6, generator=torch.Generator().manual_seed(0))


def network(classes=3, *, tail=None):
    with seeded(0):
        layers = [nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, classes)]
    return nn.Sequential(*layers, *([tail] if tail else []))


class Branch(nn.Module):
    """One linear layer under a name."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, x):
        return self.linear(x)


class TestArchitecture:
    def test_a_fresh_copy_learns_from_new_weights(self, records):
        model = network()
        model[1].running_mean += 3
        make = as_target(model, classes=3, probe=records).architecture()
        with seeded(1):
            first = make()
        with seeded(1):
            second = make()
        third = make()
        assert first.training
        assert float(first[1].running_mean.abs().max()) == 0
        for (name, old), a, b, c in zip(
            model.named_parameters(), first.parameters(), second.parameters(), third.parameters(), strict=True
        ):
            assert torch.equal(a, b)
            if "1." not in name:
                assert not torch.equal(a, c)
                assert not torch.equal(a, old)

    def test_a_fresh_copy_forgets_the_statistics_of_the_targets_records(self, records):
        model = MLP((8,), standardize=True).build((6,), 3, seed=0)
        measure(model, records)
        fresh = as_target(model, classes=3, probe=records).architecture()()
        assert torch.equal(fresh[0](records), records)
        measure(fresh, 2 * records)
        assert torch.equal(fresh[0].std, 2 * model[0].std)

    def test_initial_weights_are_distributed_as_those_of_the_layer(self):
        model = nn.Linear(400, 300)
        with torch.no_grad():
            model.weight.fill_(-7)
        fresh = as_target(model, classes=300, probe=torch.rand(2, 400)).architecture()()
        assert float(fresh.weight.detach().abs().max()) <= 1 / 20
        assert float(fresh.weight.detach().std()) == pytest.approx(1 / 20 / 3**0.5, rel=0.02)

    def test_frozen_parts_keep_their_values_and_all_frozen_means_none(self, records):
        model = network()
        model[1].running_mean += 3
        model[0].requires_grad_(False)
        model[1].requires_grad_(False)
        model[4].bias.requires_grad_(False)
        target = as_target(model, classes=3, probe=records)
        fresh = target.architecture()()
        assert torch.equal(fresh[0].weight, model[0].weight)
        assert torch.equal(fresh[1].running_mean, model[1].running_mean)
        assert not fresh[0].weight.requires_grad
        assert not torch.equal(fresh[4].weight, model[4].weight)
        assert torch.equal(fresh[4].bias, model[4].bias), "frozen in a layer that is learned otherwise"
        assert any("147 of its 195 parameters are frozen" in note for note in target.notes)

        model.requires_grad_(False)
        target = as_target(model, classes=3, probe=records)
        fresh = target.architecture()()
        assert not torch.equal(fresh[0].weight, model[0].weight)
        assert all(parameter.requires_grad for parameter in fresh.parameters())
        assert not any("frozen" in note for note in target.notes)
        assert not any(parameter.requires_grad for parameter in model.parameters())

    def test_an_outer_layers_own_scheme_has_the_last_word(self, records):
        class Own(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = nn.Linear(6, 3)
                self.scale = nn.Parameter(torch.tensor(5.0))

            def reset_parameters(self):
                nn.init.constant_(self.inner.bias, 0.25)
                nn.init.ones_(self.scale)

            def forward(self, x):
                return self.inner(x) * self.scale

        fresh = as_target(Own(), classes=3, probe=records).architecture()()
        assert fresh.scale.item() == 1
        assert torch.equal(fresh.inner.bias, torch.full((3,), 0.25))

    def test_attention_is_reset(self):
        model = nn.Sequential(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), nn.Flatten(), nn.Linear(6, 3))
        records = torch.rand(8, 1, 6)
        fresh = as_target(model, classes=3, probe=records).architecture()()
        assert not torch.equal(fresh[0].self_attn.in_proj_weight, model[0].self_attn.in_proj_weight)

    @pytest.mark.parametrize("kind", ["own parameter", "parametrized"])
    def test_what_cannot_be_reset_is_named(self, kind, records):
        model = Branch()
        if kind == "own parameter":
            model.register_parameter("offset", nn.Parameter(torch.zeros(3)))
            named = "offset"
        else:
            parametrizations.weight_norm(model.linear)
            named = "linear.parametrizations.weight.original"
        with pytest.raises(BadInputError, match=f"nothing gives new initial values to .*{named}"):
            as_target(model, classes=3, probe=records).architecture()

    def test_what_cannot_be_copied_is_refused(self, records):
        model = Branch()
        model.cache = model.linear.weight * 2
        with pytest.raises(BadInputError, match="cannot be copied"):
            as_target(model, classes=3, probe=records).architecture()

    def test_nothing_to_train_means_no_architecture(self, records):
        assert as_target(nn.Softmax(dim=1), classes=6, probe=records).architecture() is None
        assert as_target(lambda x: np.full((len(x), 2), 0.5), classes=2, probe=records).architecture() is None

    def test_the_maker_travels_by_value(self, records):
        class Local(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(6, 3)

            def forward(self, x):
                return self.linear(x)

        make = as_target(Local(), classes=3, probe=records).architecture()
        again = pickle.loads(pickle.dumps(make))
        with seeded(4):
            first = make()
        with seeded(4):
            second = again()
        assert torch.equal(first(records), second(records))


class TestFingerprint:
    def test_equal_for_a_copy_in_any_mode(self, records):
        model = network()
        print_of = [as_target(m, classes=3, probe=records).fingerprint for m in (model, copy.deepcopy(model).eval())]
        assert print_of[0] == print_of[1]

    @pytest.mark.parametrize("change", ["weight", "buffer", "hyperparameter", "attribute", "frozen", "code"])
    def test_another_for_what_answers_or_is_trained_otherwise(self, change, records):
        model = network()
        other = copy.deepcopy(model)
        with torch.no_grad():
            if change == "weight":
                other[0].bias[0] += 1e-3
            elif change == "buffer":
                other[1].running_var[0] += 1e-3
            elif change == "hyperparameter":
                other[1].eps = 1e-2
            elif change == "frozen":
                other[0].requires_grad_(False)
            elif change == "attribute":
                model.temperature, other.temperature = 1.0, 2.0
            else:
                model, other = (_with_forward(model, forward) for forward in (_times, _minus))
        prints = {as_target(m, classes=3, probe=records).fingerprint for m in (model, other)}
        assert len(prints) == 2

    def test_never_twice_the_same_for_a_callable(self, records):
        def model(x):
            return np.full((len(x), 2), 0.5)

        assert len({as_target(model, classes=2, probe=records).fingerprint for _ in range(2)}) == 2


def _with_forward(model, forward):
    changed = type("Sequential", (nn.Sequential,), {"forward": forward})()
    changed.__dict__.update(model.__dict__)
    return changed


def _times(self, x):
    return nn.Sequential.forward(self, x) * 3


def _minus(self, x):
    return nn.Sequential.forward(self, x) - 3
