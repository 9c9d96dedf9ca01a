"""Accountants against other libraries, closed forms and each other; what no run may do; bad input."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import brentq

from divulge.errors import BadInputError
from divulge.privacy.accounting import delta, epsilon, noise_multiplier
from divulge.privacy.gaussian import epsilon_of, log_delta
from divulge.privacy.ledger import Ledger, Phase
from divulge.privacy.loss import GaussianLoss, SampledLoss, privacy_loss
from divulge.privacy.rdp import ORDERS, renyi_divergence

RUNS = [(0.004, 0.8, 3000), (0.05, 2.0, 400), (0.5, 5.0, 60), (0.01, 0.3, 50), (0.001, 1.0, 1)]
ACCOUNTANTS = ("pld", "rdp", "rdp-2017")


def value(phases, accountant="pld", at=1e-5):
    return epsilon(phases, delta=at, accountant=accountant).epsilon


@pytest.mark.parametrize(
    ("rate", "sigma", "steps", "interval"),
    [(*run, gap) for run, gap in zip(RUNS, (4e-4, 1e-4, 1e-4, 2e-3, 4e-4), strict=True)],
)
def test_pld_is_that_of_dp_accounting(rate, sigma, steps, interval):
    """Theirs finds the masses of a step another way, by inverting the loss."""
    from dp_accounting.pld import privacy_loss_distribution as pld

    theirs = pld.from_gaussian_mechanism(sigma, sampling_prob=rate, value_discretization_interval=interval)
    theirs = theirs.self_compose(steps)
    for at in (1e-3, 1e-5, 1e-7):
        truth = theirs.get_epsilon_for_delta(at)
        assert value([Phase(rate, sigma, steps)], at=at) == pytest.approx(truth, rel=1e-3, abs=1e-9)
    assert delta([Phase(rate, sigma, steps)], epsilon=0.5) == pytest.approx(
        theirs.get_delta_for_epsilon(0.5), rel=2e-3, abs=1e-12
    )


def test_replace_one_is_that_of_dp_accounting():
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import privacy_loss_distribution as pld

    theirs = pld.from_gaussian_mechanism(
        2.0, sampling_prob=0.05, neighboring_relation=NeighboringRelation.REPLACE_ONE
    ).self_compose(400)
    ledger = Ledger(1000, (Phase(0.05, 2.0, 400),), adjacency="replace-one")
    assert epsilon(ledger, delta=1e-5).epsilon == pytest.approx(theirs.get_epsilon_for_delta(1e-5), rel=1e-3)


def test_exchanging_a_record_moves_a_full_sum_twice_as_far():
    ledger = Ledger(1000, (Phase(1, 8.0, 9),), adjacency="replace-one")
    for accountant in ACCOUNTANTS:
        found = epsilon(ledger, delta=1e-5, accountant=accountant).epsilon
        assert found == pytest.approx(value([Phase(1, 4.0, 9)], accountant))


@pytest.mark.parametrize(("rate", "sigma", "steps"), [*RUNS, (1.0, 3.0, 20)])
def test_rdp_is_that_of_opacus(rate, sigma, steps):
    from opacus.accountants.analysis import rdp

    orders = [order for order in ORDERS if order >= 1.5][::5]  # their series is off just above 1
    found = renyi_divergence(sampling_rate=rate, noise_multiplier=sigma, orders=orders) * steps
    theirs = rdp.compute_rdp(q=rate, noise_multiplier=sigma, steps=steps, orders=orders)
    sure = np.isfinite(theirs) & (found > 1e-7)
    assert sure.sum() > 15
    np.testing.assert_allclose(found[sure], np.asarray(theirs)[sure], rtol=2e-2 if rate == 0.5 else 1e-6)


def test_pld_is_within_the_error_of_the_prv_accountant_of_opacus():
    from opacus.accountants import PRVAccountant

    theirs = PRVAccountant()
    theirs.history = [(1.3, 0.01, 500), (0.9, 0.004, 300)]
    ours = value([Phase(0.01, 1.3, 500), Phase(0.004, 0.9, 300)])
    assert ours <= theirs.get_epsilon(1e-5, eps_error=0.01) <= ours + 0.013


@pytest.mark.parametrize("order", [1.01, 1.3, 1.99, 2.5, 10.9])
@pytest.mark.parametrize(("rate", "sigma"), [(0.004, 0.7), (0.5, 20.0), (0.3, 0.06), (0.9, 0.04)])
def test_fractional_orders_are_the_integral(rate, sigma, order):
    from scipy.integrate import quad

    def log_integrand(x):
        ratio = np.logaddexp(math.log1p(-rate), math.log(rate) + (2 * x - 1) / (2 * sigma**2))
        return order * ratio - x * x / (2 * sigma**2) - math.log(sigma * math.sqrt(2 * math.pi))

    top = max(log_integrand(x) for x in np.linspace(-sigma, order + sigma, 20_001))
    cuts = np.linspace(-12 * sigma, order + 12 * sigma, 60)
    area = sum(
        quad(lambda x: math.exp(log_integrand(x) - top), low, high, epsabs=0, epsrel=1e-11, limit=200)[0]
        for low, high in pairwise(cuts)
    )
    found = renyi_divergence(sampling_rate=rate, noise_multiplier=sigma, orders=[order])[0]
    assert found == pytest.approx((math.log(area) + top) / (order - 1), rel=1e-5, abs=1e-9)


def test_whole_orders_join_fractional_ones():
    rdp = renyi_divergence(sampling_rate=0.02, noise_multiplier=0.9, orders=[2 - 1e-7, 2, 2 + 1e-7, 7, 7 + 1e-7])
    assert rdp[1] == pytest.approx((rdp[0] + rdp[2]) / 2, rel=1e-9)
    assert rdp[3] == pytest.approx(rdp[4], rel=1e-5)


def test_next_to_no_noise_is_accounted_at_once_and_never_as_less():
    last, first = (
        renyi_divergence(sampling_rate=0.1, noise_multiplier=sigma, orders=[1.5, 2, 8]) for sigma in (0.0101, 0.0099)
    )
    assert (last < first).all()
    assert first == pytest.approx(last, rel=0.1)
    for sigma in (1e-6, 1e-9):  # the integral would take billions of points
        assert epsilon([Phase(0.1, sigma, 1)], delta=1e-5, accountant="rdp").epsilon == pytest.approx(
            0.505 * sigma**-2, rel=1e-6
        )


@pytest.mark.parametrize("sigma", [0.5, 3.0, 50.0])
def test_composed_gaussians_are_one_gaussian(sigma):
    """The discrete accountant, made to do what has a closed form: sampling that hardly ever leaves a record out."""
    nearly = privacy_loss([Phase(1 - 1e-12, sigma, 40)])
    exact = privacy_loss([Phase(1, sigma, 40)])
    assert isinstance(nearly, SampledLoss)
    assert isinstance(exact, GaussianLoss)
    assert exact.mu == pytest.approx(math.sqrt(40) / sigma)
    for at in (1e-2, 1e-5, 1e-9):
        assert exact.epsilon(at) <= nearly.epsilon(at) <= exact.epsilon(at) * (1 + 5e-4)
        assert exact.delta(exact.epsilon(at)) == pytest.approx(at, rel=1e-6)


def test_phases_compose_in_any_order_and_however_they_are_cut():
    one, two = Phase(0.01, 1.0, 300), Phase(0.02, 2.0, 100)
    for accountant in ("pld", "rdp"):
        whole = value([one, two], accountant)
        assert value([two, one], accountant) == pytest.approx(whole, rel=1e-6)
        assert value([Phase(0.01, 1.0, 100), two, Phase(0.01, 1.0, 200)], accountant) == pytest.approx(whole, rel=1e-6)
        assert max(value([one], accountant), value([two], accountant)) < whole


def test_full_batch_steps_compose_with_sampled_ones():
    """A sampled step that hardly ever takes anybody adds nothing to a Gaussian."""
    exact = value([Phase(1, 4.0, 9)])
    mixed = value([Phase(1, 4.0, 9), Phase(1e-9, 4.0, 1)])
    assert exact <= mixed <= exact * 1.001


def test_shuffled_batches_count_as_a_full_look_at_every_record_in_each_pass():
    full = value([Phase(1, 2.0, 5)])
    assert value([Phase(0.01, 2.0, 500, "shuffled")]) == pytest.approx(full)
    assert value([Phase(0.01, 2.0, 401, "shuffled")]) == pytest.approx(full)
    assert value([Phase(0.01, 2.0, 501, "shuffled")]) == pytest.approx(value([Phase(1, 2.0, 6)]))
    assert value([Phase(4 / 10, 2.0, 3, "shuffled")]) == pytest.approx(value([Phase(1, 2.0, 1)]))  # 4 + 4 + 2
    assert value([Phase(0.01, 2.0, 500)]) < 0.3 * full


def test_a_shuffled_phase_that_begins_inside_a_pass_may_meet_a_record_once_more():
    first, second = Phase(0.1, 9.0, 5, "shuffled"), Phase(0.1, 2.0, 10, "shuffled")
    unlucky = [Phase(1, 9.0, 1), Phase(1, 2.0, 2)]
    assert value([first, second]) == pytest.approx(value(unlucky))


def test_nothing_released_spends_nothing():
    for accountant in ACCOUNTANTS:
        assert value([], accountant) == 0
        assert value([Phase(0.1, 1.0, 0)], accountant) == 0
    assert delta([], epsilon=0.0) == 0


@pytest.mark.parametrize(("rate", "steps"), [(0.01, 1000), (0.1, 100), (0.5, 10)])
def test_next_to_no_noise_tells_who_took_part_how_often(rate, steps):
    """Who is told in which steps a record took part sees one Gaussian of so many: noise this small shows it too."""
    often = np.arange(1, steps + 1)
    chances = stats.binom.pmf(often, steps, rate)
    often, chances = often[chances > 1e-18], chances[chances > 1e-18]

    def excess(at):
        return sum(w * math.exp(log_delta(at, k**0.5 / 0.01)) for k, w in zip(often, chances, strict=True)) - 1e-5

    told = brentq(excess, 0.0, steps / 0.01**2)
    assert 0.998 * told < value([Phase(rate, 0.01, steps)]) <= told


def test_noise_too_small_for_the_grid_is_accounted_without_amplification():
    spent = epsilon([Phase(0.01, 0.001, 10)], delta=1e-5)
    assert "without amplification" in spent.accountant
    assert spent.epsilon == value([Phase(1, 0.001, 10)])


phases = st.builds(
    Phase,
    st.floats(1e-3, 1).map(lambda rate: round(rate, 3)),
    st.floats(0.5, 20),
    st.integers(1, 500),
)


@settings(max_examples=20, deadline=None)
@given(phases, st.sampled_from(ACCOUNTANTS), st.data())
def test_more_steps_less_noise_more_sampling_or_less_delta_never_spend_less(phase, accountant, data):
    base = value([phase], accountant)
    slack = 1 + 1e-3, 1e-6
    worse = data.draw(
        st.sampled_from(
            [
                ([Phase(phase.sampling_rate, phase.noise_multiplier, phase.steps * 2)], 1e-5),
                ([Phase(phase.sampling_rate, phase.noise_multiplier * 0.8, phase.steps)], 1e-5),
                ([Phase(min(1, phase.sampling_rate * 1.5), phase.noise_multiplier, phase.steps)], 1e-5),
                ([phase, Phase(0.01, 3.0, 10)], 1e-5),
                ([phase], 1e-7),
            ]
        )
    )
    assert base <= value(worse[0], accountant, worse[1]) * slack[0] + slack[1]


@settings(max_examples=12, deadline=None)
@given(phases)
def test_tighter_accountants_say_less(phase):
    pld, rdp, old = (value([phase], accountant) for accountant in ACCOUNTANTS)
    assert pld <= rdp * (1 + 1e-3) + 1e-6
    assert rdp <= old


@settings(max_examples=12, deadline=None)
@given(phases, st.sampled_from([1e-3, 1e-5, 1e-8]))
def test_delta_undoes_epsilon(phase, at):
    loss = privacy_loss([phase])
    spent = loss.epsilon(at)
    if spent:
        assert loss.delta(spent) == pytest.approx(at, rel=1e-4)


@settings(max_examples=12, deadline=None)
@given(
    st.floats(0.05, 50),
    st.sampled_from([1e-4, 1e-6]),
    st.floats(1e-3, 1),
    st.integers(1, 2000),
    st.sampled_from(["poisson", "shuffled"]),
    st.sampled_from(["pld", "rdp"]),
)
def test_calibrated_noise_keeps_to_the_target_and_wastes_little(target, at, rate, steps, sampling, accountant):
    sigma = noise_multiplier(
        epsilon=target, delta=at, sampling_rate=rate, steps=steps, sampling=sampling, accountant=accountant
    )
    assert value([Phase(rate, sigma, steps, sampling)], accountant, at) <= target
    assert value([Phase(rate, sigma * 0.998, steps, sampling)], accountant, at) > target * (1 - 1e-3)


RUN = [Phase(0.01, 1.0, 100)]
SWAPPED = Ledger(1000, tuple(RUN), adjacency="replace-one")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: epsilon(RUN, delta=0), "above 0 and below 1, such as 1e-5, got 0"),
        (lambda: epsilon(RUN, delta=1), "got 1"),
        (lambda: epsilon(RUN, delta=math.nan), "got nan"),
        (lambda: epsilon(RUN, delta=1e-17), "can resolve.*rdp accountant"),
        (lambda: epsilon([Phase(0.01, 1.0, 10_000)], delta=1e-12), "3e-16 a step, got 1e-12"),
        (lambda: epsilon(Ledger(1000, tuple(RUN)), delta=1e-3), "less than 1/1,000"),
        (lambda: epsilon(RUN, delta=1e-5, accountant="prv"), "'pld', 'rdp' or 'rdp-2017', got 'prv'"),
        (lambda: epsilon(RUN, delta=1e-5, accountant="rdp", orders=[1.0, 2.0]), "above 1"),
        (lambda: epsilon(RUN, delta=1e-5, accountant="rdp", orders=[]), "above 1"),
        (lambda: epsilon(SWAPPED, delta=1e-5, accountant="rdp"), "replace-one.*Use the pld"),
        (lambda: epsilon(privacy_loss(RUN), delta=1e-5, accountant="rdp"), "got their composed loss"),
        (lambda: delta(RUN, epsilon=-1), "0 or more, got -1"),
        (lambda: calibrate(epsilon=0), "above 0, got 0"),
        (lambda: calibrate(epsilon=math.inf), "finite"),
        (lambda: calibrate(delta=2), "below 1"),
        (lambda: calibrate(sampling_rate=1.5), "sampling rate.*got 1.5"),
        (lambda: calibrate(steps=0), "1 or more"),
        (lambda: calibrate(steps=-3), "got -3"),
        (lambda: calibrate(epsilon=1e-4, accountant="rdp"), "cannot be reached.*The least it came to is 0.00"),
        (lambda: calibrate(epsilon=1e15, sampling_rate=1), "even a noise multiplier of 0.001 spends less"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BadInputError, match=message):
        call()


def calibrate(**changes):
    plain = {"epsilon": 1.0, "delta": 1e-5, "sampling_rate": 0.01, "steps": 100}
    return noise_multiplier(**(plain | changes))


def test_losses_of_different_runs_are_never_taken_for_each_other():
    first, second = (privacy_loss([Phase(0.1, noise, 10)]) for noise in (1.0, 2.0))
    assert first != second
    assert len({first, second}) == 2


@pytest.mark.parametrize("mu", [1e4, 0.99e5, 1.01e5, 1.7e8, 1e12])
def test_the_gaussian_epsilon_grows_with_the_square_of_a_large_distance(mu):
    assert epsilon_of(mu, 1e-5) == pytest.approx(mu**2 / 2 + 4.2648908 * mu, rel=1e-7)
