"""The audit of a privately trained model: what its ledger promises, beside what is measured."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from audit_specimens import OVERFIT, overfitted, records

import divulge
from divulge.auditing.promise import as_in_ledger, down, promised, shown
from divulge.auditing.promise_telling import CHECK, SECRET, told
from divulge.auditing.telling import _curve
from divulge.auditing.words import advice
from divulge.data import load, split
from divulge.defenses import Defense
from divulge.defenses.dp_sgd import DpSgd
from divulge.errors import BadInputError
from divulge.models.mlp import MLP
from divulge.privacy.ledger import Ledger, Phase
from divulge.runs.engines import LocalEngine
from divulge.training import Privacy, Recipe, fit_private

RECIPE = Recipe(epochs=6, batch_size=75, optimizer="sgd", lr=0.5, weight_decay=0.0)
TINY = Ledger(60, (Phase(0.1, 50.0, 100),))
"""A promise that a model which remembers everything cannot keep."""


def audited(model, ledger, inside, outside, folder, **more):
    plain = {"budget": "quick", "recipe": RECIPE, "engine": LocalEngine(1), "run_dir": folder}
    return divulge.audit(model, members=inside, nonmembers=outside, ledger=ledger, **plain | more).facts


@pytest.fixture(scope="module")
def digits():
    parts = split(load("digits"), {"members": 300, "nonmembers": 400}, seed=0)
    return parts["members"], parts["nonmembers"]


@pytest.fixture(scope="module")
def private(digits):
    model = MLP((16,)).build(digits[0].shape, 10, seed=0)
    return model, fit_private(model, digits[0], RECIPE, Privacy(epsilon=3.0), seed=0).ledger


@pytest.fixture(scope="module")
def facts(digits, private, tmp_path_factory):
    return audited(*private, *digits, tmp_path_factory.mktemp("run"))


def blocks(facts, title):
    (section,) = (one for one in facts.sections if one.title == title)
    return {block.title: block for block in section.blocks if hasattr(block, "title")}, section


def epsilons(table, kind):
    return {row[0]: float(row[1].removeprefix(kind)) for row in table.rows if row[1].startswith(kind)}


def test_a_private_model_keeps_its_promise_and_both_bounds_are_told(facts):
    tables, section = blocks(facts, "What epsilon promises")
    side = tables["Epsilon, promised and measured"]
    most, least = epsilons(side, "at most "), epsilons(side, "at least ")
    assert most["accountant pld"] == 3.0 <= most["accountant rdp"]
    counted = {row[0] for row in side.rows if row[4] == "yes"}
    assert counted == {"accountant pld", "accountant rdp", "bound one-run", "bound ledger-guesses"}
    assert all(least[name] <= 3.0 for name in least if name in counted)
    assert facts.promise == section.blocks[0].text
    assert facts.promise.startswith("Epsilon is at most 3 at delta 1e-5 by the ledger, and at least ")
    assert facts.verdict.band <= 2
    assert "does not hold" not in facts.to_json()


def test_the_promise_is_drawn_where_no_curve_may_enter(facts, private):
    tables, _ = blocks(facts, "The picture")
    (bound,) = (one for one in tables["Members caught against outsiders accused"].curves if one.role == "bound")
    assert bound.label == "ruled out by epsilon = 3"
    loss = promised(private[1], delta=1e-5, members=300).loss
    assert np.allclose(np.interp([0.01, 0.5], bound.x, bound.y), loss.most(np.array([0.01, 0.5])), atol=2e-3)
    tables, _ = blocks(facts, "What epsilon promises")
    curves = {one.role: one for one in tables["The largest chance to catch a member, or to tell a record"].curves}
    assert set(curves) == {"bound", "chance", "main"}
    assert curves["bound"].x == bound.x
    stops = tables["What epsilon = 3 stops"]
    assert len(stops.rows) == 5
    assert [row[3] for row in stops.rows][3:] == ["not tried"] * 2


def test_settings_and_assumptions_say_what_the_bounds_rest_on(facts):
    assert "300 records, add-remove adjacency; 24 steps with noise multiplier" in facts.settings["privacy ledger"]
    assert "by rdp (order" in facts.settings["epsilon cross-checked"]
    assert "fair coin of its own" in " ".join(facts.assumptions)
    assert any("2410.22235" in line for line in facts.references)


def test_a_false_ledger_is_caught_in_the_strongest_band(tmp_path):
    parts = split(records(170), {"members": 60, "nonmembers": 110}, seed=0)
    model = overfitted(parts["members"])
    facts = audited(model, TINY, parts["members"], parts["nonmembers"], tmp_path, recipe=OVERFIT)
    assert facts.verdict.band == 4
    assert facts.verdict.sentence.startswith("The promise does not hold: the privacy ledger says that epsilon is at")
    assert facts.verdict.advice == CHECK
    tables, section = blocks(facts, "What epsilon promises")
    assert section.blocks[0].text.startswith("The promise does not hold")
    assert section.blocks[1].text.startswith("If it held: ")
    side = tables["Epsilon, promised and measured"]
    assert epsilons(side, "at most ")["accountant pld"] < 0.1
    assert epsilons(side, "at least ")["bound one-run"] > 1
    assert {row[2] for row in side.rows if row[0].startswith("bound")} == {"at least 0"}, "nothing in the control"


def test_shadow_models_are_trained_under_the_ledgers_noise_or_that_is_told(tmp_path):
    parts = split(records(170), {"members": 60, "nonmembers": 110}, seed=0)
    recipe = Recipe(epochs=2, batch_size=30, optimizer="sgd", lr=0.1, weight_decay=0.0)
    model = MLP((8,)).build((32,), 16, seed=0)
    shared = {"budget": "standard", "recipe": recipe}
    plain = audited(model, TINY, parts["members"], parts["nonmembers"], tmp_path, **shared)
    assert "trained without differential privacy" in " ".join(plain.assumptions)
    facts = audited(model, TINY, parts["members"], parts["nonmembers"], tmp_path, defense="dp-sgd", **shared)
    assert "trained without differential privacy" not in " ".join(facts.assumptions)
    assert "noise_multiplier=50.0" in facts.settings["defense known to the adversary"]
    assert facts.cards[0].needed["shadow models"] == "4"


def test_without_a_ledger_nothing_is_promised(digits, private, tmp_path):
    facts = audited(private[0], None, *digits, tmp_path)
    assert facts.promise == ""
    assert "What epsilon promises" not in [section.title for section in facts.sections]
    assert '"bound"' not in facts.to_json()
    assert "privacy ledger" not in facts.settings


@pytest.mark.parametrize(
    ("change", "advice", "said"),
    [
        ({"fixed_noise_seed": True}, SECRET, "protects nobody"),
        ({"phases": (Phase(0.1, 20.0, 40, "shuffled"),)}, "", "Batches were shuffled"),
        ({"dropped": 3}, "", "3 per-example gradients were not finite"),
    ],
)
def test_caveats_of_the_ledger_are_told(change, advice, said):
    promise = promised(replace(Ledger(500, (Phase(0.1, 5.0, 40),)), **change), delta=1e-5, members=100)
    text = words(promise, nothing(promise))
    assert said in text.line
    assert text.advice == advice
    assert "500 records, of which 100" in " ".join(text.assumptions)


TRUTH = np.arange(600) < 300


def nothing(promise, seed=0, **more):
    """What scores without any signal show."""
    rng = np.random.default_rng(seed)
    given = {"alike": True, "attacks": 1, "seed": seed} | more
    return shown(promise, "loss", rng.normal(size=600), rng.normal(size=600), TRUTH, **given)


def words(promise, found):
    return told(promise, found, roc=_curve("loss", TRUTH * 1.0, TRUTH, role="main"), caught=[None] * 3)


def test_no_signal_breaks_no_promise():
    promise = promised(TINY, delta=1e-5, members=60)
    found = [nothing(promise, seed) for seed in range(20)]
    assert not any(one.breaks(promise) for one in found), "the level of each bound is tested where it is made"


@pytest.mark.parametrize("sigma", [2.0, 5.0])
def test_scores_of_the_promised_mechanism_stay_within_it_and_those_of_less_noise_do_not(sigma):
    """One noisy sum over independent records: each score is the record's presence plus the noise."""
    promise = promised(Ledger(300, (Phase(1.0, sigma, 1),)), delta=1e-5, members=300)
    rng = np.random.default_rng(1)
    noise = rng.normal(size=600)
    honest, broken = (
        shown(promise, "loss", TRUTH + size * noise, None, TRUTH, alike=True, attacks=5, seed=0)
        for size in (sigma, sigma / 8)
    )
    assert not honest.breaks(promise)
    assert broken.breaks(promise)
    assert "does not hold" in words(promise, broken).alarm


