import numpy as np
import pytest
from scipy.stats import beta

from divulge.errors import BadInputError
from divulge.metrics import bootstrap, clopper_pearson


def test_clopper_pearson_is_the_beta_quantile():
    k, n = np.meshgrid(np.arange(1, 20), [20, 35, 400])
    low, high = clopper_pearson(k, n, confidence=0.9)
    np.testing.assert_allclose(low, beta.ppf(0.05, k, n - k + 1), rtol=1e-9)
    np.testing.assert_allclose(high, beta.ppf(0.95, k + 1, n - k), rtol=1e-9)


def test_clopper_pearson_at_the_edges():
    low, high = clopper_pearson([0, 10, 0], [10, 10, 0])
    assert low.tolist() == [0, pytest.approx(0.025**0.1), 0]
    assert high.tolist() == [pytest.approx(1 - 0.025**0.1), 1, 1]


def test_clopper_pearson_covers_at_least_as_often_as_it_says():
    n, p = 40, np.linspace(0.02, 0.98, 25)
    k = np.random.default_rng(0).binomial(n, p, size=(4000, len(p)))
    low, high = clopper_pearson(k, n)
    assert ((low <= p) & (p <= high)).mean(axis=0).min() > 0.94


def test_bootstrap_of_a_mean_matches_its_standard_error_and_repeats():
    sample = np.random.default_rng(1).normal(size=400)
    one = bootstrap(np.mean, sample, seed=3)
    assert one == bootstrap(np.mean, sample, seed=3)
    assert one != bootstrap(np.mean, sample, seed=4)
    assert one.high - one.low == pytest.approx(2 * 1.96 * sample.std() / 20, rel=0.1)


def test_bootstrap_draws_rows_of_all_arrays_together():
    sample = np.arange(50.0)
    assert bootstrap(lambda a, b: float(np.abs(a - b).max()), sample, sample, seed=0) == (0, 0, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clopper_pearson(3, 2), "0 <= k <= n"),
        (lambda: clopper_pearson(-1, 2), "0 <= k <= n"),
        (lambda: clopper_pearson(np.nan, 2), "0 <= k <= n"),
        (lambda: clopper_pearson(1, 2, confidence=95), "between 0 and 1"),
        (lambda: bootstrap(np.mean, np.ones(3), np.ones(2), seed=0), "one length"),
        (lambda: bootstrap(np.mean, np.ones(0), seed=0), "one length"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BadInputError, match=message):
        call()
