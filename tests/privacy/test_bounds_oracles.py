"""Lower bounds against closed forms, exact laws, and the worst mechanism found by linear programming."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import linprog
from scipy.special import comb
from scipy.stats import binom, nct, nhypergeom, norm

from divulge.metrics import clopper_pearson
from divulge.privacy.bounds.clopper_pearson import epsilon_of_rates
from divulge.privacy.bounds.clopper_pearson import least_false_negatives as private_curve
from divulge.privacy.bounds.gaussian_clopper_pearson import distance_of_rates
from divulge.privacy.bounds.gaussian_clopper_pearson import least_false_negatives as gaussian_curve
from divulge.privacy.bounds.gaussian_means import least_distance
from divulge.privacy.bounds.joint import misses, ruled_out_by_misses
from divulge.privacy.bounds.one_run import epsilon_of_guesses, p_value
from divulge.privacy.bounds.one_run_f_dp import distance_of_guesses, impossible
from divulge.privacy.bounds.thresholds import over_splits, strongest
from divulge.privacy.gaussian import epsilon_of, log_delta


def worst_mechanism(guesses, right, deltas):
    """Largest chance of at least `right` right guesses under any training with these (epsilon, delta) guarantees.

    Averaged over all ways to flip coins and to order canaries, a mechanism is a law of the number of right guesses; to
    flip one canary's coin turns a right guess into a wrong one. Linear in the law of a pattern with `j` right guesses.
    """
    n, numbers = guesses, np.arange(guesses + 1)
    patterns = comb(n, numbers)
    pairs = [(j, j - 1, comb(n - 1, j - 1)) for j in range(1, n + 1)] + [(j, j + 1, comb(n - 1, j)) for j in range(n)]
    slacks = len(pairs)
    rows, limits = [], []
    for k, (epsilon, delta) in enumerate(deltas):
        for s, (j, flipped, _) in enumerate(pairs):
            row = np.zeros(n + 1 + slacks * len(deltas))
            row[j], row[flipped], row[n + 1 + k * slacks + s] = 1, -math.exp(epsilon), -1
            rows.append(row)
            limits.append(0)
        row = np.zeros(n + 1 + slacks * len(deltas))
        row[n + 1 + k * slacks : n + 1 + (k + 1) * slacks] = [ways for _, _, ways in pairs]
        rows.append(row)
        limits.append(delta)
    none = np.zeros(slacks * len(deltas))
    goal, total = np.append(patterns * (numbers >= right), none), np.append(patterns, none)
    found = linprog(-goal, A_ub=np.array(rows), b_ub=limits, A_eq=total[None], b_eq=[1])
    assert found.success, found.message
    return -found.fun


@pytest.mark.parametrize("epsilon", [0.0, 0.7, 2.0])
@pytest.mark.parametrize(("guesses", "right"), [(1, 1), (4, 3), (6, 5), (8, 8), (12, 11)])
def test_one_run_is_the_worst_case_and_exact_without_delta(guesses, right, epsilon):
    exact = p_value(epsilon, right=right, guesses=guesses, canaries=guesses, delta=0.0)
    assert exact == pytest.approx(binom.sf(right - 1, guesses, 1 / (1 + math.exp(-epsilon))))
    assert exact == pytest.approx(worst_mechanism(guesses, right, [(epsilon, 0.0)]), rel=1e-6)
    for delta in (1e-4, 1e-2, 0.1):
        bounded = p_value(epsilon, right=right, guesses=guesses, canaries=guesses, delta=delta)
        worst = worst_mechanism(guesses, right, [(epsilon, delta)])
        assert exact < worst <= bounded * (1 + 1e-7)


def test_the_published_delta_term_is_too_small_where_most_guesses_are_right_anyway():
    """Why no decision may rest on a large p-value: a mechanism that never has fewer than 4 right guesses of 9."""
    bounded = p_value(0.7, right=4, guesses=9, canaries=9, delta=0.01)
    assert 0.96 < bounded < worst_mechanism(9, 4, [(0.7, 0.01)])


@pytest.mark.parametrize("mu", [0.3, 1.0, 2.0])
@pytest.mark.parametrize(("guesses", "right"), [(1, 1), (4, 3), (6, 5), (8, 8), (9, 7)])
def test_one_run_f_dp_is_above_the_worst_case(guesses, right, mu):
    def conceivable(alpha):
        return not impossible(mu, right=right, guesses=guesses, canaries=guesses, alpha=alpha)

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if conceivable(middle) else (low, middle)
    deltas = [(epsilon, math.exp(log_delta(epsilon, mu))) for epsilon in np.linspace(0, 3 * mu * mu + 3, 60)]
    worst = worst_mechanism(guesses, right, deltas)
    independent = binom.sf(right - 1, guesses, norm.cdf(mu / 2))
    assert independent * (1 - 1e-6) <= worst <= low * 1.002  # 60 points of the curve are a little less than all of it
    assert low <= min(1, 2 * worst)


def test_one_run_of_a_single_guess_by_hand():
    alpha, mu = 0.95, distance_of_guesses(1, 1, 0.95, canaries=1)
    assert norm.cdf(mu / 2) == pytest.approx(alpha, abs=1e-6)
    assert epsilon_of_guesses(1, 1, alpha, canaries=1, delta=0.0) == pytest.approx(math.log(19), abs=1e-6)


@pytest.mark.parametrize(("epsilon", "delta", "guessed"), [(1.0, 0.0, 40), (1.0, 0.005, 120), (3.0, 0.0, 120)])
def test_one_run_against_simulated_randomized_response(epsilon, delta, guessed):
    """With abstention: the p-value of the truth is below 5 % in at most 5 % of runs, and not far less without delta."""
    rng, canaries, runs = np.random.default_rng(0), 120, 20000
    chance = delta + (1 - delta) / (1 + math.exp(-epsilon))
    right = rng.binomial(guessed, chance, size=runs)
    p = {v: p_value(epsilon, right=v, guesses=guessed, canaries=canaries, delta=delta) for v in np.unique(right)}
    share = np.mean([p[v] <= 0.05 for v in right])
    assert share <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5
    if delta == 0:
        assert share > 0.02


@pytest.mark.parametrize(
    ("canaries", "ceiling"), [(10, 1.05), (30, 2.25), (100, 3.49), (300, 4.59), (1000, 5.78), (5000, 7.28)]
)
def test_one_run_with_every_guess_right(canaries, ceiling):
    reached = epsilon_of_guesses(canaries, canaries, 0.05, canaries=canaries, delta=1e-5)
    assert reached == pytest.approx(ceiling, abs=0.006)
    pure = epsilon_of_guesses(canaries, canaries, 0.05, canaries=canaries, delta=0.0)
    assert pure == pytest.approx(-math.log(0.05 ** (-1 / canaries) - 1), abs=1e-5)
    assert reached < pure


@pytest.mark.parametrize(("guesses", "delta"), [(40, 1e-5), (40, 1e-2), (1000, 1e-5), (5000, 1e-3)])
def test_one_run_p_value_grows_with_epsilon_and_falls_with_right_guesses(guesses, delta):
    right = np.unique(np.linspace(guesses // 2, guesses, 9).astype(int))
    p = np.array(
        [
            [p_value(eps, right=v, guesses=guesses, canaries=guesses, delta=delta) for eps in np.linspace(0, 9, 60)]
            for v in right
        ]
    )
    small = p < 0.2  # where a decision is made
    assert (np.diff(p, axis=1)[small[:, 1:]] >= -1e-12).all()
    assert (np.diff(p, axis=0)[small[:-1]] <= 1e-12).all()
    assert small.any()
    assert not small.all()


@pytest.mark.parametrize(("inside", "outside", "shift"), [(20, 30, 1.0), (200, 100, 0.3)])
def test_misses_without_a_leak_follow_the_negative_hypergeometric_law(inside, outside, shift):
    rng = np.random.default_rng(3)
    scores = rng.normal(shift, 1, size=inside), rng.normal(size=outside)
    seen = misses(*scores)
    descending = -np.sort(-scores[1])
    exact = []
    for rank in np.unique(np.array([0, 1, 2, 4, 8, 16, 32, 48, 56, 60, 62, 63]) * outside // 64):
        found = (scores[0] > descending[rank]).sum()
        exact.append(nhypergeom.sf(found - 1, inside + outside, inside, rank + 1))
    bounded = seen.p_value(lambda fpr: 1 - fpr)
    assert 1 < bounded / (len(exact) * min(exact)) < 1.3


@pytest.mark.parametrize("curve", [lambda fpr: private_curve(1.0, fpr, 0.01), lambda fpr: gaussian_curve(1.0, fpr)])
def test_misses_under_a_curve_follow_the_law_they_are_given(curve):
    """Uniform scores outside; inside, scores whose misses at each threshold are the least that the curve allows."""
    rng, each, runs = np.random.default_rng(4), 60, 2000
    grid = np.linspace(0, 1, 4001)
    least = curve(grid)
    hits = 0
    for _ in range(runs):
        outside = -rng.random(each)  # false-positive rate at threshold t is -t
        inside = -np.interp(-rng.random(each), -least, grid)
        hits += misses(inside, outside).p_value(curve) <= 0.2
    assert 0.05 < hits / runs <= 0.2 + 3 * (0.2 * 0.8 / runs) ** 0.5


def test_curves_are_those_of_the_rates():
    fpr = np.linspace(0.001, 0.9, 50)
    for epsilon, delta in [(0.5, 0.0), (2.0, 0.01)]:
        fnr = private_curve(epsilon, fpr, delta)
        np.testing.assert_allclose(epsilon_of_rates(fpr, fnr, delta)[fnr > 0], epsilon, atol=1e-9)
    np.testing.assert_allclose(distance_of_rates(fpr, gaussian_curve(1.3, fpr)), 1.3)


def test_rates_that_may_be_one_prove_nothing():
    rates = np.array([0.3, 1.0, 1.0, 0.0]), np.array([1.0, 0.3, 0.0, 1.0])
    assert (distance_of_rates(*rates) == -np.inf).all()
    assert epsilon_of_rates(np.array([1.0]), np.array([1.0]), 0.1)[0] == -np.inf


def test_joint_proves_more_than_limits_of_either_rate():
    rng = np.random.default_rng(5)
    inside, outside = rng.normal(1, 1, size=400), rng.normal(size=400)
    joint = ruled_out_by_misses(inside, outside, gaussian_curve, alpha=0.05, seed=0)
    limits = strongest(inside, outside, distance_of_rates, threshold="bonferroni", alpha=0.05, seed=0)
    assert limits < joint < 1.3


def test_scores_of_two_values_prove_as_much_as_their_rates():
    """Randomized response at epsilon 2: thresholds fall between equal scores, which costs next to nothing."""
    rng, right, differences = np.random.default_rng(9), 1 / (1 + math.exp(-2)), []
    for seed in range(20):
        inside, outside = rng.binomial(1, right, size=2000), rng.binomial(1, 1 - right, size=2000)
        limits = (clopper_pearson(errors.sum(), 2000)[1] for errors in (outside, 1 - inside))
        shown = ruled_out_by_misses(inside, outside, lambda e, fpr: private_curve(e, fpr, 0.0), alpha=0.05, seed=seed)
        differences.append(shown - epsilon_of_rates(*limits, 0.0))
    assert abs(np.mean(differences)) < 0.1


def test_multi_split_is_the_median_at_half_the_risk():
    rng = np.random.default_rng(6)
    scores = rng.normal(2, 1, size=100), rng.normal(size=101)
    proved = over_splits(*scores, distance_of_rates, splits=100, alpha=0.025, seed=7)
    bound = strongest(*scores, distance_of_rates, threshold="multi-split", alpha=0.05, seed=7)
    assert (proved >= bound).sum() >= 50
    assert len(np.unique(proved)) > 5
    one = strongest(*scores, distance_of_rates, threshold="split", alpha=0.05, seed=7)
    assert one == over_splits(*scores, distance_of_rates, splits=1, alpha=0.05, seed=7)[0]


@pytest.mark.parametrize(("mu", "epsilon"), [(0.268, 1), (0.502, 2), (0.925, 4), (1.0, 4.377), (1.666, 8), (2.0, 10)])
def test_epsilon_of_a_gaussian_mechanism(mu, epsilon):
    assert epsilon_of(mu, 1e-5) == pytest.approx(epsilon, abs=0.01)


@pytest.mark.parametrize("mu", [1e-3, 0.05, 1.0, 6.0, 40.0])
@pytest.mark.parametrize("delta", [1e-12, 1e-5, 1e-2, 0.4])
def test_epsilon_of_a_gaussian_mechanism_is_where_delta_is_spent(mu, delta):
    epsilon = epsilon_of(mu, delta)
    if epsilon == 0:
        assert 2 * norm.cdf(mu / 2) - 1 <= delta
        return
    cut = epsilon / mu - mu / 2  # where the likelihood ratio of N(mu, 1) to N(0, 1), seen from mu, is exp(epsilon)
    spent = quad(lambda z: norm.pdf(z) * -math.expm1(-mu * (z - cut)), cut, max(cut, 0) + 40, epsabs=0, limit=400)[0]
    assert spent == pytest.approx(delta, rel=1e-5)


@pytest.mark.parametrize(("mu", "delta", "epsilon"), [(0, 1e-5, 0), (-1, 0, 0), (0.3, 0, math.inf), (1e-9, 1e-5, 0)])
def test_epsilon_of_a_gaussian_mechanism_at_the_edges(mu, delta, epsilon):
    assert epsilon_of(mu, delta) == epsilon


@pytest.mark.parametrize("n", [2, 3, 8, 30, 500])
@pytest.mark.parametrize("shift", [0.5, 2.0, 6.0])
def test_least_distance_is_the_noncentral_t_limit(n, shift):
    pattern = np.linspace(-1, 1, n)
    low = least_distance(pattern + shift, pattern, 0.05)
    t = shift / math.sqrt(2 * pattern.var(ddof=1) / n)
    reached = nct.cdf(t, 2 * n - 2, low * math.sqrt(n / 2))
    assert 0.95 - 1e-4 <= reached <= (0.955 if n >= 30 else 1)


@pytest.mark.parametrize(("inside", "outside"), [(5, 5), (40, 40), (8, 120), (120, 8)])
@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("mu", [0.0, 1.5])
def test_least_distance_covers_with_unequal_variances(inside, outside, spread, mu):
    rng, runs = np.random.default_rng(8), 2000
    scale = math.sqrt((spread**2 + 1) / 2)
    draws = rng.normal(mu * scale, spread, size=(runs, inside)), rng.normal(size=(runs, outside))
    wrong = np.mean([least_distance(one, other, 0.05) > mu for one, other in zip(*draws, strict=True)])
    assert wrong <= 0.05 + 3.1 * (0.05 * 0.95 / runs) ** 0.5


@pytest.mark.parametrize("delta", [1e-6, 1e-2])
@pytest.mark.parametrize("mu", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("spread", [0.3, 0.9, 1.0, 1.1, 3.0])
def test_unequal_variances_tell_no_less_than_claimed(mu, spread, delta):
    epsilon, scale = epsilon_of(mu, delta), math.sqrt((spread**2 + 1) / 2)
    x = np.linspace(-45, 45, 200001) * max(spread, 1)
    inside, outside = norm.pdf(x, mu * scale, spread), norm.pdf(x)
    beyond = [np.maximum(p - math.exp(epsilon) * q, 0) for p, q in ((inside, outside), (outside, inside))]
    assert max(np.trapezoid(part, x) for part in beyond) >= delta * (1 - 1e-4)