@pytest.mark.parametrize("how", [{"alike": False}, {"null": TRUTH * 1.0}])
def test_members_of_another_kind_prove_nothing_against_the_ledger(how):
    promise = promised(TINY, delta=1e-5, members=60)
    given = {"null": np.random.default_rng(0).random(600), "alike": True} | how
    found = shown(promise, "loss", TRUTH * 1.0, given["null"], TRUTH, alike=given["alike"], attacks=1, seed=0)
    assert found.strongest.epsilon > promise.spent.epsilon
    assert not found.breaks(promise)
    text = words(promise, found)
    assert text.alarm == ""
    assert "No lower bound can be measured" in text.line
    assert {row[4] for row in text.section.blocks[2].rows if row[0].startswith("bound")} == {"no"}


def test_the_larger_side_is_thinned_to_what_fair_coins_give():
    promise = promised(TINY, delta=1e-5, members=60)
    truth = np.arange(600) < 60
    found = shown(promise, "loss", truth * 1.0, None, truth, alike=True, attacks=1, seed=0)
    assert {bound.canaries for bound in found.bounds.values()} == {120}
    assert found.breaks(promise)


def test_a_ledger_for_exchanged_records_has_no_renyi_check_and_says_so():
    promise = promised(replace(TINY, adjacency="replace-one"), delta=1e-5, members=60)
    assert promise.check is None
    assert "epsilon cross-checked" not in promise.settings()
    assert "exchanged for another" in " ".join(words(promise, nothing(promise)).assumptions)


