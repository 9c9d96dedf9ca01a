import numpy as np
import pytest

from divulge.errors import BadInputError
from divulge.training.federated import compare, rounds_to

T = np.arange(1, 1001)


def test_a_curve_beside_itself_is_as_fast():
    curve = 1 - 1 / T
    found = compare(curve, curve)
    assert (found.lost, found.slowdown) == (0, 1)
    assert found.exponent == pytest.approx(1)


@pytest.mark.parametrize("factor", [1.5, 3, 8])
def test_the_same_rate_with_a_larger_constant_is_told_as_such(factor):
    found = compare(1 - factor / (T + factor), 1 - 1 / (T + 1))
    assert found.slowdown == pytest.approx(factor, rel=0.1)
    assert found.exponent == pytest.approx(1, abs=0.05)
    assert found.levels > 5


def test_a_slower_rate_has_an_exponent_above_one():
    found = compare(1 - 1 / np.sqrt(T), 1 - 1 / T)
    assert found.exponent == pytest.approx(2, abs=0.2)


def test_noise_about_one_curve_is_no_slowdown():
    rng = np.random.default_rng(0)
    plain, other = (1 - 1 / (T + 1) + 0.002 * rng.standard_normal(len(T)) for _ in range(2))
    assert 0.6 < compare(other, plain).slowdown < 1.7


def test_a_curve_that_never_rises_has_no_slowdown_to_tell():
    found = compare(np.full(50, 0.1), 0.9 - 0.8 / T[:50])
    assert np.isnan(found.slowdown)
    assert np.isnan(found.exponent)
    assert found.lost == pytest.approx(0.78, abs=0.02)


def test_rounds_to_a_level_are_counted_from_one():
    assert rounds_to(np.array([0.5, 0.7]), 0.5) == 1
    assert rounds_to(np.array([0.5, 0.7]), 0.71) is None


@pytest.mark.parametrize(
    ("defended", "plain", "message"),
    [
        (np.zeros(3), np.zeros(4), "of one length"),
        (np.zeros((2, 3)), np.zeros((2, 3)), "of one length"),
        (np.zeros(0), np.zeros(0), "of one length"),
        (np.array([np.nan]), np.zeros(1), "NaN"),
    ],
)
def test_curves_that_cannot_be_compared_are_refused(defended, plain, message):
    with pytest.raises(BadInputError, match=message):
        compare(defended, plain)
