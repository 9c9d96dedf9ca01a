"""Every registered membership attack against the same rows: null control, planted leak, state, determinism."""

import dataclasses

import numpy as np
import pytest
import torch

from divulge.attacks import ATTACKS
from divulge.attacks.membership import MembershipAttack, Signals, View
from divulge.metrics import auc

LEARNED = {"shokri": {"shadows": 2}, "ml-leaks": {"epochs": 20}, "quantile-regression": {}}


def instances():
    for name, cls in ATTACKS.kind_of(MembershipAttack).items():
        yield cls(**LEARNED.get(name, {}))
        fields = {field.name for field in dataclasses.fields(cls)}
        if "mode" in fields:
            yield cls(mode="offline")
        if "per_class" in fields:
            yield cls(per_class=True)


EVERY = pytest.mark.parametrize("attack", list(instances()), ids=lambda attack: attack.label)


@EVERY
def test_nothing_to_find(attack, make_view):
    view, truth = make_view(leak=0.0, n=600, seed=5)
    estimate = auc(attack.run(view).scores, truth, confidence=0.99)
    assert estimate.low < 0.5 < estimate.high


@EVERY
def test_planted_leak(attack, make_view):
    view, truth = make_view(leak=30.0, n=300, population=600, shadows=160, level=-10.0, seed=1)
    evidence = attack.run(view)
    assert auc(evidence.scores, truth).value > 0.99
    if evidence.decisions is not None:
        assert evidence.decisions[truth].mean() > 0.5 > evidence.decisions[~truth].mean()


@EVERY
def test_deterministic_and_nothing_touched(attack, make_view):
    view, _ = make_view(leak=2.0)
    arrays = [
        value
        for signals in (view.candidates, view.population)
        for field in dataclasses.fields(Signals)
        if (value := getattr(signals, field.name)) is not None
    ]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    one, two = attack.run(view, seed=3), attack.run(view, seed=3)
    np.testing.assert_array_equal(one.scores, two.scores)
    assert one.attack == attack.name
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


@EVERY
def test_order_of_candidates_does_not_matter(attack, make_view):
    view, _ = make_view(leak=2.0)
    if "attack-data" in attack.needs:  # else it learns from the candidates, in their order
        view = dataclasses.replace(view, shadowed=view.candidates)
    order = np.random.default_rng(0).permutation(len(view.candidates))
    some = view.candidates
    shuffled = Signals(
        some.labels[order], some.target[order], some.shadows[:, order], some.members[:, order], some.inputs[order]
    )
    scores = attack.run(dataclasses.replace(view, candidates=shuffled)).scores
    np.testing.assert_allclose(scores, attack.run(view).scores[order], rtol=1e-4, atol=1e-5)


MONOTONE = ["loss", "attack-p", "attack-r", "calibrated", "rmia", "base", "gap", "quantile-regression"]


@pytest.mark.parametrize("name", MONOTONE)
def test_a_surer_target_never_scores_lower(name, make_view):
    view, _ = make_view(leak=1.0)
    some = view.candidates
    surer = some.target.copy()
    surer[np.arange(len(some)), some.labels] += np.random.default_rng(0).exponential(size=len(some))
    attack = ATTACKS.make(name)
    raised = attack.run(dataclasses.replace(view, candidates=dataclasses.replace(some, target=surer))).scores
    assert (raised >= attack.run(view).scores).all()


@pytest.mark.parametrize("answers", ["label-only", "constant", "saturated"])
@EVERY
def test_scores_stay_finite_on_degenerate_answers(attack, answers, make_view):
    view, _ = make_view(leak=2.0, n=60, population=60, shadows=4)

    def degrade(signals):
        tables = {"target": signals.target, "shadows": signals.shadows}
        if answers == "label-only":
            tables = {key: np.log(np.maximum(np.eye(4)[table.argmax(-1)], 1e-12)) for key, table in tables.items()}
        elif answers == "constant":
            tables = {key: np.zeros_like(table) for key, table in tables.items()}
        else:
            tables = {key: 500 * table for key, table in tables.items()}
        return dataclasses.replace(signals, **tables)

    with np.errstate(invalid="raise", divide="raise"):
        scores = attack.run(View(degrade(view.candidates), degrade(view.population))).scores
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("shadows", [1, 2, 3])
@EVERY
def test_few_shadows_and_ragged_memberships(attack, shadows, make_view):
    view, truth = make_view(leak=8.0, n=120, population=120, shadows=4)
    rng = np.random.default_rng(0)

    def ragged(signals):
        members = signals.members[:shadows] & (rng.random((shadows, len(signals))) < 0.7)
        return dataclasses.replace(signals, shadows=signals.shadows[:shadows], members=members)

    scores = attack.run(View(ragged(view.candidates), ragged(view.population))).scores
    assert auc(scores, truth).value > 0.7
