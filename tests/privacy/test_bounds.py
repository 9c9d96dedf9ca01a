"""Every registered lower bound: it is a bound, it finds a planted leak, and it refuses what it cannot judge."""

import dataclasses
import math
import typing

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binom

from divulge.errors import BadInputError
from divulge.privacy.bounds import BOUNDS
from divulge.privacy.bounds.base import GAUSSIAN_MECHANISM
from divulge.privacy.gaussian import epsilon_of

DELTA, ALPHA = 1e-5, 0.05
TRIALS = 400
LAWS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "heavy-tailed": lambda rng, n: rng.standard_cauchy(n),
    "skewed": lambda rng, n: np.exp(2 * rng.normal(size=n)),
    "tied": lambda rng, n: rng.integers(4, size=n).astype(float),
}
NOISE = np.random.default_rng(0).normal(size=120)


def instances():
    for cls in BOUNDS.classes.values():
        yield cls()
        for field in dataclasses.fields(cls):
            yield from (cls(**{field.name: value}) for value in typing.get_args(field.type) if value != field.default)


def label(bound):
    return "-".join([bound.name, *(str(value) for value in dataclasses.asdict(bound).values())])


EVERY = pytest.mark.parametrize("bound", list(instances()), ids=label)
DEFAULT = pytest.mark.parametrize("bound", [cls() for cls in BOUNDS.classes.values()], ids=label)


def distance(epsilon, delta=DELTA):
    return brentq(lambda mu: epsilon_of(mu, delta) - epsilon, 1e-3, 20)


def coins(rng, canaries):
    inside = rng.binomial(canaries, 0.5)
    return inside, canaries - inside


def holds(exceeded, record_property):
    """At most 5 % are wrong, as far as 400 trials can tell: no more than the 99.9 % quantile of their count, 35."""
    record_property("share", float(exceeded) / TRIALS)
    assert exceeded <= binom.ppf(0.999, TRIALS, ALPHA), f"wrong in {exceeded} of {TRIALS} trials, at a level of {ALPHA}"


@EVERY
@pytest.mark.parametrize("law", ["normal", "heavy-tailed", "tied"])
def test_nothing_is_shown_where_there_is_nothing(bound, law, record_property):
    rng = np.random.default_rng(11)
    shown = 0
    for seed in range(TRIALS):
        inside, outside = (LAWS[law](rng, n) for n in coins(rng, 200))
        shown += bound.lower(inside, outside, delta=DELTA, alpha=ALPHA, seed=seed) > 0
    holds(shown, record_property)


@DEFAULT
@pytest.mark.parametrize("law", ["normal", "tied"])
@pytest.mark.parametrize("each", [100, 500])
@pytest.mark.parametrize("delta", [0.0, 1e-3])
def test_nothing_is_shown_by_exact_halves(bound, law, each, delta, record_property):
    rng = np.random.default_rng(12)
    draws = ((LAWS[law](rng, each), LAWS[law](rng, each)) for _ in range(TRIALS))
    shown = sum(bound.lower(*sides, delta=delta, alpha=ALPHA, seed=seed) > 0 for seed, sides in enumerate(draws))
    holds(shown, record_property)


