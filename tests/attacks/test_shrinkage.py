import numpy as np
import pytest
from scipy import stats
from scipy.optimize import approx_fprime

from divulge.attacks.membership import Signals, View, assignment
from divulge.attacks.membership.lira import Lira
from divulge.attacks.membership.moments import Moments, masked_moments
from divulge.attacks.membership.normal_gamma import Prior, StudentT, empirical_bayes
from divulge.attacks.membership.shrinkage import Shrinkage, curve
from divulge.metrics import auc, tpr_at_fpr


def sample(rng, n, most, *, kappa, nu, variance, mean):
    """Signals of `n` records drawn from the prior, up to `most` each, and their moments."""
    spread = nu * variance / rng.chisquare(nu, size=n)
    centers = rng.normal(mean, np.sqrt(spread / kappa))
    values = rng.normal(centers[:, None], np.sqrt(spread)[:, None], size=(n, most))
    return values, masked_moments(values, np.arange(most) < rng.integers(1, most + 1, size=n)[:, None])


def test_predictive_is_the_integral_over_mean_and_variance():
    signals, kappa, nu, variance, mean, at = np.array([1.0, 2.5, 0.5]), 0.7, 3.0, 1.5, -0.5, 2.0

    v, mu = np.meshgrid(np.exp(np.linspace(-10, 12, 600)), np.linspace(-12, 12, 1200))

    def evidence(values):
        prior = stats.invgamma.pdf(v, nu / 2, scale=nu * variance / 2) * stats.norm.pdf(mu, mean, np.sqrt(v / kappa))
        return (v * prior * np.prod([stats.norm.pdf(x, mu, np.sqrt(v)) for x in values], axis=0)).sum()

    expected = evidence(np.append(signals, at)) / evidence(signals)
    prior = Prior(*(np.array([x]) for x in (mean, variance, kappa, nu)))
    predictive = prior.predictive(masked_moments(signals[None], np.full((1, 3), True)))
    assert np.exp(predictive.log_density(np.array([at]))[0]) == pytest.approx(expected, rel=1e-4)


def test_student_t_agrees_with_scipy():
    rng = np.random.default_rng(0)
    freedom, center, scale = rng.uniform(0.5, 60, 200), rng.normal(size=200), rng.uniform(0.1, 3, 200)
    ours, theirs = StudentT(freedom, center, scale**2), stats.t(freedom, center, scale)
    values = center + rng.normal(scale=8, size=200) * scale
    np.testing.assert_allclose(ours.log_density(values), theirs.logpdf(values), rtol=1e-9)
    np.testing.assert_allclose(ours.log_survival(values), theirs.logsf(values), rtol=1e-6, atol=1e-12)


def test_tail_goes_on_where_floats_end():
    one = StudentT(np.full(5, 60.0), np.zeros(5), np.ones(5))
    tail = one.log_survival(np.array([1e4, 1e5, 1e6, 1e7, 1e8]))
    np.testing.assert_allclose(np.diff(tail), -60 * np.log(10), rtol=1e-6)


def log_likelihood(prior, values, count):
    """By the chain rule: each signal's predictive given those before it."""
    total = np.zeros(len(values))
    for k in range(values.shape[1]):
        before = masked_moments(values, np.broadcast_to(np.arange(values.shape[1]) < k, values.shape))
        total += np.where(k < count, prior.predictive(before).log_density(values[:, k]), 0)
    return total.sum()


@pytest.mark.parametrize("most", [1, 2, 6])
def test_empirical_bayes_is_where_the_likelihood_is_flat(most):
    values, moments = sample(np.random.default_rng(0), 500, most, kappa=0.5, nu=5.0, variance=2.0, mean=1.0)
    fit = empirical_bayes(moments, np.ones(500), np.full(500, 3.0), kappa=0.3)

    def likelihood(logs):
        kappa, nu, variance = np.exp(logs)
        prior = Prior(fit.mean, *(np.full(500, value) for value in (variance, kappa, nu)))
        return log_likelihood(prior, values, moments.count)

    slope = approx_fprime(np.log([fit.kappa[0], fit.nu[0], fit.variance[0]]), likelihood, 1e-5)
    assert np.abs(slope[1:]).max() < 0.5  # a likelihood of hundreds of nats, flat to half a nat per unit of log
    if most == 1:
        assert fit.kappa[0] == 0.3
    else:
        assert abs(slope[0]) < 0.5


def test_empirical_bayes_recovers_the_prior_that_made_the_signals():
    truth = {"kappa": 0.4, "nu": 6.0, "variance": 2.0}
    _, moments = sample(np.random.default_rng(0), 20000, 4, mean=0.0, **truth)
    fit = empirical_bayes(moments, np.zeros(20000), np.ones(20000), kappa=0.25)
    for name, value in truth.items():
        assert getattr(fit, name)[0] == pytest.approx(value, rel=0.1)


