"""The parts of the private loop, each against what its paper or probability says of it."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from divulge.errors import BadInputError
from divulge.training.private import Privacy
from divulge.training.private.averaging import Average
from divulge.training.private.bound import Bound
from divulge.training.private.noise import PAIRS, Secret, add_noise, standard_normal
from divulge.training.private.sampling import poisson, shuffled

RARE = 1e-6


def test_poisson_batches_have_binomial_sizes_and_independent_records():
    records, rate, draws = 30, 0.1, 4000
    generator = np.random.default_rng(0)
    drawn = np.zeros((draws, records), dtype=bool)
    for row in drawn:
        rows = poisson(records, rate, generator)
        assert (np.diff(rows) > 0).all(), "a record twice, or out of order"
        row[rows] = True
    sizes = np.bincount(drawn.sum(axis=1), minlength=9)
    expected = stats.binom.pmf(np.arange(8), records, rate)
    assert stats.chisquare([*sizes[:8], sizes[8:].sum()], draws * np.append(expected, 1 - expected.sum())).pvalue > RARE
    assert sizes[0] > 0, "empty batches belong to Poisson sampling"
    for counts, chance in (
        (drawn.sum(axis=0), rate),
        ((drawn[:, :-1] & drawn[:, 1:]).sum(axis=0), rate**2),
        ((drawn[:-1] & drawn[1:]).sum(axis=0), rate**2),
    ):
        low, high = stats.binom.ppf([RARE / 2, 1 - RARE / 2], draws, chance)
        assert low <= counts.min() <= counts.max() <= high


def test_the_whole_set_is_drawn_at_rate_one():
    assert np.array_equal(poisson(7, 1.0, np.random.default_rng(0)), np.arange(7))


@pytest.mark.parametrize(("records", "size"), [(10, 4), (9, 3), (5, 5), (49, 7)])
def test_a_shuffled_pass_takes_every_record_once_in_an_order_of_its_own(records, size):
    each = -(-records // size)
    batches = [shuffled(records, size, step, seed=3) for step in range(2 * each)]
    first, second = np.concatenate(batches[:each]), np.concatenate(batches[each:])
    assert sorted(first) == sorted(second) == list(range(records))
    assert not np.array_equal(first, second)
    assert max(len(batch) for batch in batches) == size


def test_noise_is_gaussian_of_the_scale_asked_for_and_independent_between_steps():
    secret = Secret(None)
    first, second = ([torch.zeros(100, 200), torch.zeros(70)] for _ in range(2))
    for step, sums in enumerate((first, second)):
        add_noise(sums, 3.0, secret.at(step))
    one, other = (torch.cat([total.flatten() for total in sums]).numpy() / 3 for sums in (first, second))
    assert stats.kstest(one, "norm").pvalue > RARE
    assert stats.pearsonr(one, other).pvalue > RARE
    assert one.dtype == np.float32


def test_normals_are_normal_far_into_the_tails_and_independent_of_each_other():
    made = standard_normal(1_000_000, np.random.Generator(np.random.SFC64(0)))
    assert stats.kstest(made, "norm").pvalue > RARE
    edges = np.array([*np.linspace(-4.5, 4.5, 91)])
    chances = np.diff(stats.norm.cdf([-np.inf, *edges, np.inf]))
    assert stats.chisquare(np.histogram(made, [-np.inf, *edges, np.inf])[0], chances * len(made)).pvalue > RARE
    cosine, sine = made.reshape(2, -1)
    for one, other in ((cosine, sine), (cosine**2, sine**2), (made[1:], made[:-1]), (made[1:] ** 2, made[:-1] ** 2)):
        assert stats.pearsonr(one, other).pvalue > RARE


@pytest.mark.parametrize("count", [0, 1, 7, 2 * PAIRS + 1])
def test_as_many_normals_are_made_as_are_asked_for_and_from_the_generator_alone(count):
    one, other = (standard_normal(count, np.random.Generator(np.random.SFC64(3))) for _ in range(2))
    assert one.shape == (count,)
    assert np.array_equal(one, other)
    assert np.isfinite(one).all()


@pytest.mark.parametrize(("word", "size"), [(0, 7.539), (2**64 - 1, 0.0)])
def test_the_extreme_words_make_finite_normals(word, size):
    class Words:
        bit_generator = property(lambda self: self)

        def random_raw(self, count):
            return np.full(count, word, dtype=np.uint64)

    assert np.abs(standard_normal(4, Words())).max() == pytest.approx(size, abs=1e-3)


def test_secret_draws_come_from_the_operating_system_unless_a_seed_is_given():
    assert Secret(None).at(0).random() != Secret(None).at(0).random()
    assert Secret(4).at(1).random() == Secret(4).at(1).random()
    assert len({Secret(seed).at(step).random() for seed in (0, 1, 2**32) for step in (0, 1)}) == 6


def test_the_average_follows_the_warm_up_and_can_be_shown_for_a_while():
    weights = [torch.tensor([0.0]), torch.tensor([[0.0, 0.0]])]
    average = Average(weights, 0.6)
    expected = 0.0
    for step in range(30):
        for weight in weights:
            weight.fill_(float(step))
        average.update(step)
        kept = min(0.6, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * step
    with average.shown():
        assert float(weights[0]) == pytest.approx(expected, rel=1e-5)
    assert float(weights[0]) == 29.0
    average.apply()
    assert weights[1].flatten().tolist() == pytest.approx([expected] * 2, rel=1e-5)


def test_without_averaging_the_weights_stay():
    weights = [torch.tensor([1.0])]
    average = Average(weights, None)
    average.update(0)
    with average.shown():
        assert float(weights[0]) == 1.0
    average.apply()
    assert float(weights[0]) == 1.0


def adaptive(clip=1.0):
    return Privacy(noise_multiplier=1.0, clip=clip, clipping="adaptive")


@pytest.mark.parametrize("start", [0.05, 1.0, 20.0])
def test_the_adaptive_bound_finds_the_median_norm(start):
    generator = np.random.default_rng(0)
    norms = torch.from_numpy(generator.lognormal(sigma=0.7, size=2000))
    bound = Bound(adaptive(start), 1.0, 500)
    visited = []
    for _ in range(300):
        bound.move(bound.within(norms[poisson(2000, 0.25, generator)]), generator)
        visited.append(bound.clip)
    assert np.mean(visited[-150:]) == pytest.approx(float(norms.median()), rel=0.05)


def test_the_adaptive_count_is_paid_for_by_the_noise():
    bound = Bound(adaptive(), 1.5, 100)
    assert bound.noise_multiplier > 1.5
    count_multiplier = bound.count_noise / 0.5  # adding a record moves the count by one half
    assert bound.noise_multiplier**-2 + count_multiplier**-2 == pytest.approx(1.5**-2)
    assert [bound.within(torch.tensor([norm])) for norm in (0.0, 1.0, 1.1, math.inf, math.nan)] == [
        0.5,
        0.5,
        -0.5,
        -0.5,
        -0.5,
    ]
    draws = []
    for generator in map(np.random.default_rng, range(2000)):
        moved = Bound(adaptive(), 1.5, 100)
        moved.move(0.0, generator)
        draws.append(-math.log(moved.clip) / 0.2 * 100)
    assert stats.kstest(np.array(draws) / bound.count_noise, "norm").pvalue > RARE


@pytest.mark.parametrize("clipping", ["flat", "automatic"])
def test_other_bounds_stay_and_cost_nothing(clipping):
    bound = Bound(Privacy(noise_multiplier=2.0, clip=0.3, clipping=clipping), 2.0, 10)
    bound.move(bound.within(torch.ones(10)), np.random.default_rng(0))
    assert (bound.clip, bound.noise_multiplier, bound.noise) == (0.3, 2.0, 0.6)
    scaled = bound.rule(torch.tensor([3.0])) * 3
    assert float(scaled) == pytest.approx(0.3 if clipping == "flat" else 0.3 * 3 / 3.01)


def test_a_batch_too_small_for_the_adaptive_count_is_refused():
    with pytest.raises(BadInputError, match=r"expected batch above 20, got 15.*'automatic'"):
        Bound(adaptive(), 2.0, 15)
