"""Controls, nulls and planted leaks of membership attacks, through the machinery of an audit."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
from audit_specimens import ANSWERED, OVERFIT, corpus, memorized

from divulge.attacks import ATTACKS
from divulge.attacks.membership import MembershipAttack, Signals, View, assignment
from divulge.auditing.attack import Attempt, Scene, attack, control, look
from divulge.auditing.corpus import keep
from divulge.auditing.train import Training, shadow_steps, train, untrained
from divulge.errors import BadInputError
from divulge.metrics import auc
from divulge.models.mlp import MLP
from divulge.runs.engines import LocalEngine
from divulge.runs.graph import execute
from divulge.runs.step import Context, Step
from divulge.runs.store import Store

NAMES = sorted(ATTACKS.kind_of(MembershipAttack))
PRIVATE = ("members", "nonmembers")
SCENE = Scene(PRIVATE, population="population", inputs=True)


@dataclass(frozen=True)
class Spy(MembershipAttack):
    """Writes down what it is shown."""

    name: ClassVar[str] = "spy"

    seen: list = field(default_factory=list, compare=False)

    def score(self, view, *, seed):
        self.seen.append(view)
        return view.candidates.target[:, 0]


def view_of(members, *, population=5, classes=3):
    rng = np.random.default_rng(0)
    shadows, n = members.shape
    labels = rng.integers(classes, size=n)
    inputs = rng.random((n, 2)).astype(np.float32)
    candidates = Signals(labels, rng.random((n, classes)), rng.random((shadows, n, classes)), members, inputs)
    outside = np.zeros((shadows, population), dtype=bool)
    known = Signals(
        labels[:population],
        rng.random((population, classes)),
        rng.random((shadows, population, classes)),
        outside,
        inputs[:population],
    )
    return View(candidates, known)


@pytest.mark.parametrize("n", [12, 13])
@pytest.mark.parametrize("shadows", [4, 6])
def test_the_shadow_in_the_targets_place_never_saw_the_records(n, shadows):
    members = assignment(n, shadows, seed=1)
    view, spy = view_of(members), Spy()
    evidence = control(view, Attempt(spy, SCENE))
    covered = np.zeros(n, dtype=int)
    for posing, shown in enumerate(spy.seen):
        chosen = ~members[posing]
        covered += chosen
        candidates = shown.candidates
        assert np.array_equal(candidates.target, view.candidates.shadows[posing][chosen])
        assert np.array_equal(candidates.inputs, view.candidates.inputs[chosen])
        assert np.array_equal(candidates.labels, view.candidates.labels[chosen])
        others = [*range(2, shadows), 1 - posing]
        assert np.array_equal(candidates.shadows, view.candidates.shadows[others][:, chosen])
        assert np.array_equal(candidates.members, members[others][:, chosen])
        assert candidates.members[:-1].any(axis=0).all(), "nothing seen inside by the other pairs"
        assert (~candidates.members[:-1]).any(axis=0).all(), "nothing seen outside by the other pairs"
        assert np.array_equal(shown.population.target, view.population.shadows[posing])
        assert np.array_equal(evidence.scores[chosen], candidates.target[:, 0])
    assert len(spy.seen) == 2
    assert (covered == 1).all(), "the pair must cover every candidate once"


def test_an_untrained_copy_is_attacked_on_every_record_and_has_no_shadows():
    view, spy = view_of(np.zeros((1, 7), dtype=bool)), Spy()
    evidence = control(view, Attempt(spy, SCENE))
    assert np.array_equal(evidence.scores, view.candidates.shadows[0][:, 0])
    assert spy.seen[0].candidates.shadows is None
    assert spy.seen[0].population.shadows is None


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (assignment(10, 2, seed=0), "needs two complementary pairs"),
        (assignment(10, 4, seed=0)[[0, 2, 1, 3]], "needs two complementary pairs"),
        (assignment(10, 4, seed=0)[:3], "needs two complementary pairs"),
    ],
)
def test_what_has_no_control_is_refused(members, message):
    with pytest.raises(BadInputError, match=message):
        control(view_of(members), Attempt(Spy(), SCENE))


def test_no_shadow_no_control():
    view = View(Signals(np.zeros(4, dtype=int), np.zeros((4, 2))))
    with pytest.raises(BadInputError, match="needs at least one shadow"):
        control(view, Attempt(Spy(), SCENE))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A corpus, and models that were trained: on the members, on other records, on halves, and not at all."""
    store = Store(tmp_path_factory.mktemp("run"))
    held = corpus(members=80, nonmembers=80, population=40, elsewhere=80)
    data = keep(held, store)

    def training(part):
        return Training(MLP((64,)), OVERFIT, (part,), ANSWERED, seed=1)

    steps = {
        "overfitted": Step(train, training("members"), {"data": data}),
        "elsewhere": Step(train, training("elsewhere"), {"data": data}),
        "untrained": Step(untrained, training("members"), {"data": data}),
    }
    halves = Training(MLP((64,)), OVERFIT, PRIVATE, ANSWERED, seed=2)
    steps |= shadow_steps(halves, data, like=held.data, count=4)
    done = execute(list(steps.values()), store, engine=LocalEngine(1))
    return held, store.read(data.key), {name: done[step.key] for name, step in steps.items()}


