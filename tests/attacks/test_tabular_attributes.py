"""Attributes filled in on tables: planted leaks, nothing to find, counts of trees by brute force, what is refused."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from divulge.attacks.attributes.blanked import Blanked, blank
from divulge.attacks.attributes.by_labels import ByLabels
from divulge.attacks.attributes.confidence import ConfidenceScores, WeightedConfidence
from divulge.attacks.attributes.fredrikson import Mistakes, TreeCounts
from divulge.attacks.attributes.imputation import Imputation
from divulge.attacks.attributes.neurons import Neurons
from divulge.attacks.knowledge import Knowledge
from divulge.data import Dataset
from divulge.data.columns import Column, column_of
from divulge.defenses.coarse import LabelOnly
from divulge.errors import BadInputError
from divulge.releases import FLOOR, Posteriors, Representation
from divulge.releases.trees import Tree, published

VALUES = 3


def table(n: int, *, seed: int, leak: float = 0.0) -> Dataset:
    """A table of two columns and an attribute of three values, which the first column gives away by `leak`."""
    draw = np.random.default_rng(seed)
    secret = draw.integers(0, VALUES, n)
    first = draw.normal(size=n) + leak * secret
    inputs = np.stack([first, draw.normal(size=n), *np.eye(VALUES)[secret].T], axis=1)
    names = ("first", "second", *(f"secret={letter}" for letter in "abc"))
    return Dataset(
        torch.from_numpy(inputs).float(), torch.from_numpy(draw.integers(0, 2, n)), classes=("n", "y"), features=names
    )


def remembering(data: Dataset, *, sure: float = 0.99) -> Posteriors:
    """A model that answers a record's class surely if it was in `data` exactly as asked, else at random by content."""
    known = {tuple(row): int(label) for row, label in zip(data.inputs.tolist(), data.targets, strict=True)}

    def answer(records: torch.Tensor) -> np.ndarray:
        rows = np.full((len(records), 2), 0.5)
        for row, record in zip(rows, records.tolist(), strict=True):
            label = known.get(tuple(record))
            row[:] = [0.45, 0.55] if label is None else [1 - sure, sure] if label else [sure, 1 - sure]
        return rows

    return Posteriors(answer, classes=2)


@pytest.fixture
def members() -> Dataset:
    return table(300, seed=0)


@pytest.fixture
def knowledge() -> Knowledge:
    return Knowledge(data=table(200, seed=1))


