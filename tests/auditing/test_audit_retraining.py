"""Defenses that act in training, tried on digits: the models trained anew, their adversaries, cost, and refusals."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

import divulge
from divulge.auditing.audit import Means, comparable, prepare
from divulge.auditing.cost import estimate
from divulge.auditing.grid import cases
from divulge.auditing.shadowing import ANEW, retraining
from divulge.auditing.targets import as_target
from divulge.data import Dataset, load
from divulge.defenses import DEFENSES, Defense, Trained
from divulge.errors import BadInputError
from divulge.models.mlp import MLP
from divulge.runs.engines import LocalEngine
from divulge.runs.step import Artifact
from divulge.runs.store import Store
from divulge.training import Recipe, fit

RECIPE = Recipe(epochs=40, batch_size=20, lr=0.01, lr_decay=1.0, weight_decay=0.0)


@dataclass(frozen=True)
class Amnesia(Defense):
    """Learns nothing at all."""

    name: ClassVar[str] = "amnesia"

    def train(self, model, data, recipe, **_):
        model.eval()
        return Trained([])


def digits(first, last):
    """Digits with random labels, so that who was learned is all there is to learn."""
    data = load("digits")[np.arange(first, last)]
    labels = torch.randint(10, (last - first,), generator=torch.Generator().manual_seed(first))
    return Dataset(data.inputs, labels, classes=data.classes)


MEMBERS, OTHERS = digits(0, 100), digits(100, 250)
NETWORK = MLP((64,)).build(MEMBERS.shape, 10, seed=0)
fit(NETWORK, MEMBERS, RECIPE, seed=0)


def prepared(folder, *, model=NETWORK, others=OTHERS, budget="standard", recipe=RECIPE, defenses):
    inside, outside = comparable(MEMBERS, others)
    target = as_target(model, classes=inside.classes, probe=inside.inputs[:8])
    means = Means(budget, recipe, defenses=defenses)
    return prepare(target, inside, outside, means, store=Store(folder), engine=LocalEngine(1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def facts(folder):
    report = divulge.audit(
        NETWORK,
        members=MEMBERS,
        nonmembers=OTHERS,
        recipe=RECIPE,
        defenses=("dropout", Amnesia(), {"name": "top-k", "k": 1}),
        run_dir=folder,
        engine=LocalEngine(1),
    )
    return report.facts


def grid(facts):
    (section,) = (one for one in facts.sections if one.title == "Defenses")
    return section.blocks


def test_a_defense_knows_its_doors_and_says_which_settings_are_its_own():
    doors = {name: (cls().in_training, cls().in_response) for name, cls in DEFENSES.classes.items()}
    assert doors["dropout"] == doors["dp-sgd"] == (True, False)
    assert doors["top-k"] == doors["rounding"] == doors["label-only"] == (False, True)
    elsewhere = [name for name, each in doors.items() if not any(each)]
    assert all(DEFENSES[name]().in_sharing for name in elsewhere), "a defense that acts nowhere"
    assert (Defense().in_training, Defense().in_response) == (False, False)
    assert DEFENSES.make({"name": "top-k", "k": 1}).label == "top-k (k=1)"
    assert DEFENSES.make("top-k").label == "top-k"


def test_defenses_in_training_stand_beside_the_others_and_are_judged_by_the_model_trained_anew(facts):
    scatter, table = grid(facts)
    tried = ("dropout", "amnesia", "top-k (k=1)")
    expected = [("none", "none"), (ANEW, "none"), *((name, who) for name in tried for who in ("blind", "adaptive"))]
    assert [(point.series, point.label) for point in scatter.points] == expected
    assert [(row[0], row[1]) for row in table.rows] == expected
    found = {(point.series, point.label): point for point in scatter.points}
    for name in ("none", ANEW):
        assert found[name, "none"].y_low > 0.9, "planted: the model knows its members by heart"
    for who in ("blind", "adaptive"):
        assert found["amnesia", who].y_low <= 0.5 <= found["amnesia", who].y_high, "null: nothing was learned"
    assert found["dropout", "adaptive"].y < found[ANEW, "none"].y_low, "stopped early, it learns less by heart"
    assert found["dropout", "adaptive"].x == found["dropout", "blind"].x
    assert "dropout, amnesia" in table.note
    assert "dropout draws the dropped activations" in table.note
    assert "Not tried, as they act in training" in table.note
    assert "dp-sgd" in table.note.partition("Not tried")[2]
    assert "Amnesia" in facts.settings["defenses tried"]


def test_each_defense_took_one_model_on_all_members_and_as_many_shadows_on_halves(facts, folder):
    store = Store(folder)
    steps = [step for step in store.steps() if step.function == "divulge.auditing.train:train"]
    numbers = [number for step in steps for number in store.read(step.key).facts["trained_on"]]
    halves = [number for number in numbers if number != 100]
    assert numbers.count(100) == 3, "the model anew, under dropout, under amnesia"
    assert len(halves) == 4 * 3
    assert set(halves) <= {110, 111}


def test_a_second_audit_trains_nothing_again(facts, folder):
    before = {record.key for record in Store(folder).steps()}
    again = divulge.audit(
        NETWORK,
        members=MEMBERS,
        nonmembers=OTHERS,
        recipe=RECIPE,
        defenses=(DEFENSES.make("dropout"), DEFENSES.make("dropout")),
        run_dir=folder,
        engine=LocalEngine(1),
    )
    assert {record.key for record in Store(folder).steps()} == before
    first, second = ({(p.series, p.label): p for p in grid(one)[0].points} for one in (facts, again.facts))
    assert set(second) == {("none", "none"), (ANEW, "none"), ("dropout", "blind"), ("dropout", "adaptive")}
    assert all(first[name] == point for name, point in second.items())


def test_a_blind_adversary_has_undefended_shadows_and_an_adaptive_one_defended_ones(tmp_path):
    dropout, rounding = DEFENSES.make("dropout"), DEFENSES.make("rounding")
    subject = prepared(tmp_path, defenses=(dropout, rounding))
    own, anew, answers = ({name: Artifact() for name in ("target", "shadows-000")} for _ in range(3))
    retrained = {ANEW: {"target": anew["target"]}, "dropout": own}
    seen = {(case.series, case.adversary): case for case in cases(subject, answers, retrained)}
    attacked = {name: (case.models["target"], case.models["shadows-000"]) for name, case in seen.items()}
    assert attacked == {
        ("none", "none"): (answers["target"], answers["shadows-000"]),
        (ANEW, "none"): (anew["target"], answers["shadows-000"]),
        ("dropout", "blind"): (own["target"], answers["shadows-000"]),
        ("dropout", "adaptive"): (own["target"], own["shadows-000"]),
        ("rounding", "blind"): (answers["target"], answers["shadows-000"]),
        ("rounding", "adaptive"): (answers["target"], answers["shadows-000"]),
    }
    assert seen["dropout", "blind"].baseline == ANEW
    assert seen["rounding", "blind"].baseline == "none"


def test_models_trained_anew_share_no_seed_with_shadows_and_shadows_share_halves(tmp_path):
    steps = retraining(prepared(tmp_path, defenses=(DEFENSES.make("dropout"),)))
    target = steps["dropout"].pop("target").settings
    assert target.parts == ("members",)
    assert steps[ANEW]["target"].settings.seed == target.seed
    shadows = [step.settings for step in steps["dropout"].values()]
    assert len(shadows) == 4
    assert target.seed not in {one.seed + one.design.first for one in shadows}
    assert {one.defense.name for one in shadows} == {"dropout"}


def test_by_default_nothing_is_trained_for_defenses_and_the_estimate_counts_what_is(tmp_path):
    plain, tried = estimate(prepared(tmp_path, defenses=None)), (DEFENSES.make("dropout"), DEFENSES.make("top-k"))
    assert (plain.shadows, plain.retrained) == (4, 0)
    assert plain.seconds > 0
    subject = prepared(tmp_path, defenses=tried)
    cost = estimate(subject)
    assert (cost.shadows, cost.retrained) == (4, 6)
    assert cost.retrained == sum(len(models) for models in retraining(subject).values())
    assert estimate(prepared(tmp_path, budget="quick", defenses=None)).retrained == 0


def tree():
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(random_state=0).fit(MEMBERS.inputs.flatten(1).numpy(), MEMBERS.targets.numpy())


class Unwilling(Amnesia):
    """Cannot train this."""

    def train(self, *_, **__):
        raise RuntimeError("not this one")


@pytest.mark.parametrize(
    ("change", "defense", "message"),
    [
        ({"budget": "quick"}, "top-k", "train shadow models, but the quick budget trains nothing"),
        ({"model": lambda x: np.full((len(x), 10), 0.1)}, "top-k", "but a Python callable cannot be trained anew"),
        ({"others": digits(100, 150)}, "dropout", "expected 100 non-members or more, got 50"),
        ({"recipe": Recipe(augment=("rotate",))}, "dropout", "under it raised BadInputError: .*expected any of flip"),
        ({}, Unwilling(), "amnesia acts in training, and .* raised RuntimeError: not this one"),
    ],
)
def test_what_cannot_be_tried_is_refused_before_anything_is_trained(change, defense, message, tmp_path):
    made = defense if isinstance(defense, Defense) else DEFENSES.make(defense)
    with pytest.raises(BadInputError, match=message):
        prepared(tmp_path, defenses=(made,), **change)
    assert not [record for record in Store(tmp_path).steps() if "train" in record.function]


def test_a_classifier_that_is_fitted_otherwise_meets_defenses_of_its_answers_only(tmp_path):
    flat = [Dataset(part.inputs.flatten(1), part.targets, classes=part.classes) for part in (MEMBERS, OTHERS)]
    inside, outside = comparable(*flat)
    target = as_target(tree(), classes=inside.classes, probe=inside.inputs[:8])
    store, engine = Store(tmp_path), LocalEngine(1)
    with pytest.raises(BadInputError, match="dropout acts in training, which only a torch module"):
        prepare(target, inside, outside, Means(defenses=(DEFENSES.make("dropout"),)), store=store, engine=engine)
    subject = prepare(target, inside, outside, Means(defenses=(DEFENSES.make("top-k"),)), store=store, engine=engine)
    assert retraining(subject) == {}
