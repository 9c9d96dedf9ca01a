"""A person's own table and model: every attack that fits, beside imputation; shares of groups; what is refused."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from divulge.attacks.property import ChosenQueries, SortedWeights
from divulge.auditing.attributes import IMPUTATION, attribute_findings
from divulge.auditing.properties import property_findings
from divulge.auditing.worlds import sets, trained_worlds
from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.models.mlp import MLP, Softmax
from divulge.training import Recipe, fit


def people(n: int, *, seed: int) -> Dataset:
    """Records whose class depends on their `ill`, which nothing else tells."""
    draw = np.random.default_rng(seed)
    ill = draw.random(n) < 0.3
    inputs = np.stack([draw.normal(size=n), draw.normal(size=n), ~ill, ill], axis=1).astype(np.float32)
    labels = (draw.random(n) < 0.3 + 0.4 * ill).astype(np.int64)
    names = ("age", "pay", "ill=no", "ill=yes")
    return Dataset(torch.from_numpy(inputs), torch.from_numpy(labels), classes=("low", "high"), features=names)


@pytest.fixture(scope="module")
def parts() -> list[Dataset]:
    return [people(240, seed=seed) for seed in range(3)]


def number(audit, attack: str, records: str, metric: str) -> dict:
    (row,) = [row for row in audit.rows if (row["attack"], row["records"], row["metric"]) == (attack, records, metric)]
    return row


def test_a_forest_that_remembers_gives_members_away_and_not_others(parts):
    train, others, known = parts
    forest = RandomForestClassifier(30, random_state=0).fit(train.inputs.numpy(), train.targets.numpy())
    audit = attribute_findings(forest, train, others, known=known, sensitive="ill", value="yes", top=(10, 40))
    found = number(audit, "imputation and confidence", "members", "precision at top 40")
    assert found["value"] > found["control"] + 0.2
    away = number(audit, "imputation and confidence", "non-members", "precision at top 40")
    assert abs(away["value"] - away["control"]) < 0.2
    assert audit.findings[0].control is not None
    assert audit.strongest != IMPUTATION
    assert {"tree counts", "mistakes", "labels", "confidence scores"} <= {row["attack"] for row in audit.rows}
    assert all(0 <= row["low"] <= row["value"] <= row["high"] <= 1 for row in audit.rows)


def test_a_network_is_looked_into_only_if_it_was_released(parts):
    train, others, _ = parts
    model = MLP((8,)).build((4,), 2, seed=0)
    fit(model, train, Recipe(epochs=2, precision="float32"), seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    inside = attribute_findings(model, train, others, sensitive="ill", top=(10,))
    outside = attribute_findings(model, train, others, sensitive="ill", top=(10,), white_box=False)
    assert {"neurons, 10", "imputation and neurons"} <= {row["attack"] for row in inside.rows}
    assert not any("neurons" in row["attack"] for row in outside.rows)
    assert inside.value == "yes"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_labels_alone_leave_confidence_out_and_say_so(parts):
    train, others, known = parts

    def model(records: np.ndarray) -> np.ndarray:
        return np.eye(2)[(records[:, 3] > 0.5).astype(int)]

    audit = attribute_findings(model, train, others, known=known, sensitive="ill", top=(10,))
    assert not any(row["attack"] == "confidence scores" for row in audit.rows)
    assert any("labels alone" in note for note in audit.notes)
    assert number(audit, "labels", "members", "accuracy")["value"] > 0.6


def test_an_attribute_that_is_no_column_is_looked_for_in_neurons(parts):
    hidden = [
        Dataset(
            part.inputs[:, :2],
            part.targets,
            attributes={"ill": part.inputs[:, 3].long()},
            classes=part.classes,
            features=part.features[:2],
        )
        for part in parts
    ]
    model = MLP((8,)).build((2,), 2, seed=0)
    audit = attribute_findings(model, hidden[0], hidden[1], known=hidden[2], sensitive="ill", top=(10,))
    assert {row["attack"] for row in audit.rows} == {
        IMPUTATION,
        "neurons, 1",
        "neurons, 10",
        "neurons, 100",
        "imputation and neurons",
    }
    assert any("no column of the model" in note for note in audit.notes)
    with pytest.raises(BadInputError, match="nothing tells of it but"):
        attribute_findings(model, *hidden[:2], known=hidden[2], sensitive="ill", top=(10,), white_box=False)


def test_what_is_no_tree_is_asked_alone(parts):
    train, others, known = parts
    model = LogisticRegression().fit(train.inputs.numpy(), train.targets.numpy())
    audit = attribute_findings(model, train, others, known=known, sensitive="ill", top=(10,))
    assert any("inside was not looked at" in note for note in audit.notes)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"sensitive": "sick"}, "no attribute 'sick'"),
        ({"sensitive": "age"}, "240 different numbers"),
        ({"sensitive": "ill", "value": "maybe"}, "no value 'maybe'"),
    ],
)
def test_what_cannot_be_asked_of_a_table_is_refused(parts, settings, told):
    train, others, known = parts
    tree = DecisionTreeClassifier().fit(train.inputs.numpy(), train.targets.numpy())
    with pytest.raises(BadInputError, match=told):
        attribute_findings(tree, train, others, known=known, top=(10,), **settings)


def test_members_of_one_value_or_too_few_are_refused(parts):
    train, others, known = parts
    tree = DecisionTreeClassifier().fit(train.inputs.numpy(), train.targets.numpy())
    healthy = train[train.inputs[:, 2] > 0]
    for few, told in ((healthy, "with 1"), (train[:5], "got 5")):
        with pytest.raises(BadInputError, match=told):
            attribute_findings(tree, few, others, known=known, sensitive="ill", top=(10,))


def test_one_record_of_each_class_and_value_is_enough_to_know(parts):
    train, others, known = parts
    ill = known.inputs[:, 3] > 0
    rows = [int((ill & (known.targets == 1)).int().argmax()), int((~ill & (known.targets == 0)).int().argmax())]
    tree = DecisionTreeClassifier().fit(train.inputs.numpy(), train.targets.numpy())
    audit = attribute_findings(tree, train, others, known=known[rows], sensitive="ill", top=(10,))
    assert number(audit, IMPUTATION, "members", "accuracy")["n"] == len(train)


def test_a_tree_of_other_columns_is_refused(parts):
    train, others, known = parts
    tree = DecisionTreeClassifier().fit(train.inputs.numpy()[:, :3], train.targets.numpy())
    with pytest.raises(BadInputError, match="3 features"):
        attribute_findings(tree, train, others, known=known, sensitive="ill")


def test_sets_hold_the_shares_and_no_record_twice():
    group = np.arange(100) < 45
    members = sets(group, np.array([False, True]), shares=(0.25, 0.75), size=40, seed=0)
    assert members.sum(axis=1).tolist() == [40, 40]
    assert members[:, group].sum(axis=1).tolist() == [10, 30]


class TestShares:
    RECIPE = Recipe(epochs=3, batch_size=32, lr=1e-2, precision="float32")

    def test_a_share_that_moves_the_model_is_told(self):
        whole = people(3000, seed=5)
        group = (whole.inputs[:, 3] > 0).numpy()
        data = Dataset(whole.inputs[:, :2], whole.targets)  # no column tells the group, but the classes' shares do
        found = property_findings(
            Softmax(),
            data,
            group,
            recipe=self.RECIPE,
            shares=(0.1, 0.9),
            size=200,
            shadows=24,
            targets=20,
            attacks=(ChosenQueries(4), SortedWeights()),
        )
        (best,) = found.findings
        assert best.value > 0.85
        (alone,) = [row for row in found.rows if row["attack"] == found.strongest]
        assert best.low < alone["low"] <= alone["value"] == best.value
        assert {row["access"] for row in found.rows} == {"posteriors", "weights"}
        assert all(row["n"] == 20 and 0 <= row["control"] <= 1 for row in found.rows)
        assert found.rows[0]["queries"] == 4

    def test_models_are_those_trained_one_after_another(self):
        data = people(600, seed=6)
        group = (data.inputs[:, 3] > 0).numpy()
        models, has = trained_worlds(
            MLP((4,)), data, group, recipe=self.RECIPE, shares=(0.1, 0.5), size=100, count=4, seed=3
        )
        assert has.tolist() == [False, True, False, True]
        fresh = [MLP((4,)).build(data.shape, 2, seed=3 + number) for number in range(4)]
        assert not any(torch.equal(a[1].weight, b[1].weight) for a, b in zip(models, fresh, strict=True))
        again, _ = trained_worlds(
            MLP((4,)), data, group, recipe=self.RECIPE, shares=(0.1, 0.5), size=100, count=4, seed=3
        )
        assert all(torch.equal(a[1].weight, b[1].weight) for a, b in zip(models, again, strict=True))

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"shares": (0.3, 0.3)}, "two different shares"),
            ({"shares": (0.3, 1.5)}, "from 0 to 1"),
            ({"size": 2000}, "Make the sets smaller"),
            ({"shadows": 2}, "8 shadow models and 4 targets"),
            ({"group": np.ones(3, dtype=bool)}, "bool \\(300,\\)"),
        ],
    )
    def test_what_cannot_be_drawn_is_refused(self, changes, told):
        data = people(300, seed=5)
        settings = {"group": (data.inputs[:, 3] > 0).numpy(), "recipe": self.RECIPE, "size": 50, "shadows": 8}
        with pytest.raises(BadInputError, match=told):
            property_findings(Softmax(), data, **{**settings, "targets": 4, **changes})
