"""White-box canaries in the real private training: gradients, scores, tightness, calibration."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from divulge.auditing.canaries import CANARIES
from divulge.auditing.canaries.audit import audit_training, judged
from divulge.auditing.canaries.inputs import Mislabelled
from divulge.auditing.canaries.mechanism import LedgerGuesses, LedgerRates
from divulge.auditing.canaries.one_hot import OneHot, likelihood_ratio
from divulge.data import Dataset
from divulge.defenses.dp_sgd import DpSgd
from divulge.defenses.dropout import Dropout
from divulge.errors import BadInputError
from divulge.models.cnn import CNN
from divulge.models.mlp import MLP
from divulge.privacy.ledger import Ledger, Phase
from divulge.privacy.loss import privacy_loss
from divulge.training import Recipe
from divulge.training.private import Privacy, fit_private

FULL = {"rate": 1.0, "noise": 4.0, "steps": 16}
SAMPLED = {"rate": 0.1, "noise": 1.0, "steps": 50}


def records(n=100, shape=(6,), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Dataset(torch.rand(n, *shape, generator=generator), torch.randint(3, (n,), generator=generator))


def private(*, noise, steps, seed=0, **more):
    return Privacy(noise_multiplier=noise, steps=steps, noise_seed=seed, **more)


def audited(*, rate, noise, steps, canaries=600, seed=0, train=None, recipe=(), **more):
    data = records()
    values = {"epochs": 1, "batch_size": round(rate * len(data)), "optimizer": "sgd", "lr": 0.1, "momentum": 0.0}
    recipe = Recipe(**{**values, **dict(recipe)})
    train = train or private(noise=noise, steps=steps, seed=seed, **more)
    return audit_training(train, data, MLP((8,)), recipe, canaries=canaries, seed=seed)


@pytest.mark.parametrize("shape", [(5,), (3, 8, 8)])
def test_a_canary_has_the_gradient_that_no_other_record_has(shape):
    data = records(4, shape)
    architecture = MLP((4,)) if len(shape) == 1 else CNN((4,), hidden=8)
    plain = DpSgd().architecture(architecture.build(shape, 3, seed=0))
    planted = OneHot(layers=3).plant(plain, data, 7, seed=0)
    values = {name: p.detach() for name, p in planted.model.named_parameters()}

    def loss(values, record, target):
        return functional.cross_entropy(functional_call(planted.model, values, (record[None],)), target[None])

    def gradients(data):
        return vmap(grad(loss), in_dims=(None, 0, 0))(values, data.inputs, data.targets)

    own, others = gradients(planted.canaries), gradients(planted.records)
    for name, gradient in own.items():
        if name.startswith("places"):
            expected = -torch.eye(7) * OneHot().reach * 2 / 3  # of three equally likely classes, the label's logit
            torch.testing.assert_close(gradient[:, 0], expected)
            assert not others[name].any()
        else:
            assert not gradient.any()
    with torch.no_grad():
        torch.testing.assert_close(planted.model(planted.records.inputs), plain(data.inputs))


def test_likelihood_ratio_is_that_of_the_sampled_gaussian():
    rng = np.random.default_rng(0)
    rate, noise = np.array([[0.2], [1.0], [0.01]]), np.array([[0.7], [3.0], [1.5]])
    added = rng.normal(size=(3, 50))
    added *= np.sqrt((noise**2 + rate / 2) / (added**2).mean(axis=1, keepdims=True))
    within, without = stats.norm.pdf(added, 1, noise), stats.norm.pdf(added, 0, noise)
    expected = np.log((1 - rate) * without + rate * within) - np.log(without)
    scale = np.array([[1e-3], [7.0], [0.2]])  # learning rate, batch size and clipping norm of each step
    np.testing.assert_allclose(likelihood_ratio(scale * added, rate, noise), expected.sum(axis=0), rtol=1e-9)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("setting", [FULL, SAMPLED], ids=["full", "sampled"])
def test_bounds_are_close_below_the_accountant(setting, optimizer):
    # the best score of an ideal observer, drawn straight from the mechanism, with as many canaries
    rng = np.random.default_rng(0)
    rate, noise, steps = setting["rate"], setting["noise"], setting["steps"]
    inside = np.arange(20_000) < 10_000
    drawn = noise * rng.normal(size=(steps, 20_000)) + inside * (rng.random((steps, 20_000)) < rate)
    ideal = likelihood_ratio(drawn, np.full((steps, 1), rate), np.full((steps, 1), noise))

    distances = []
    for seed in range(2):
        audit = audited(**setting, seed=seed, recipe={"optimizer": optimizer})
        assert not audit.caught
        assert 0 < audit.strongest.epsilon <= audit.epsilon
        distances.append(distance(audit.scores, audit.members))
    spread = 2 / np.sqrt(2 * 600)
    assert np.mean(distances) == pytest.approx(distance(ideal, inside), abs=3 * spread)


def distance(scores, members):
    """Between the means of both sides, in their standard deviation."""
    inside, outside = scores[members], scores[~members]
    return (inside.mean() - outside.mean()) / np.sqrt((inside.var() + outside.var()) / 2)


VARIANTS = [
    {"momentum": 0.9},
    {"momentum": 0.5, "schedule": "cosine", "weight_decay": 0.1, "lr": 1.0},
    {"clipping": "automatic"},
    {"schedule": "cosine"},
    {"averaging": 0.9},
    {"microbatch": 17},
    {"clip": 0.01},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_scores_undo_the_optimizer(variant):
    recipe = {name: variant[name] for name in variant if name in ("lr", "momentum", "weight_decay")}
    settings = {name: variant[name] for name in variant if name not in recipe}
    plain = audited(**FULL, canaries=60)
    audit = audited(**FULL, canaries=60, recipe=recipe, **settings)
    np.testing.assert_allclose(audit.scores, plain.scores, rtol=2e-3, atol=1e-3)


def test_adaptive_clipping_and_shuffled_batches():
    adaptive = audited(rate=1.0, noise=4.0, steps=16, clipping="adaptive", canaries=400)
    shuffled = audited(rate=0.25, noise=2.0, steps=16, sampling="shuffled", canaries=400)
    assert not adaptive.caught
    assert not shuffled.caught
    assert adaptive.strongest.epsilon > 0.2 * adaptive.epsilon
    # four turns in sixteen steps of noise 2 stand half a standard deviation apart, too little for a bound every time
    assert distance(shuffled.scores, shuffled.members) > 0.2


def test_bounds_by_the_ledger_are_those_of_the_gaussian_where_every_record_is_in_every_step():
    rng = np.random.default_rng(0)
    ledger, members = Ledger(1000, (Phase(1.0, 4.0, 16),)), rng.random(2000) < 0.5
    scores = rng.normal(size=2000) + members
    audit = judged(OneHot(), ledger, scores, members, delta=1e-5, confidence=0.95, seed=0)
    pairs = {"ledger-rates": "gaussian-clopper-pearson", "ledger-guesses": "one-run-f-dp"}
    for own, gaussian in pairs.items():
        assert audit.bounds[own].epsilon == pytest.approx(audit.bounds[gaussian].epsilon, rel=0.05)
        assert audit.bounds[own].ceiling > audit.bounds[own].epsilon
    assert set(audit.proofs) == {"clopper-pearson", "one-run", *pairs}
    black_box = judged(Mislabelled(), ledger, scores, members, delta=1e-5, confidence=0.95, seed=0)
    assert set(black_box.proofs) == {"one-run", "ledger-guesses"}


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0])
def test_bounds_by_the_ledger_find_the_noise_that_was_there(noise):
    rng = np.random.default_rng(0)
    members = rng.random(4000) < 0.5
    drawn = noise * rng.normal(size=(40, 4000)) + members * (rng.random((40, 4000)) < 0.2)
    scores = likelihood_ratio(drawn, np.full((40, 1), 0.2), np.full((40, 1), noise))
    says = Ledger(1000, (Phase(0.2, 1.0, 40),))
    truth = privacy_loss([Phase(0.2, noise, 40)]).epsilon(1e-5)
    rates, guesses = (
        bound.run(scores[members], scores[~members], delta=1e-5, confidence=0.99).epsilon
        for bound in (LedgerRates(says), LedgerGuesses(says))
    )
    assert 0.6 * truth < rates <= truth
    assert 0.15 * truth < guesses < rates


def test_bounds_are_zero_where_training_never_saw_a_canary():
    def without(model, data, recipe, watch):
        kept = data[data.inputs[:, -1] == 0]
        recipe = replace(recipe, batch_size=len(kept))
        return fit_private(model, kept, recipe, private(noise=1.0, steps=20), seed=0, step_watch=watch).ledger

    audit = audited(rate=1.0, noise=1.0, steps=20, train=without, canaries=300)
    shown = 0
    for seed in range(40):
        members = np.random.default_rng(seed).random(300) < 0.5
        one = judged(audit.kind, audit.ledger, audit.scores, members, delta=1e-5, confidence=0.95, seed=seed)
        shown += any(bound.epsilon > 0 for bound in one.bounds.values())
    assert shown <= 6  # 2 expected at most; more than 6 has a chance below 1 %


def test_defense_training_and_recipe_are_as_given():
    data, recipe = records(60, (1, 8, 8)), Recipe(epochs=2, batch_size=15, optimizer="sgd", lr=0.05)
    defense = DpSgd(noise_multiplier=2.0, noise_seed=0)
    state = torch.get_rng_state()
    audit = audit_training(defense, data, CNN((4,), hidden=8), recipe, canaries=40)
    assert torch.equal(torch.get_rng_state(), state)
    [phase] = audit.ledger.phases
    assert phase.noise_multiplier == 2.0
    assert phase.sampling_rate == pytest.approx(0.25, abs=0.01)
    assert audit.ledger.records == 60 + audit.members.sum()
    assert not audit.caught
    again = audit_training(defense, data, CNN((4,), hidden=8), recipe, canaries=40)
    np.testing.assert_array_equal(audit.scores, again.scores)


def test_says_in_words_what_was_promised_and_shown():
    audit = audited(**FULL)
    assert "The ledger says that epsilon is at most 4.38 (delta 1e-05)." in str(audit)
    assert f"600 one-hot canaries show that it is at least {audit.strongest.epsilon:.3g}" in str(audit)
    assert "nothing was caught is no proof" in str(audit)


def silent(model, data, recipe, watch):
    return fit_private(model, data, recipe, private(noise=1.0, steps=3), seed=0).ledger


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": Dropout()}, "'dropout' promises no epsilon"),
        ({"kind": "one-hott"}, "the nearest is 'one-hot'"),
        ({"canaries": 1}, "expected two inside and two outside or more, got"),
        ({"train": silent}, "after each of the ledger's 3 steps, got 0 calls"),
        ({"data": Dataset(torch.rand(9, 2), torch.zeros(9, dtype=torch.int64))}, "expected two classes or more"),
        ({"kind": "mislabelled", "canaries": 100}, "expected fewer than the 100 records"),
        ({"kind": "clipbkd", "canaries": 7}, "expected at most 6"),
    ],
)
def test_bad_input(settings, message):
    call = {"train": private(noise=1.0, steps=3), "data": records(), "canaries": 50, **settings}
    with pytest.raises(BadInputError, match=message):
        audit_training(architecture=MLP(()), recipe=Recipe(epochs=1, batch_size=4), **call)


@pytest.mark.parametrize("name", CANARIES.classes)
def test_every_kind_says_what_it_is(name):
    assert CANARIES.make(name).source
    assert CANARIES.summaries()[name].endswith(".")