class TestPlanted:
    def test_confidence_finds_what_a_model_remembers(self, members):
        blanked, truth = blank(members, column_of(members, "secret"))
        found = ConfidenceScores().run(remembering(members), blanked)
        assert (found.values == truth).mean() > 0.95
        assert np.allclose(found.probabilities.sum(axis=1), 1)

    def test_labels_alone_are_enough_where_one_value_is_right(self, members):
        blanked, truth = blank(members, column_of(members, "secret"))
        negative = blanked.labels == 0  # elsewhere the model says class 1, which is right under every value
        some = Blanked(blanked.column, blanked.others[torch.from_numpy(negative)], blanked.labels[negative])
        model = remembering(members)
        coarse = Posteriors(lambda x: LabelOnly().respond(model.answer(x)), classes=2)
        found = ByLabels().run(coarse, some)
        assert found.facts == {"case 1": int(negative.sum()), "case 2": 0, "case 3": 0}
        assert (found.values == truth[negative]).all()

    def test_what_labels_gave_away_is_learned_for_the_rest(self):
        data = table(400, seed=0, leak=4.0)
        blanked, truth = blank(data, column_of(data, "secret"))
        found = ByLabels().run(remembering(data), blanked)
        rest = blanked.labels == 1
        assert found.facts["case 1"] == (~rest).sum()
        assert (found.values[rest] == truth[rest]).mean() > 0.85
        assert found.probabilities[~rest].max(axis=1).min() == 1

    def test_confidence_weighs_what_was_thought_before(self, members):
        blanked, truth = blank(members, column_of(members, "secret"))
        even = np.full((len(members), VALUES), 1 / VALUES)
        found = WeightedConfidence().run(remembering(members), blanked, prior=even)
        assert (found.values == truth).mean() > 0.95

    def test_a_fully_grown_tree_gives_its_records_away(self, knowledge):
        members = table(300, seed=0)
        members = replace(members, targets=(members.inputs[:, 2] > 0).long())
        tree = DecisionTreeClassifier(random_state=0).fit(members.inputs.numpy(), members.targets.numpy())
        column = column_of(members, "secret")
        blanked, truth = blank(members, column)
        trees = published(tree, classes=2, columns=[0, 1], width=5)
        found = TreeCounts().run(trees, blanked, knowledge=knowledge)
        first = members.targets == 1
        assert (found.values == truth)[first.numpy()].all()
        known_model = Posteriors(lambda x: tree.predict_proba(x.numpy()), classes=2)
        other = Knowledge(data=replace(knowledge.data, targets=(knowledge.data.inputs[:, 2] > 0).long()))
        assert (Mistakes().run(known_model, blanked, knowledge=other).values == truth)[first.numpy()].all()

    def test_imputation_learns_what_other_columns_tell(self):
        data, own = table(300, seed=0, leak=4.0), Knowledge(data=table(300, seed=1, leak=4.0))
        blanked, truth = blank(data, column_of(data, "secret"))
        assert (Imputation().run(blanked, knowledge=own).values == truth).mean() > 0.9

    def test_neurons_that_know_are_found_among_many(self):
        draw = np.random.default_rng(0)
        attribute, truth = draw.integers(0, VALUES, 300), draw.integers(0, VALUES, 200)
        sides = []
        for own in (attribute, truth):
            neurons = draw.normal(size=(len(own), 40)).astype(np.float32)
            for value in range(VALUES):
                neurons[:, value] += (-1) ** value * 5 * (own == value)
            sides.append([Representation(neurons)] * VALUES)
        found = Neurons(count=1).run(sides[0], attribute, sides[1])
        assert (found.values == truth).mean() > 0.9


class TestNothingToFind:
    def test_a_model_without_the_attribute_gives_nothing(self, members, knowledge):
        blanked, truth = blank(members, column_of(members, "secret"))

        def answer(records: torch.Tensor) -> np.ndarray:
            one = torch.sigmoid(records[:, 0]).double().numpy()
            return np.stack([1 - one, one], axis=1)

        release = Posteriors(answer, classes=2)
        for attack in (ConfidenceScores(), Mistakes()):
            found = attack.run(release, blanked, knowledge=knowledge if attack.name == "mistakes" else Knowledge())
            assert abs((found.values == truth).mean() - 1 / VALUES) < 0.09
        assert ByLabels().run(release, blanked).facts["case 1"] == 0

    def test_neurons_that_know_nothing_are_no_better_than_chance(self):
        draw = np.random.default_rng(0)
        attribute, truth = draw.integers(0, VALUES, 400), draw.integers(0, VALUES, 400)
        mine, theirs = (Representation(draw.normal(size=(400, 60)).astype(np.float32)) for _ in range(2))
        found = Neurons().run([mine] * VALUES, attribute, [theirs] * VALUES)
        assert abs((found.values == truth).mean() - 1 / VALUES) < 0.09

    def test_columns_that_tell_nothing_impute_nothing(self, members, knowledge):
        blanked, truth = blank(members, column_of(members, "secret"))
        assert abs((Imputation().run(blanked, knowledge=knowledge).values == truth).mean() - 1 / VALUES) < 0.09


@pytest.fixture(scope="module")
def grown() -> tuple[Dataset, DecisionTreeClassifier, Tree]:
    draw = np.random.default_rng(3)
    codes = draw.integers(0, [VALUES, 2, 3], (120, 3))
    inputs = np.concatenate([np.eye(VALUES)[codes[:, 0]], codes[:, 1:]], axis=1)
    labels = (codes.sum(axis=1) + draw.integers(0, 2, 120)) % 2
    names = (*(f"secret={letter}" for letter in "abc"), "two", "three")
    data = Dataset(torch.from_numpy(inputs).float(), torch.from_numpy(labels), classes=("n", "y"), features=names)
    model = DecisionTreeClassifier(max_depth=4, random_state=0).fit(inputs.astype(np.float32), labels)
    return data, model, published(model, classes=2, columns=[0, 1], width=5)[0]


