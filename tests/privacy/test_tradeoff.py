"""What an epsilon stops: closed form, simulation, the table of known runs, and where there is nothing to find."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from divulge.errors import BadInputError
from divulge.privacy.accounting import delta
from divulge.privacy.ledger import Ledger, Phase
from divulge.privacy.loss import GaussianLoss, SampledLoss, privacy_loss
from divulge.privacy.tradeoff import most_advantage, most_reconstruction, most_true_positives
from divulge.privacy.words import at_most, in_words, stops, up

RATES = np.array([0, 1e-6, 1e-3, 0.01, 0.1, 0.3, 0.7, 0.99, 1])

# mechanism, its epsilon at 1e-5, TPR at 0.1 % and 1 % FPR, chance to reconstruct at priors 1/10 and 1/256
TABLE = [
    (GaussianLoss(0.268), 1, ".0024", ".0198", ".155", ".0084"),
    (GaussianLoss(0.502), 2, ".0048", ".034", ".218", ".0154"),
    (GaussianLoss(0.925), 4, ".0152", ".0805", ".361", ".0414"),
    (GaussianLoss(1.666), 8, ".0772", ".2545", ".650", ".160"),
    (GaussianLoss(2.0), 10, ".138", ".372", ".764", ".255"),
    ([Phase(0.082, 3.0, 2500)], 6.58, ".046", ".178", ".546", ".104"),
    ([Phase(512 / 60000, 1.23, 4687)], 2.37, ".006", ".040", ".237", ".0185"),
]


@pytest.mark.parametrize(("what", "spent", "tpr_01", "tpr_1", "tenth", "byte"), TABLE)
def test_known_runs(what, spent, tpr_01, tpr_1, tenth, byte):
    loss = privacy_loss(what)
    assert loss.epsilon(1e-5) == pytest.approx(spent, rel=3e-3)
    found = [*most_true_positives(loss, np.array([0.001, 0.01])), *most_reconstruction(loss, np.array([0.1, 1 / 256]))]
    for one, printed in zip(found, (tpr_01, tpr_1, tenth, byte), strict=True):
        assert one == pytest.approx(float(printed), abs=1.1 * 10 ** -len(printed.partition(".")[2]))


@pytest.mark.parametrize("mu", [0.05, 1.0, 4.0])
def test_the_discrete_curve_is_that_of_the_gaussian(mu):
    """The discrete accountant, made to do what has a closed form: sampling that hardly ever leaves a record out."""
    loss = privacy_loss([Phase(1 - 1e-12, math.sqrt(20) / mu, 20)])
    assert isinstance(loss, SampledLoss)
    exact = ndtr(ndtri(RATES) + mu)
    found = most_true_positives(loss, RATES)
    np.testing.assert_allclose(found, exact, rtol=2e-3, atol=1e-12)
    assert (found >= exact - 1e-9).all()
    np.testing.assert_allclose(most_true_positives([Phase(1, math.sqrt(20) / mu, 20)], RATES), exact, rtol=1e-12)


def test_the_curve_is_the_minimum_over_epsilon():
    """B(kappa) by its definition, both signs of epsilon, from the deltas of another library."""
    from dp_accounting.pld import privacy_loss_distribution as pld

    theirs = pld.from_gaussian_mechanism(1.5, sampling_prob=0.1, value_discretization_interval=1e-3).self_compose(30)
    spread = np.linspace(-8, 8, 4001)
    sides = [pmf.get_delta_for_epsilon(spread) for pmf in (theirs._pmf_remove, theirs._pmf_add)]
    for kappa in (1e-4, 0.01, 0.2, 0.6):
        bound = max((np.exp(spread) * kappa + side).min() for side in sides)
        assert privacy_loss([Phase(0.1, 1.5, 30)]).most(np.array(kappa)) == pytest.approx(bound, rel=1e-3)


@pytest.mark.parametrize(("rate", "sigma", "steps"), [(0.2, 0.8, 20), (0.02, 0.4, 50)])
def test_the_best_test_reaches_the_curve_and_no_more(rate, sigma, steps):
    """The likelihood-ratio test of the worst case, simulated: a bound that is too low or too loose fails."""
    rng, trials = np.random.default_rng(0), 100_000

    def scores(member):
        total = np.zeros(trials)
        for _ in range(steps):
            seen = rng.normal(0, sigma, trials) + (member & (rng.random(trials) < rate))
            total += np.logaddexp(math.log1p(-rate), math.log(rate) + (2 * seen - 1) / (2 * sigma**2))
        return total

    inside, outside = scores(True), scores(False)
    for fpr in (0.01, 0.1, 0.5):
        as_member = (inside > np.quantile(outside, 1 - fpr)).mean()
        as_outsider = (outside < np.quantile(inside, fpr)).mean()
        found = max(as_member, as_outsider)
        bound = float(most_true_positives([Phase(rate, sigma, steps)], np.array(fpr)))
        assert found == pytest.approx(bound, abs=4 * math.sqrt(bound / trials) + 4 * bound / math.sqrt(fpr * trials))


def test_where_nothing_was_released_nothing_is_gained():
    for loss in (privacy_loss([]), privacy_loss(Ledger(10))):
        np.testing.assert_allclose(most_true_positives(loss, RATES), RATES)
        assert most_advantage(loss) == 0
    np.testing.assert_allclose(most_true_positives([Phase(1e-6, 50.0, 10)], RATES), RATES, atol=1e-5)


def test_where_there_is_no_noise_to_speak_of_everything_is_gained():
    for phase in (Phase(1, 0.01, 1), Phase(0.5, 0.05, 100), Phase(0.5, 1e-4, 100)):
        assert most_true_positives([phase], np.array([0.001])) > 0.999
        assert most_advantage([phase]) > 0.999


phases = st.builds(Phase, st.floats(1e-3, 1).map(lambda rate: round(rate, 3)), st.floats(0.5, 20), st.integers(1, 300))


@settings(max_examples=20, deadline=None)
@given(phases, st.lists(st.floats(0, 1), min_size=3, max_size=20))
def test_a_curve_rises_and_stays_under_what_epsilon_says(phase, rates):
    loss = privacy_loss([phase])
    rates = np.sort(np.array(rates))
    found = most_true_positives(loss, rates)
    assert (found >= rates).all()
    assert (found <= 1).all()
    assert (np.diff(found) >= -1e-12).all()
    for epsilon in (0.0, 0.5, 2.0):
        assert (found <= np.exp(epsilon) * rates + loss.delta(epsilon) + 1e-9).all()
    assert most_advantage(loss) == pytest.approx(delta(loss, epsilon=0.0))


def test_shapes_and_numbers_come_back_as_they_were_given():
    run = [Phase(0.1, 2.0, 10)]
    assert most_true_positives(run, np.full((2, 3), 0.1)).shape == (2, 3)
    assert isinstance(most_reconstruction(run, 0.1), float)
    assert most_reconstruction(run, np.array([0.1, 0.2])).shape == (2,)


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan])
def test_bad_input(rate):
    with pytest.raises(BadInputError, match="from 0 to 1"):
        most_true_positives([Phase(0.1, 1.0, 1)], np.array([0.5, rate]))


def test_words_are_true_to_the_numbers():
    run = [Phase(1, 1 / 0.502, 1)]
    assert in_words(run) == (
        "Of 1,000 people in the data, an adversary who may wrongly accuse 1 in 100 outsiders can point to at most 35. "
        "A guess at a record among 10 candidates succeeds at most 22 % of the time, against 10 % without the model."
    )
    assert "with a chance of 30 % succeeds" in in_words(run, prior=0.3)
    assert "1 in 1,000 outsiders can point to at most 4.9." in in_words(run, fpr=0.001)
    assert "stops nobody" in in_words([Phase(1, 0.1, 10)])


def test_words_say_what_a_ledger_warns_of():
    ledger = Ledger(100, (Phase(0.1, 2.0, 10),), fixed_noise_seed=True)
    assert in_words(ledger).startswith("The noise came from a fixed seed.")
    assert "fixed seed" not in in_words(ledger.phases)
    assert privacy_loss(Ledger(100, (Phase(1, 2.0, 10),), fixed_noise_seed=True)).caveats == ledger.caveats


@settings(deadline=None)
@given(st.floats(1e-9, 1))
def test_a_bound_is_rounded_up_and_not_far(share):
    written = float(at_most(share).removesuffix(" %")) / 100
    assert share <= written * (1 + 1e-6) <= share * 1.11 + 1e-9
    assert up(share, 4) == pytest.approx(share, rel=1.01e-3)


def test_stops_are_the_curve():
    run = [Phase(0.05, 1.0, 100)]
    found = stops(run, priors=(0.25,))
    assert [one.guess for one in found] == [0.001, 0.01, 0.1, 0.25]
    np.testing.assert_allclose(
        [one.most for one in found], most_true_positives(run, np.array([0.001, 0.01, 0.1, 0.25]))
    )
    assert found[-1].what == "records told among 4 candidates"


@pytest.mark.parametrize("phase", [Phase(1, 3.0, 20), Phase(1, 0.8, 2)])
def test_the_curve_of_a_mechanism_that_is_alike_both_ways_bends_down(phase):
    found = most_true_positives([phase], np.linspace(0, 1, 101))
    assert (np.diff(found, 2) <= 1e-9).all()