def test_a_ledger_without_steps_promises_everything():
    promise = promised(Ledger(100), delta=1e-5, members=100)
    assert promise.spent.epsilon == 0
    assert not nothing(promise).breaks(promise)
    assert words(promise, nothing(promise)).line.startswith("Epsilon is at most 0 ")


@pytest.mark.parametrize(("level", "said"), [(0, "Its guarantee is the ledger's epsilon"), (2, "a smaller epsilon")])
@pytest.mark.parametrize("gap", [0.0, 0.3])
def test_nobody_is_told_to_train_privately_who_did(level, said, gap):
    given = {"gap": gap, "shadows": 16, "trainable": True, "budget": "thorough", "alike": True}
    assert said in advice(level, "", private=True, **given)
    assert "with differential privacy" in advice(level, "", **given)


@pytest.mark.parametrize(
    ("defense", "ledger", "expected"),
    [
        (None, TINY, None),
        (DpSgd(), None, DpSgd()),
        (DpSgd(), TINY, DpSgd(epsilon=None, noise_multiplier=50.0)),
        (DpSgd(epsilon=2.0), TINY, DpSgd(epsilon=2.0)),
        (DpSgd(), TINY.after(Phase(0.1, 2.0, 5)), DpSgd()),
        (Defense(), TINY, Defense()),
    ],
)
def test_plain_dp_sgd_takes_its_noise_from_a_ledger_of_one_setting(defense, ledger, expected):
    assert as_in_ledger(defense, ledger) == expected


@pytest.mark.parametrize(
    ("ledger", "delta", "message"),
    [
        (replace(TINY, records=59), 1e-5, "on all 60 members or more, got one on 59 records"),
        (TINY, 0.02, "expected less than 1/60"),
        (TINY, 0.0, "above 0 and below 1"),
        ("missing.json", 1e-5, "missing.json: expected a privacy ledger"),
    ],
)
def test_ledgers_that_cannot_be_the_models_are_refused_before_anything_runs(ledger, delta, message, tmp_path):
    inside = torch.rand(60, 4), torch.arange(60) % 2
    outside = torch.rand(60, 4), torch.arange(60) % 2
    with pytest.raises(BadInputError, match=message):
        divulge.audit(
            torch.nn.Linear(4, 2),
            members=inside,
            nonmembers=outside,
            ledger=ledger,
            delta=delta,
            logits=True,
            run_dir=tmp_path,
        )
    assert not list(tmp_path.rglob("step.json"))


def test_rounding_down_stays_below():
    assert [down(value) for value in (0.0, 0.123456, 12.399, 999.6, 1234.5)] == [0.0, 0.123, 12.3, 999, 1230]