class TestTrees:
    """Against every cell of a small grid, one by one."""

    def test_arrivals_and_counts_are_scikit_learns(self, grown):
        data, model, tree = grown
        leaves = tree.arrive(data.inputs.numpy())
        assert (leaves == model.apply(data.inputs.numpy())).all()
        for leaf in tree.leaves:
            here = data.targets.numpy()[leaves == leaf]
            assert tree.counts[leaf].tolist() == [(here == 0).sum(), (here == 1).sum()]

    def test_a_leaf_admits_what_some_record_with_the_value_could_reach(self, grown):
        _, model, tree = grown
        column = Column("secret", (0, 1, 2), torch.eye(VALUES), ("a", "b", "c"), 5)
        admits = tree.allows(column.places, column.written.numpy())
        for value in range(VALUES):
            cells = [[*np.eye(VALUES)[value], x, y] for x, y in itertools.product((-9, 0, 1, 9), (-9, 0, 1, 2, 9))]
            reached = set(model.apply(np.array(cells, dtype=np.float32)).tolist())
            assert reached <= set(np.flatnonzero(admits[:, value]).tolist())
            assert {int(leaf) for leaf in tree.leaves if admits[leaf, value]} == reached

    def test_probabilities_are_the_formula(self, grown):
        data, model, tree = grown
        column = column_of(data, "secret")
        blanked, secrets = blank(data, column)
        knowledge = Knowledge(data=data)
        found = TreeCounts().run([tree], blanked, knowledge=knowledge)
        prior = np.bincount(secrets) / len(secrets)
        leaf_of, n = model.apply(data.inputs.numpy()), len(data)
        share = {leaf: (leaf_of == leaf).sum() / n for leaf in tree.leaves}
        admits = tree.allows(column.places, column.written.numpy())
        for row in range(0, n, 7):
            weight = np.zeros(VALUES)
            for value in range(VALUES):
                whole = column.put(blanked.others[row : row + 1], value).numpy()
                leaf = int(model.apply(whole)[0])
                if model.predict(whole)[0] == blanked.labels[row]:
                    mass = sum(share[other] for other in tree.leaves if admits[other, value])
                    weight[value] = share[leaf] / mass * prior[value]
            if weight.sum():
                assert found.probabilities[row] == pytest.approx(weight / weight.sum())
        assert np.allclose(found.probabilities.sum(axis=1), 1)

    def test_a_forest_is_the_mean_of_its_trees(self, members, knowledge):
        forest = RandomForestClassifier(3, random_state=0).fit(members.inputs.numpy(), members.targets.numpy())
        trees = published(forest, classes=2, columns=[0, 1], width=5)
        blanked, _ = blank(members, column_of(members, "secret"))
        alone = [TreeCounts().run([tree], blanked, knowledge=knowledge).probabilities for tree in trees]
        assert np.allclose(TreeCounts().run(trees, blanked, knowledge=knowledge).probabilities, np.mean(alone, axis=0))


def test_three_cases_of_the_published_rule():
    column = Column("s", (0,), torch.tensor([[0.0], [1.0]]), ("0", "1"), 2)
    blanked = Blanked(column, torch.tensor([[0.0], [1.0], [2.0]]), np.array([0, 0, 0]))
    told = {(0, 0): 0.9, (1, 0): 0.2, (0, 1): 0.6, (1, 1): 0.8, (0, 2): 0.3, (1, 2): 0.4}  # of class 0

    def answer(records: torch.Tensor) -> np.ndarray:
        zero = np.array([told[int(s), int(x)] for s, x in records.tolist()])
        return np.stack([zero, 1 - zero], axis=1)

    found = ConfidenceScores().run(Posteriors(answer, classes=2), blanked)
    assert found.facts == {"case 1": 1, "case 2": 1, "case 3": 1}
    assert found.values.tolist() == [0, 1, 1]
    surest = found.probabilities.max(axis=1)
    assert surest[0] > surest[1] > surest[2] > 0.5


def test_what_was_given_is_left_as_it_was(members, knowledge):
    before = members.inputs.clone(), knowledge.data.inputs.clone()
    blanked, _ = blank(members, column_of(members, "secret"))
    release = remembering(members)
    ConfidenceScores().run(release, blanked)
    assert release.queries == VALUES * len(members)
    state = np.random.get_state()[2]
    Imputation().run(blanked, knowledge=knowledge)
    assert np.random.get_state()[2] == state
    assert torch.equal(before[0], members.inputs)
    assert torch.equal(before[1], knowledge.data.inputs)


