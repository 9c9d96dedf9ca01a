"""One end-to-end table: every attack and every defense with its adversaries, on a few dozen records."""

import numpy as np
import pytest
from audit_specimens import ANSWERED, memorized, network, overfitted, records

from divulge.attacks import ATTACKS
from divulge.attacks.membership import MembershipAttack
from divulge.auditing.adversaries import TABLE, adversaries
from divulge.auditing.attack import Attempt, Scene, attack, look
from divulge.auditing.audit import Means, audit, comparable, prepare
from divulge.auditing.corpus import keep
from divulge.auditing.grid import defended
from divulge.auditing.targets import as_target
from divulge.auditing.train import Fresh, Training, shadow_steps, train
from divulge.data import split
from divulge.defenses import DEFENSES
from divulge.metrics import auc
from divulge.runs.engines import LocalEngine
from divulge.runs.graph import execute
from divulge.runs.step import Context, Step
from divulge.runs.store import Store
from divulge.training import Recipe

ATTACKING = ATTACKS.kind_of(MembershipAttack)
PRIVATE = ("members", "nonmembers")
BRIEF = Recipe(epochs=8, batch_size=16, lr=0.01, lr_decay=1.0, weight_decay=0.0)
RESPONDING = [name for name, cls in DEFENSES.classes.items() if cls().in_response]
ELSEWHERE = {"cvb", "censoring"}  # takes convolutions, or records with an attribute, which there are none of here
TRAINING = [name for name, cls in DEFENSES.classes.items() if cls().in_training and name not in ELSEWHERE]


@pytest.fixture(scope="module")
def parts():
    return split(records(170), {"members": 60, "nonmembers": 110}, seed=0)


@pytest.fixture(scope="module")
def subject(parts, tmp_path_factory):
    model = overfitted(parts["members"])
    inside, outside = comparable(parts["members"], parts["nonmembers"])
    target = as_target(model, classes=inside.classes, probe=inside.inputs[:8])
    store = Store(tmp_path_factory.mktemp("run"))
    return prepare(target, inside, outside, Means("standard", BRIEF), store=store, engine=LocalEngine(1))


@pytest.fixture(scope="module")
def facts(subject):
    return audit(subject, command="test")


def test_every_registered_attack_ran_with_an_interval_and_a_control(facts):
    (table,) = (b for s in facts.sections for b in s.blocks if getattr(b, "title", "") == "Every attack that ran")
    assert sorted(str(row[0]) for row in table.rows) == sorted(ATTACKING)
    for row in table.rows:
        cells = dict(zip(table.columns, row, strict=True))
        for column in ("AUC", "control AUC"):
            low, high = (float(x) for x in cells[column].partition("[")[2].rstrip("]").split(","))
            assert 0 <= low <= float(cells[column].split()[0]) <= high <= 1
    assert facts.verdict.band >= 3, "an overfitted network on random labels"
    assert len(facts.records["record"]) == 60 + 88
    assert not any(line.startswith(tuple(ATTACKING)) for line in facts.not_tested)


def test_every_defense_at_the_response_door_stands_in_the_grid_with_its_adversaries(facts):
    (section,) = (one for one in facts.sections if one.title == "Defenses")
    scatter, table = section.blocks
    expected = {("none", "none")} | {(name, label) for name in RESPONDING for label in ("blind", "adaptive")}
    assert {(point.series, point.label) for point in scatter.points} == expected
    assert {(row[0], row[1]) for row in table.rows} == expected
    by_name = {(point.series, point.label): point for point in scatter.points}
    assert by_name["none", "none"].y_low > 0.75
    for name in RESPONDING:
        assert by_name[name, "adaptive"].y_low > 0.5, "coarse answers still tell members of such a model"
        assert by_name[name, "adaptive"].x == by_name[name, "blind"].x
    told = {row[0]: row[5] for row in table.rows if row[1] == "adaptive"}
    assert all(told[name] == TABLE[name].adaptive for name in RESPONDING if name in TABLE)


