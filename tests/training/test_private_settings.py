"""Private training refuses what promises nothing, and calibrates its noise to the budget."""

from dataclasses import replace

import pytest

from divulge.errors import BadInputError
from divulge.privacy import accounting
from divulge.privacy.ledger import Ledger, Phase
from divulge.training import Privacy, Recipe

RECIPE = Recipe(epochs=10, batch_size=100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": 8.0, "noise_multiplier": 1.0}, "either epsilon or noise_multiplier, got 8.0 and 1.0"),
        ({"epsilon": 0.0}, "finite epsilon above 0, got 0.0"),
        ({"epsilon": float("inf")}, "finite epsilon above 0, got inf"),
        ({"epsilon": None, "noise_multiplier": 0.0}, "Without noise there is no differential privacy"),
        ({"epsilon": None, "noise_multiplier": -1.0}, "finite noise_multiplier above 0, got -1.0"),
        ({"epsilon": None, "noise_multiplier": float("nan")}, "finite noise_multiplier above 0, got nan"),
        ({"delta": 0.0}, "0 < delta < 1"),
        ({"delta": 1.0}, "0 < delta < 1"),
        ({"clip": 0.0}, "finite clip above 0"),
        ({"clip": float("inf")}, "finite clip above 0"),
        ({"steps": 0}, "steps >= 1"),
        ({"multiplicity": 0}, "multiplicity >= 1"),
        ({"microbatch": 0}, "microbatch >= 1"),
        ({"noise_seed": -1}, "noise_seed >= 0"),
        ({"averaging": 1.0}, "0 < averaging < 1 or none, got 1.0"),
        ({"clipping": "per-layer"}, "one of flat, automatic, adaptive, got 'per-layer'"),
        ({"schedule": "step"}, "one of constant, linear, cosine, got 'step'"),
        ({"sampling": "fixed"}, "one of poisson, shuffled, got 'fixed'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(BadInputError, match=message):
        Privacy(**settings)


@pytest.mark.parametrize(
    ("settings", "recipe", "records", "message"),
    [
        ({}, {}, 1, "at least 2 records, got 1"),
        ({"delta": 1e-3}, {}, 1000, "delta below 1/1000.*got 0.001"),
        ({}, {}, 99, "expected batch of 100 of 99 records.*at most 99; that many is full-batch"),
        ({"steps": 9}, {}, 1000, "at least one step an epoch, got 9 steps for 10 epochs"),
        ({}, {"patience": 3}, 1000, "early stopping looks at records without noise"),
        ({"multiplicity": 4}, {}, 1000, "copies that are all the same"),
        ({"epsilon": 1e9}, {}, 1000, "even a noise multiplier of 0.001 spends less than 1e"),
    ],
)
def test_a_run_that_makes_no_sense_is_refused(settings, recipe, records, message):
    with pytest.raises(BadInputError, match=message):
        Privacy(**settings).plan(records, replace(RECIPE, **recipe))


def test_the_budget_is_8_unless_something_is_given():
    assert Privacy().epsilon == 8.0
    assert Privacy(noise_multiplier=1.0).epsilon is None


@pytest.mark.parametrize("how", [{}, {"steps": 35}, {"sampling": "shuffled"}])
@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_the_budget_is_spent_by_the_last_step_and_never_exceeded(epsilon, how):
    plan = Privacy(epsilon=epsilon, **how).plan(1000, RECIPE)
    spent = accounting.epsilon(Ledger(1000).after(plan), delta=1e-5).epsilon
    assert 0.99 * epsilon < spent <= epsilon


def test_shuffled_batches_earn_no_amplification():
    poisson, shuffled = (Privacy(epsilon=4.0, sampling=kind).plan(1000, RECIPE) for kind in ("poisson", "shuffled"))
    assert poisson.sampling_rate == shuffled.sampling_rate == 0.1
    assert shuffled.noise_multiplier > 2 * poisson.noise_multiplier
    alone = accounting.epsilon([Phase(1.0, shuffled.noise_multiplier, 10)], delta=1e-5).epsilon
    assert alone == pytest.approx(4.0, rel=0.01)


@pytest.mark.parametrize(
    ("recipe", "how", "steps"),
    [
        ({}, {}, 105),
        ({}, {"sampling": "shuffled"}, 110),
        ({}, {"steps": 12}, 12),
        ({"batch_size": 1050}, {}, 10),
    ],
)
def test_how_many_steps_there_are(recipe, how, steps):
    privacy = Privacy(noise_multiplier=2.0, delta=1e-4, **how)
    assert privacy.plan(1050, replace(RECIPE, **recipe)).steps == steps


@pytest.mark.parametrize(
    ("schedule", "paces"), [("constant", (1, 1, 1)), ("linear", (1, 0.5, 0)), ("cosine", (1, 0.5, 0))]
)
def test_the_learning_rate_falls_as_its_schedule_says(schedule, paces):
    privacy = Privacy(schedule=schedule)
    assert tuple(privacy.pace(done) for done in (0.0, 0.5, 1.0)) == pytest.approx(paces)
