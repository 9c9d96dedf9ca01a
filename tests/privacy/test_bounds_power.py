"""What the bounds show of a Gaussian mechanism whose epsilon is known."""

import numpy as np
import pytest
from scipy.optimize import brentq

from divulge.privacy.bounds import BOUNDS
from divulge.privacy.gaussian import epsilon_of

DELTA = 1e-5
RUNS, PUBLISHED_RUNS = 8, 6
CELLS = [(epsilon, canaries) for epsilon in (1, 2, 4, 8) for canaries in (1000, 5000)]
IDEAL = {
    # Mean epsilon shown at 95 % by published estimators (all thresholds, corrected) from scores N(0, 1) and N(mu, 1)
    # with mu = mu(epsilon, 1e-5), in the order of CELLS: what a perfect attack on independent canaries could report.
    "one-run": [0.21, 0.24, 0.32, 0.54, 1.09, 1.14, 2.13, 2.02],
    "one-run-f-dp": [0.28, 0.34, 0.44, 0.82, 1.46, 1.84, 3.03, 3.72],
    "gaussian-clopper-pearson": [0.17, 0.61, 0.78, 1.38, 2.53, 3.35, 6.20, 7.18],
    "clopper-pearson": [0.05, 0.18, 0.23, 0.54, 0.84, 1.39, 1.94, 2.86],
    "gaussian-means": [0.59, 0.82, 1.56, 1.81, 3.49, 3.78, 7.39, 7.73],
}


def shown(bound, epsilon, canaries, runs):
    """What `bound` says of each run, float64 `(runs,)`."""
    mu = brentq(lambda mu: epsilon_of(mu, DELTA) - epsilon, 1e-3, 20)
    rng = np.random.default_rng((epsilon, canaries))
    values = []
    for seed in range(runs):
        inside = rng.binomial(canaries, 0.5)
        scores = mu + rng.normal(size=inside), rng.normal(size=canaries - inside)
        values.append(bound.lower(*scores, delta=DELTA, alpha=0.05, seed=seed))
    return np.array(values)


@pytest.mark.parametrize("name", IDEAL)
def test_shows_at_least_the_ideal_case(name, record_property):
    """Within two standard errors of the two means, which rest on 8 runs here and on 6 there."""
    for (epsilon, canaries), ideal in zip(CELLS, IDEAL[name], strict=True):
        values = shown(BOUNDS.make(name), epsilon, canaries, RUNS)
        record_property(f"epsilon {epsilon}, {canaries} canaries", float(values.mean()))
        slack = 2 * values.std(ddof=1) * (1 / RUNS + 1 / PUBLISHED_RUNS) ** 0.5
        assert values.mean() >= ideal - slack, f"epsilon {epsilon}, {canaries} canaries"


@pytest.mark.parametrize("name", BOUNDS.classes)
def test_more_canaries_of_a_leakier_mechanism_show_more(name):
    means = [
        shown(BOUNDS.make(name), epsilon, canaries, 4).mean() for epsilon, canaries in [(2, 200), (4, 800), (8, 3200)]
    ]
    assert means[0] + 0.5 < means[1] < means[2] - 0.5


def test_the_gaussian_family_shows_most_where_it_holds():
    rows = {name: shown(BOUNDS.make(name), 4, 1000, 4).mean() for name in IDEAL}
    assert (
        rows["clopper-pearson"] < rows["one-run-f-dp"] < rows["gaussian-clopper-pearson"] < rows["gaussian-means"] < 4
    )