def scores_of(name, data, models, *, scene=SCENE, seed=0):
    context = Context({}, lambda fraction: None)
    return attack(Attempt(ATTACKS[name](), scene, seed), {"data": data, **models}, context).arrays["scores"]


TRUTH = np.arange(160) < 80


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", ["elsewhere", "untrained"])
def test_null_a_model_that_never_saw_the_records_gives_nothing_away(target, name, world):
    _, data, models = world
    shadows = {"shadows-000": models["shadows-000"]}
    found = auc(scores_of(name, data, {"target": models[target], **shadows}), TRUTH, confidence=1 - 0.01 / len(NAMES))
    assert found.low <= 0.5 <= found.high


@pytest.mark.parametrize("name", NAMES)
def test_null_the_control_of_an_overfitted_target_finds_nothing(name, world):
    _, data, models = world
    scene = Scene(PRIVATE, population="population", inputs=True, control=True)
    scores = scores_of(name, data, {"shadows-000": models["shadows-000"]}, scene=scene)
    found = auc(scores, TRUTH, confidence=1 - 0.01 / len(NAMES))
    assert found.low <= 0.5 <= found.high


@pytest.mark.parametrize("name", NAMES)
def test_planted_a_model_that_looks_records_up_gives_everything_away(name, world):
    held, data, _ = world
    assert auc(scores_of(name, data, memorized(held)), TRUTH).value > 0.99


@pytest.mark.parametrize("name", ["loss", "modified-entropy", "lira", "shrinkage", "rmia"])
def test_planted_an_overfitted_network_gives_everything_away(name, world):
    _, data, models = world
    shadows = {"shadows-000": models["shadows-000"]}
    assert auc(scores_of(name, data, {"target": models["overfitted"], **shadows}), TRUTH).value > 0.99


@pytest.mark.parametrize("name", NAMES)
def test_every_attack_is_deterministic_and_leaves_its_view_as_it_was(name, world):
    held, _, models = world
    shown = look(held, SCENE, {"target": models["overfitted"], "shadows-000": models["shadows-000"]})
    arrays = [
        (part, key)
        for part in (shown.candidates, shown.population)
        for key in ("labels", "target", "shadows", "members", "inputs")
    ]
    before = [np.array(getattr(part, key)) for part, key in arrays]
    one = ATTACKS[name]()
    first, second = one.run(shown, seed=3), one.run(shown, seed=3)
    assert np.array_equal(first.scores, second.scores)
    assert first.scores.shape == (160,)
    assert first.decisions is None or first.decisions.dtype == bool
    assert all(np.array_equal(old, getattr(part, key)) for old, (part, key) in zip(before, arrays, strict=True))
    assert one.source, "every attack names where it comes from"
