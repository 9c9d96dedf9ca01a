"""Attributes read off representations: planted ones, none, every layer of a network, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from divulge.attacks.attributes import Overlearning
from divulge.auditing.representations import layers
from divulge.errors import BadInputError
from divulge.models.pooled_lenet import PooledLeNet
from divulge.releases import Representation

QUICK = Overlearning(probes=("logistic",))
BLIND_TO_WEIGHTS = Overlearning(probes=("neighbors",), balanced=True)


def planted(n: int, *, strength: float, seed: int) -> tuple[Representation, np.ndarray]:
    """Features of which one tells a three-valued attribute, by as many standard deviations as `strength`."""
    draw = np.random.default_rng(seed)
    attribute = draw.integers(0, 3, n)
    features = draw.normal(size=(n, 6)).astype(np.float32)
    features[:, 2] += strength * attribute
    return Representation(features * 1000), attribute


@pytest.mark.parametrize("probe", ["logistic", "mlp-256-128", "mlp-128-64", "boosting", "neighbors"])
def test_a_planted_attribute_is_read(probe):
    known, attribute = planted(300, strength=6, seed=0)
    theirs, truth = planted(200, strength=6, seed=1)
    found = Overlearning(probes=(probe,)).run(known, attribute, theirs)
    assert (found.values == truth).mean() > 0.9
    assert np.allclose(found.probabilities.sum(axis=1), 1)


def test_no_attribute_is_read_where_there_is_none():
    known, attribute = planted(600, strength=0, seed=0)
    theirs, truth = planted(600, strength=0, seed=1)
    found = QUICK.run(known, attribute, theirs)
    assert abs((found.values == truth).mean() - 1 / 3) < 0.08


def test_the_probe_is_chosen_on_the_adversarys_records():
    draw = np.random.default_rng(0)
    features = draw.normal(size=(400, 2)).astype(np.float32)
    attribute = (features[:, 0] * features[:, 1] > 0).astype(np.int64)  # no line tells it
    found = Overlearning(probes=("logistic", "neighbors")).run(
        Representation(features), attribute, Representation(features[:10])
    )
    assert found.facts["probe"] == "neighbors"
    assert found.facts["accuracy of neighbors"] > found.facts["accuracy of logistic"]


def test_rare_values_are_guessed_when_all_count_alike():
    known, attribute = planted(600, strength=1, seed=0)
    rare = (attribute < 2) | (np.arange(600) % 10 == 0)
    mine = Representation(known.values[rare])
    theirs, truth = planted(600, strength=1, seed=1)
    plain = QUICK.run(mine, attribute[rare], theirs).values
    balanced = Overlearning(probes=("logistic",), balanced=True).run(mine, attribute[rare], theirs).values
    assert (balanced[truth == 2] == 2).mean() > (plain[truth == 2] == 2).mean()


def test_kinds_of_probes_that_need_more_records_are_left_out():
    known, attribute = planted(24, strength=6, seed=0)
    theirs, _ = planted(9, strength=6, seed=1)
    found = Overlearning().run(known, attribute, theirs)
    told = {fact.removeprefix("accuracy of ") for fact in found.facts if fact != "probe"}
    assert told == {"logistic", "boosting"}
    assert found.probabilities.shape == (9, 3)


class TestLayers:
    def test_modes_of_single_layers_are_left_as_they_were(self):
        model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.ReLU(), nn.Linear(3, 2)).train()
        model[1].eval()
        layers(model, torch.rand(6, 4))
        assert [layer.training for layer in model] == [True, False, True, True]

    def test_an_activation_that_runs_twice_or_never_is_refused(self):
        rectify = nn.ReLU()
        twice = nn.Sequential(nn.Linear(4, 3), rectify, nn.Linear(3, 3), rectify, nn.Linear(3, 2))
        with pytest.raises(BadInputError, match="layer 1 to run once for each of 6 records, got 12 rows"):
            layers(twice, torch.rand(6, 4))

        class Idle(nn.Linear):
            def __init__(self) -> None:
                super().__init__(4, 2)
                self.idle = nn.ReLU()

        with pytest.raises(BadInputError, match="got 0 rows"):
            layers(nn.Sequential(Idle(), nn.Linear(2, 2)), torch.rand(6, 4))

    def test_every_activation_and_the_answer(self):
        model = PooledLeNet().build((3, 50, 50), 2, seed=0)
        model.train()
        inputs = torch.rand(5, 3, 50, 50)
        found = layers(model, inputs, batch_size=2)
        assert [values.shape[1] for values in found.values()] == [16 * 7 * 7, 32 * 6 * 6, 64 * 3 * 3, 128, 64, 2]
        assert model.training
        assert not any(layer._forward_hooks for layer in model.modules())
        model.eval()
        assert np.allclose(found["15"], model(inputs).detach().numpy(), atol=1e-5)

    def test_equal_to_a_pass_by_hand(self):
        model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
        inputs = torch.rand(6, 4)
        assert np.allclose(layers(model, inputs)["1"], model[1](model[0](inputs)).detach().numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Overlearning(probes=("oracle",)), "probes out of"),
        (lambda: Overlearning(probes=()), "none"),
        (lambda: Overlearning(folds=1), "folds"),
        (lambda: QUICK.run(rows(9, 2), np.zeros(9, dtype=int), rows(3, 2)), "two values"),
        (lambda: QUICK.run(rows(9, 2), np.arange(9) % 5, rows(3, 2)), "Merge"),
        (lambda: QUICK.run(rows(9, 2), np.arange(9) % 2, rows(3, 4)), "same features"),
        (lambda: QUICK.run(rows(9, 2), np.arange(8) % 2, rows(3, 2)), "same features"),
        (lambda: QUICK.run(rows(9, 2), np.arange(9) % 3 - 1, rows(3, 2)), "from -1"),
        (lambda: QUICK.run(rows(9, 2), np.arange(9) % 2 / 2, rows(3, 2)), "float64"),
        (lambda: Overlearning(probes=("neighbors",)).run(rows(9, 2), np.arange(9) % 2, rows(3, 2)), "too few"),
        (lambda: rows(3, 0), "features"),
        (lambda: rows(0, 3), "records"),
        (lambda: rows(3, 2, np.nan), "NaN"),
        (lambda: BLIND_TO_WEIGHTS.run(rows(9, 2), np.arange(9) % 2, rows(3, 2)), "weigh"),
    ],
)
def test_what_cannot_be_done_is_refused(make, told):
    with pytest.raises(BadInputError, match=told):
        make()


def rows(n: int, width: int, value: float = 1.0) -> Representation:
    return Representation(np.full((n, width), value, dtype=np.float32))