def hidden() -> Blanked:
    data = table(30, seed=0)
    bare = replace(
        data,
        inputs=data.inputs[:, :2],
        features=data.features[:2],
        attributes={"secret": data.inputs[:, 2:].argmax(dim=1)},
    )
    return blank(bare, column_of(bare, "secret"))[0]


def whole() -> Blanked:
    data = table(30, seed=0)
    return blank(data, column_of(data, "secret"))[0]


def labels_alone() -> Posteriors:
    return Posteriors(lambda x: np.eye(2)[(x[:, 0] > 0).int().numpy()], classes=2)


def one_value() -> Knowledge:
    data = table(30, seed=0)
    return Knowledge(data=data[data.inputs[:, 2] > 0])


def naming() -> Knowledge:
    return Knowledge(defense=LabelOnly())


def narrow() -> DecisionTreeClassifier:
    return DecisionTreeClassifier().fit(np.eye(2), [0, 1])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: ConfidenceScores().run(labels_alone(), whole()), "labels alone"),
        (lambda: ConfidenceScores().run(labels_alone(), hidden()), "expected 'secret' among the model's columns"),
        (lambda: ByLabels().run(labels_alone(), hidden()), "the attack neurons reads"),
        (lambda: Mistakes().run(labels_alone(), hidden(), knowledge=Knowledge()), "among the model's columns"),
        (lambda: Imputation().run(whole(), knowledge=Knowledge()), "records of the adversary's own"),
        (lambda: Imputation().run(whole(), knowledge=one_value()), "have the value 'a'"),
        (lambda: Imputation().run(whole(), knowledge=Knowledge(data=table(9, seed=0), defense=LabelOnly())), "no use"),
        (
            lambda: ConfidenceScores().run(labels_alone(), whole(), knowledge=Knowledge(defense=LabelOnly())),
            "by-labels",
        ),
        (lambda: TreeCounts().run([], whole(), knowledge=Knowledge(data=table(9, seed=0))), "got none"),
        (
            lambda: TreeCounts().run(
                published(narrow(), classes=2, columns=[0, 1], width=2),
                whole(),
                knowledge=Knowledge(data=table(9, seed=0)),
            ),
            "trees on 5 columns, got trees on \\[2\\]",
        ),
        (lambda: published(narrow(), classes=2, columns=[0, 1], width=5), "fitted on 2 columns and the records have 5"),
        (lambda: published(DecisionTreeClassifier(), classes=2, columns=[0, 1], width=5), "expected a fitted"),
        (
            lambda: published(
                GradientBoostingClassifier(n_estimators=1).fit(np.eye(2), [0, 1]), classes=2, columns=[0, 1], width=2
            ),
            "leaves count records",
        ),
        (lambda: Neurons(count=0), "count >= 1"),
        (lambda: Neurons().run([features(9)], np.zeros(9, dtype=int), [features(3)]), "two values"),
        (lambda: Neurons().run([features(9)], np.arange(9) % 2, [features(3), features(3)]), "1 and 2 entries"),
        (
            lambda: Neurons().run([features(9), features(9)], np.arange(9) % 3, [features(3), features(3)]),
            "2 entries for values up to 2",
        ),
        (
            lambda: Neurons().run([features(9), features(8)], np.arange(9) % 2, [features(3), features(3)]),
            r"of \[8, 9\] known records",
        ),
        (lambda: Neurons().run([features(9)], np.arange(8) % 2, [features(3)]), "shape \\(8,\\)"),
    ],
)
def test_what_cannot_be_done_is_refused(make, told):
    with pytest.raises(BadInputError, match=told):
        make()


def features(n: int) -> Representation:
    return Representation(np.random.default_rng(n).normal(size=(n, 4)).astype(np.float32))


def test_answers_close_to_certain_are_still_confidences(members):
    blanked, truth = blank(members, column_of(members, "secret"))
    found = ConfidenceScores().run(remembering(members, sure=1 - FLOOR * 100), blanked)
    assert (found.values == truth).mean() > 0.95