def test_fixed_prior_is_the_plain_student_t_ratio(make_view):
    view, _ = make_view(leak=2.0, n=60)
    some = view.candidates
    kappa, nu = 0.01, 4.0
    parts = [[row[mask] for row, mask in zip(some.shadow_confidence, side, strict=True)]
             for side in (some.membership, ~some.membership)]  # fmt: skip
    expected = np.zeros(60)
    for rows, sign in zip(parts, (1, -1), strict=True):
        m0 = np.concatenate(rows).mean()
        s2 = sum(((row - row.mean()) ** 2).sum() for row in rows) / sum(len(row) - 1 for row in rows)
        for i, row in enumerate(rows):
            kn, a = kappa + len(row), (nu + len(row)) / 2
            b = (nu * s2 + ((row - row.mean()) ** 2).sum() + kappa * len(row) / kn * (row.mean() - m0) ** 2) / 2
            mn = (kappa * m0 + len(row) * row.mean()) / kn
            expected[i] += sign * stats.t.logpdf(some.confidence[i], 2 * a, mn, np.sqrt(b * (kn + 1) / (a * kn)))
    scores = Shrinkage(kappa=kappa, nu=nu, linked=False).run(View(some)).scores
    np.testing.assert_allclose(scores, expected, rtol=1e-8)


def test_curve_follows_the_other_side():
    rng = np.random.default_rng(0)
    level = rng.uniform(-4, 4, 20000)
    values = rng.normal(np.logaddexp(0, level)[:, None], np.exp(level / 4)[:, None], size=(20000, 3))
    moments = masked_moments(values, rng.random((20000, 3)) < 0.6)
    mean, variance = curve(np.append(level, [9.0, -9.0]), Moments.joined([moments, Moments.empty(2)]))
    inner = np.flatnonzero(np.abs(level) < 3.5)
    np.testing.assert_allclose(mean[inner], np.logaddexp(0, level[inner]), atol=0.15)
    np.testing.assert_allclose(variance[inner], np.exp(level[inner] / 2), rtol=0.25)
    assert mean[-2] == pytest.approx(9, abs=1.0)
    assert mean[-1] == pytest.approx(0, abs=0.5)


def world(seed, shadows, *, leak=1.0, n=3000):
    """Records of unequal difficulty and noise; the harder one is, the more training on it helps and settles it."""
    rng = np.random.default_rng(seed)
    level, noise = rng.normal(1, 3, size=n), np.exp(rng.normal(scale=0.5, size=n))
    members = assignment(n, shadows + 2, seed=seed)
    inside = level + leak * (3 + np.logaddexp(0, level - 3) - level)
    shift = np.where(members, inside, level)
    scale = noise * np.where(members, 1 - leak / 2, 1.0)
    answers = np.zeros((shadows + 2, n, 2))
    answers[..., 0] = rng.normal(shift, scale)
    labels = np.zeros(n, dtype=np.int64)
    return Signals(labels, answers[-1], answers[:shadows], members[:shadows]), members[-1]


@pytest.mark.parametrize("shadows", [2, 4, 8])
def test_beats_both_variances_of_lira_with_few_shadow_models(shadows):
    signals, truth = world(0, shadows)
    scores = Shrinkage().run(View(signals)).scores
    ours, area = tpr_at_fpr(scores, truth, fpr=0.01).value, auc(scores, truth).value
    for variance in ("example", "global"):
        theirs = Lira(variance=variance).run(View(signals)).scores
        assert ours > tpr_at_fpr(theirs, truth, fpr=0.01).value
        assert area > auc(theirs, truth).value


def test_approaches_lira_with_many_shadow_models():
    signals, _ = world(0, 200, n=1000)
    ours, theirs = Shrinkage().run(View(signals)).scores, Lira(variance="example").run(View(signals)).scores
    assert stats.spearmanr(ours, theirs).statistic > 0.99


def test_offline_learns_from_other_records_what_training_does():
    signals, truth = world(0, 8)
    half = np.arange(3000) < 1500

    def part(rows, **more):
        return Signals(signals.labels[rows], more.get("target"), signals.shadows[:, rows], signals.members[:, rows])

    candidates, others = part(half, target=signals.target[half]), part(~half)
    told = auc(Shrinkage(mode="offline").run(View(candidates, shadowed=others)).scores, truth[half])
    alone = auc(Shrinkage(mode="offline").run(View(candidates)).scores, truth[half])
    lira = auc(Lira(mode="offline").run(View(candidates)).scores, truth[half])
    assert told.low > alone.high
    assert alone.value > lira.value


def test_offline_never_looks_at_signals_from_inside():
    signals, _ = world(0, 6, n=200)
    changed = signals.shadows.copy()
    changed[signals.members] += 5
    other = Signals(signals.labels, signals.target, changed, signals.members)
    attack = Shrinkage(mode="offline")
    np.testing.assert_array_equal(attack.run(View(signals)).scores, attack.run(View(other)).scores)


@pytest.mark.parametrize("shadows", [2, 4, 16])
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_no_signal_at_any_budget(shadows, mode):
    hits = 0
    for seed in range(20):
        signals, truth = world(seed, shadows, leak=0.0, n=300)
        estimate = auc(Shrinkage(mode=mode).run(View(signals)).scores, truth)
        hits += estimate.low < 0.5 < estimate.high
    assert hits >= 16