def test_every_registered_defense_has_a_row_of_adversaries_with_attacks_that_exist():
    assert set(TABLE) <= set(DEFENSES.classes), "a row for a defense that is gone"
    for name in DEFENSES.classes:
        assert set(adversaries(name).attacks) <= set(ATTACKING)
        assert adversaries(name).adaptive
    assert adversaries("none").attacks


@pytest.mark.parametrize("name", RESPONDING)
def test_an_adaptive_adversary_sees_shadows_through_the_defense_and_a_blind_one_does_not(name, subject):
    defense = DEFENSES.make(name)
    models = memorized(subject.corpus)
    plain, blind, adaptive = (
        look(subject.corpus, scene, models)
        for scene in (
            Scene(PRIVATE),
            Scene(PRIVATE, respond=defense, adaptive=False),
            Scene(PRIVATE, respond=defense, adaptive=True),
        )
    )

    def told(logits):
        rows = np.exp(logits - logits.max(axis=-1, keepdims=True)).reshape(-1, logits.shape[-1])
        return defense.respond(rows / rows.sum(axis=1, keepdims=True)).reshape(logits.shape)

    assert np.allclose(np.exp(blind.candidates.target), told(plain.candidates.target), atol=1e-6)
    assert np.array_equal(blind.candidates.target, adaptive.candidates.target)
    assert np.array_equal(blind.candidates.shadows, plain.candidates.shadows)
    assert np.allclose(np.exp(adaptive.candidates.shadows), told(plain.candidates.shadows), atol=1e-6)


def test_the_grid_measures_a_defended_model_that_memorizes(subject):
    truth = np.arange(60 + 88) < 60
    scatter, _ = defended(subject, memorized(subject.corpus), truth, retrained={})
    assert {point.y for point in scatter.points if point.label != "blind"} == {1.0}
    assert scatter.chosen == "", "no coarsening hides a model that is wrong about every outsider"


@pytest.mark.parametrize("name", TRAINING)
def test_a_defense_at_the_training_door_meets_shadows_with_and_without_it(name, parts, tmp_path):
    store, defense = Store(tmp_path), DEFENSES.make(name)
    inside, outside = comparable(parts["members"], parts["nonmembers"])
    target = as_target(network(), classes=inside.classes, probe=inside.inputs[:8])
    held = prepare(target, inside, outside, Means(), store=store, engine=LocalEngine(1)).corpus
    data = keep(held, store)
    architecture = Fresh("a network", target.architecture())

    def training(parts, with_defense, seed):
        used = defense if with_defense else None
        return Training(architecture, BRIEF, parts, ANSWERED, seed=seed, defense=used, validation="population")

    protected = Step(train, training(("members",), True, 0), {"data": data})
    shadows = {
        adversary: shadow_steps(training(PRIVATE, adversary == "adaptive", 1), data, like=held.data, count=4)
        for adversary in ("blind", "adaptive")
    }
    steps = [protected, *(step for each in shadows.values() for step in each.values())]
    done = execute(steps, store, engine=LocalEngine(1))
    truth = np.arange(60 + 88) < 60
    answers = {}
    for adversary, each in shadows.items():
        models = {"target": done[protected.key], **{key: done[step.key] for key, step in each.items()}}
        answers[adversary] = look(held, Scene(PRIVATE), models).candidates.shadows
        for one in adversaries(name).attacks:
            settings = Attempt(ATTACKS[one](), Scene(PRIVATE, population="population"))
            scores = attack(settings, {"data": store.read(data.key), **models}, Context({}, print)).arrays["scores"]
            assert 0 <= auc(scores, truth).low <= auc(scores, truth).high <= 1
    assert answers["blind"].shape == answers["adaptive"].shape
    assert not np.allclose(answers["blind"], answers["adaptive"])