@DEFAULT
def test_a_gaussian_mechanism_is_not_said_to_leak_more(bound, record_property):
    rng, exceeded = np.random.default_rng(13), 0
    for epsilon in (1.0, 2.0, 4.0, 8.0):
        mu = distance(epsilon)
        for seed in range(TRIALS // 4):
            inside, outside = coins(rng, 200)
            scores = mu + rng.normal(size=inside), rng.normal(size=outside)
            exceeded += bound.lower(*scores, delta=DELTA, alpha=ALPHA, seed=seed) > epsilon
    holds(exceeded, record_property)


FREE = [bound for bound in instances() if GAUSSIAN_MECHANISM not in bound.assumptions(NOISE, NOISE)]


@pytest.mark.parametrize("bound", FREE, ids=label)
def test_randomized_response_is_not_said_to_leak_more(bound, record_property):
    """Answers are right with the largest chance that epsilon allows, and betrayed with probability delta."""
    rng, exceeded = np.random.default_rng(14), 0
    for epsilon, delta in [(0.5, 0.0), (1.0, 0.0), (3.0, 0.0), (1.0, 0.02)]:
        right = delta + (1 - delta) / (1 + math.exp(-epsilon))
        for seed in range(TRIALS // 4):
            inside, outside = coins(rng, 200)
            scores = rng.binomial(1, right, size=inside), 1 - rng.binomial(1, right, size=outside)
            exceeded += bound.lower(*map(np.float64, scores), delta=delta, alpha=ALPHA, seed=seed) > epsilon
    holds(exceeded, record_property)


@EVERY
def test_a_planted_leak_is_found(bound):
    rng = np.random.default_rng(15)
    found = bound.run(rng.normal(3, 1, size=300), rng.normal(size=290), delta=DELTA)
    assert found.epsilon > 1.5
    assert found.epsilon <= found.ceiling
    assert (found.name, found.delta, found.confidence, found.canaries) == (bound.name, DELTA, 0.95, 590)
    assert bound.source
    assert found.assumptions


@EVERY
@pytest.mark.parametrize("each", [2, 3, 10, 101])
def test_every_guess_right_gives_the_ceiling(bound, each):
    inside, outside = np.linspace(5, 6, each), np.linspace(-6, -5, each)
    found = bound.run(inside, outside, delta=DELTA)
    assert found.epsilon <= found.ceiling
    if found.ceiling < math.inf and "split" not in label(bound):  # a split's threshold may miss the gap
        assert found.epsilon == pytest.approx(found.ceiling)
    more = bound.run(np.ones(2 * each), np.zeros(2 * each), delta=DELTA)
    assert more.epsilon == more.ceiling >= found.ceiling


@EVERY
@pytest.mark.parametrize("n", [2, 5, 120])
def test_equal_scores_show_nothing(bound, n):
    for seed in range(5):
        assert bound.run(np.full(n, 0.1), np.full(n + 1, 0.1), delta=DELTA, seed=seed).epsilon == 0


@EVERY
def test_lower_scores_inside_show_nothing(bound):
    assert bound.run(NOISE - 3, NOISE[:100], delta=DELTA).epsilon == 0


@DEFAULT
def test_more_leak_less_delta_and_less_confidence_show_more(bound):
    rng = np.random.default_rng(16)
    inside, outside = rng.normal(size=(2, 300))
    shown = [bound.run(inside + shift, outside, delta=DELTA).epsilon for shift in (0.5, 1, 2, 4, 8)]
    assert shown == sorted(shown)
    by_delta = [bound.run(inside + 2, outside, delta=delta).epsilon for delta in (0.5, 0.1, 1e-2, 1e-4, 1e-8, 0)]
    assert by_delta == sorted(by_delta)
    assert by_delta[0] < by_delta[-1]
    by_level = [bound.run(inside + 2, outside, delta=DELTA, confidence=c).epsilon for c in (0.999, 0.95, 0.8)]
    assert by_level == sorted(set(by_level))


@EVERY
def test_units_of_the_scores_do_not_matter(bound):
    rng = np.random.default_rng(17)
    inside, outside = rng.normal(2, 1, size=150), rng.normal(size=150)
    plain = bound.run(inside, outside, delta=DELTA)
    scaled = bound.run(1e3 * inside - 7, 1e3 * outside - 7, delta=DELTA)
    assert scaled.epsilon == pytest.approx(plain.epsilon, rel=1e-6)


@EVERY
def test_deterministic_and_nothing_touched(bound):
    rng = np.random.default_rng(18)
    inside, outside = rng.integers(3, size=90) + 1.0, rng.integers(3, size=90).astype(float)
    copies = inside.copy(), outside.copy()
    inside.flags.writeable = outside.flags.writeable = False
    state = np.random.get_state()[1].copy()
    assert bound.run(inside, outside, delta=DELTA, seed=4) == bound.run(inside, outside, delta=DELTA, seed=4)
    np.testing.assert_array_equal([inside, outside], copies)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@EVERY
@pytest.mark.parametrize(
    ("inside", "outside", "extra", "message"),
    [
        ([], NOISE, {}, r"inside: expected a vector of at least 2 scores, got shape \(0,\)"),
        (NOISE, [1.0], {}, r"outside: expected a vector of at least 2 scores, got shape \(1,\)"),
        (np.ones((3, 2)), NOISE, {}, r"got shape \(3, 2\)"),
        ([0.0, math.nan, 1.0], NOISE, {}, "inside: 1 of 3 scores are NaN"),
        (NOISE, NOISE, {"delta": -1e-5}, "delta: expected"),
        (NOISE, NOISE, {"delta": 1.0}, "delta: expected"),
        (NOISE, NOISE, {"delta": math.nan}, "delta: expected"),
        (NOISE, NOISE, {"confidence": 95}, "confidence: expected"),
        (NOISE, NOISE, {"confidence": 0.05}, "confidence: expected"),
    ],
)
def test_bad_input(bound, inside, outside, extra, message):
    with pytest.raises(BadInputError, match=message):
        bound.run(inside, outside, **{"delta": DELTA, **extra})


@pytest.mark.parametrize("name", ["one-run", "one-run-f-dp"])
def test_one_run_refuses_memberships_that_were_no_fair_coins(name):
    with pytest.raises(BadInputError, match="400 inside and 100 outside"):
        BOUNDS.make(name).run(np.ones(400), np.zeros(100), delta=DELTA)


def test_infinite_scores_rank_but_have_no_mean():
    inside, outside = np.append(NOISE, math.inf), np.append(NOISE, -math.inf)
    assert BOUNDS.make("clopper-pearson").run(inside, outside, delta=DELTA).epsilon == 0
    with pytest.raises(BadInputError, match="finite"):
        BOUNDS.make("gaussian-means").run(inside, outside, delta=DELTA)


@pytest.mark.parametrize("law", ["heavy-tailed", "skewed", "tied"])
def test_gaussian_means_says_when_scores_are_not_gaussian(law):
    bound, rng = BOUNDS.make("gaussian-means"), np.random.default_rng(19)
    odd = [LAWS[law](rng, 200) for _ in range(2)]
    assert any("do not look Gaussian" in words for words in bound.assumptions(*odd))
    even = [LAWS["normal"](rng, 200) for _ in range(2)]
    assert not any("do not look Gaussian" in words for words in bound.assumptions(*even))
