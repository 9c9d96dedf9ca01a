"""Attributes read off representations: planted ones, none, through a map, by fine-tuning, and what is refused."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from divulge.attacks.attributes import AttributeGuesses, Decensoring, Overlearning, Repurposing
from divulge.attacks.attributes.overlearning import PROBES
from divulge.attacks.attributes.repurposing import with_new_answer
from divulge.errors import BadInputError
from divulge.releases import Representation, Weights
from divulge.training import Recipe

QUICK = Overlearning(probes=("logistic",))
BRIEF = Repurposing(Recipe(epochs=40, batch_size=16, lr=0.01, precision="float32"))


def planted(n: int, *, strength: float, seed: int) -> tuple[Representation, np.ndarray]:
    """Features of which one tells a three-valued attribute, by as many standard deviations as `strength`."""
    draw = np.random.default_rng(seed)
    attribute = draw.integers(0, 3, n)
    features = draw.normal(size=(n, 6)).astype(np.float32)
    features[:, 2] += strength * attribute
    return Representation(features * 1000), attribute


class TestOverlearning:
    @pytest.mark.parametrize("probe", list(PROBES))
    def test_a_planted_attribute_is_read(self, probe):
        known, attribute = planted(1300, strength=6, seed=0)
        theirs, truth = planted(200, strength=6, seed=1)
        found = Overlearning(probes=(probe,)).run(known, attribute, theirs)
        assert (found.values == truth).mean() > 0.9
        assert np.allclose(found.probabilities.sum(axis=1), 1)

    def test_no_attribute_is_read_where_there_is_none(self):
        known, attribute = planted(600, strength=0, seed=0)
        theirs, truth = planted(600, strength=0, seed=1)
        found = QUICK.run(known, attribute, theirs)
        assert abs((found.values == truth).mean() - 1 / 3) < 0.08

    def test_the_probe_is_chosen_on_the_adversarys_records(self):
        draw = np.random.default_rng(0)
        features = draw.normal(size=(400, 2)).astype(np.float32)
        attribute = (features[:, 0] * features[:, 1] > 0).astype(np.int64)  # no line tells it
        attack = Overlearning(probes=("logistic", "neighbors"))
        found = attack.run(Representation(features), attribute, Representation(features[:10]))
        assert found.facts["probe"] == "neighbors"
        assert found.facts["expected"] == found.facts["accuracy of neighbors"] > found.facts["accuracy of logistic"]
        others = attack.run(Representation(features), attribute, Representation(-7 * features[:5]))
        assert others.facts == found.facts

    def test_the_choice_looks_at_a_part_that_keeps_rare_values(self):
        known, attribute = planted(400, strength=6, seed=0)
        attribute[:] = attribute > 0
        attribute[:3] = 2
        found = Overlearning(probes=("logistic",), choosing=40).run(known, attribute, known)
        rows = Overlearning(choosing=40)._sample(attribute)
        assert len(rows) == 40
        assert np.bincount(attribute[rows])[2] == 3
        assert found.probabilities.shape == (400, 3)

    def test_many_features_are_reduced_without_losing_what_they_tell(self):
        draw = np.random.default_rng(0)
        attribute = draw.integers(0, 2, 400)
        hidden = draw.normal(size=(400, 4)) + 3 * attribute[:, None]
        features = Representation((hidden @ draw.normal(size=(4, 60))).astype(np.float32))
        found = Overlearning(probes=("logistic",), components=4).run(features, attribute, features)
        assert (found.values == attribute).mean() > 0.95

    def test_a_dead_layer_tells_the_most_frequent_value(self, recwarn):
        attribute = np.array([0] * 40 + [1] * 20)
        found = QUICK.run(rows(60, 5), attribute, rows(9, 5))
        assert found.values.tolist() == [0] * 9
        assert np.allclose(found.probabilities[:, 1], 1 / 3, atol=0.01)
        assert not recwarn.list

    def test_a_feature_that_hardly_varies_tells_as_much_as_others(self):
        draw = np.random.default_rng(0)
        attribute = draw.integers(0, 2, 600)
        loud = draw.normal(size=(600, 1))
        faint = loud + 1e-2 * (draw.normal(size=(600, 1)) + 4 * attribute[:, None])
        both = np.concatenate([loud, faint], axis=1).astype(np.float32)
        known, release = Representation(both[:400]), Representation(both[400:])
        found = QUICK.run(known, attribute[:400], release)
        assert (found.values == attribute[400:]).mean() > 0.9, "it is the difference of the two that tells"

    def test_rare_values_are_guessed_when_all_count_alike(self):
        known, attribute = planted(600, strength=1, seed=0)
        rare = (attribute < 2) | (np.arange(600) % 10 == 0)
        theirs, truth = planted(600, strength=1, seed=1)
        found = QUICK.run(Representation(known.values[rare]), attribute[rare], theirs)
        even = found.even(attribute[rare])
        assert (even[truth == 2] == 2).mean() > (found.values[truth == 2] == 2).mean()
        by_hand = found.probabilities / np.bincount(attribute[rare])
        assert np.array_equal(even, by_hand.argmax(axis=1))

    def test_a_value_that_was_never_seen_is_not_guessed(self):
        guesses = AttributeGuesses(np.array([[0.0, 0.3, 0.7], [0.0, 0.9, 0.1]]))
        assert guesses.even(np.array([1, 1, 1, 2])).tolist() == [2, 1]

    def test_kinds_of_probes_that_need_more_records_are_left_out(self):
        known, attribute = planted(24, strength=6, seed=0)
        theirs, _ = planted(9, strength=6, seed=1)
        found = Overlearning().run(known, attribute, theirs)
        told = {fact.removeprefix("accuracy of ") for fact in found.facts if fact.startswith("accuracy")}
        assert told == {"logistic", "boosting"}
        assert found.probabilities.shape == (9, 3)

    def test_equal_seeds_give_equal_guesses_and_the_arrays_are_left_alone(self):
        known, attribute = planted(60, strength=1, seed=0)
        before = known.values.copy()
        one, two = (Overlearning(probes=("mlp-128-64",)).run(known, attribute, known) for _ in range(2))
        assert np.array_equal(one.probabilities, two.probabilities)
        assert np.array_equal(known.values, before)


class TestDecensoring:
    """Where the attribute is a product of two features, no line tells it, and a network for it has made it one."""

    @staticmethod
    def censored(n, seed):
        draw = np.random.default_rng(seed)
        hidden = draw.normal(size=(n, 2)).astype(np.float32)
        attribute = (hidden[:, 0] * hidden[:, 1] > 0).astype(np.int64)
        clear = np.stack([hidden[:, 0] * hidden[:, 1], hidden[:, 0]], axis=1)
        return Representation(hidden), Representation(clear), attribute

    def test_what_a_probe_cannot_read_is_read_behind_the_map(self):
        known, clear, attribute = self.censored(600, 0)
        release, _, truth = self.censored(300, 1)
        direct = QUICK.run(known, attribute, release)
        mapped = Decensoring(probe=QUICK).run(known, clear, attribute, release)
        assert abs((direct.values == truth).mean() - 0.5) < 0.1
        assert (mapped.values == truth).mean() > 0.85

    def test_nothing_is_read_where_there_is_nothing(self):
        known, clear, _ = self.censored(600, 0)
        release, _, _ = self.censored(300, 1)
        draw = np.random.default_rng(2)
        found = Decensoring(probe=QUICK).run(known, clear, draw.integers(0, 2, 600), release)
        assert abs((found.values == draw.integers(0, 2, 300)).mean() - 0.5) < 0.1


class TestRepurposing:
    @staticmethod
    def faces(n, seed):
        """Records with a class and an attribute, each in entries of its own, beside noise."""
        draw = np.random.default_rng(seed)
        records = draw.random((n, 12), dtype=np.float32)
        return torch.from_numpy(records), (records[:, :3].sum(axis=1) > 1.5).astype(np.int64)

    @staticmethod
    def released(weight=1.0):
        """A network that has kept the sum that tells the attribute, among others."""
        model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2))
        with torch.no_grad():
            model[0].weight[0] = torch.tensor([weight] * 3 + [0.0] * 9)
            model[0].bias[0] = 0.0
        return Weights(model, (12,), 2)

    def test_what_the_network_kept_is_learned_from_few_records(self):
        known, attribute = self.faces(60, 0)
        records, truth = self.faces(300, 1)
        release = self.released(4.0)
        before = copy.deepcopy(release.model.state_dict())
        found = BRIEF.run(release, known, attribute, records)
        assert (found.values == truth).mean() > 0.8
        assert np.allclose(found.probabilities.sum(axis=1), 1)
        assert all(torch.equal(value, before[name]) for name, value in release.model.state_dict().items())
        assert np.array_equal(found.values, BRIEF.run(release, known, attribute, records).values)

    def test_nothing_is_learned_where_there_is_nothing(self):
        known, _ = self.faces(60, 0)
        records, _ = self.faces(400, 1)
        draw = np.random.default_rng(0)
        found = BRIEF.run(self.released(), known, draw.integers(0, 2, 60), records)
        assert abs((found.values == draw.integers(0, 2, 400)).mean() - 0.5) < 0.08

    def test_only_the_last_linear_layer_is_new_and_frozen_ones_thaw(self):
        model = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 2))).requires_grad_(False)
        new = with_new_answer(model, 5, seed=0)
        assert new[1][1].out_features == 5
        assert torch.equal(new[0].weight, model[0].weight)
        assert all(parameter.requires_grad for parameter in new.parameters())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert with_new_answer(nn.Linear(4, 2), 3, seed=0).out_features == 3


def rows(n: int, width: int, value: float = 1.0) -> Representation:
    return Representation(np.full((n, width), value, dtype=np.float32))


def two(n: int) -> np.ndarray:
    return np.arange(n) % 2


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Overlearning(probes=("oracle",)), "probes out of"),
        (lambda: Overlearning(probes=()), "none"),
        (lambda: Overlearning(folds=1), "folds"),
        (lambda: Overlearning(components=0), "a component or more"),
        (lambda: Overlearning(choosing=5), "6 records or more to choose on"),
        (lambda: QUICK.run(rows(9, 2), np.zeros(9, dtype=int), rows(3, 2)), "two values"),
        (lambda: QUICK.run(rows(9, 2), np.arange(9) % 5, rows(3, 2)), "Merge"),
        (lambda: QUICK.run(rows(9, 2), np.arange(9), rows(3, 2)), "each on 3 known records"),
        (lambda: QUICK.run(rows(9, 2), two(9), rows(3, 4)), "same features"),
        (lambda: QUICK.run(rows(9, 2), two(8), rows(3, 2)), "same features"),
        (lambda: QUICK.run(rows(9, 2), np.arange(9) % 3 - 1, rows(3, 2)), "from -1"),
        (lambda: QUICK.run(rows(9, 2), two(9) * 10**9, rows(3, 2)), "without great gaps, got 1000000000"),
        (lambda: QUICK.run(rows(9, 2), two(9) / 2, rows(3, 2)), "float64"),
        (lambda: Overlearning(probes=("neighbors",)).run(rows(9, 2), two(9), rows(3, 2)), "too few"),
        (lambda: rows(3, 0), "features"),
        (lambda: rows(0, 3), "records"),
        (lambda: rows(3, 2, np.nan), "NaN"),
        (lambda: Decensoring(hidden=(0,)), "widths from 1"),
        (lambda: Decensoring().run(rows(20, 2), rows(19, 2), two(20), rows(3, 2)), "20 and 19"),
        (lambda: Decensoring().run(rows(9, 2), rows(9, 2), two(9), rows(3, 2)), "20 or more"),
        (lambda: BRIEF.run(Weights(nn.Linear(2, 2), (2,), 2), torch.ones(4, 2), two(3), torch.ones(1, 2)), "3 for 4"),
        (
            lambda: BRIEF.run(Weights(nn.Linear(2, 2), (2,), 2), torch.ones(4, 2), two(4) * 0, torch.ones(1, 2)),
            "repurposing: expected two values",
        ),
        (lambda: with_new_answer(nn.Conv2d(1, 1, 1), 2, seed=0), "ends in a linear layer"),
    ],
)
def test_what_cannot_be_done_is_refused(make, told):
    with pytest.raises(BadInputError, match=told):
        make()
