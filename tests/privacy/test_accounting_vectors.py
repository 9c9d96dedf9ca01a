"""Epsilons of known runs: what papers of 2020 reported, what newer accountants make of them, and noise for a target."""

import pytest

from divulge.privacy.accounting import epsilon, noise_multiplier
from divulge.privacy.ledger import Phase

DELTA = 1e-5
OF_2020 = (*(1 + step / 10 for step in range(1, 100)), *range(12, 64))
COARSE = (1.25, 1.5, 1.75, 2, 2.25, 2.5, 3, 3.5, 4, 4.5, *range(5, 64), 128, 256, 512)
FROM_1_1 = (*(1 + step / 100 for step in range(10, 100)), *COARSE[3:])


def spent(rate, sigma, steps, accountant="pld", **orders):
    return epsilon([Phase(rate, sigma, steps)], delta=DELTA, accountant=accountant, **orders)


def printed(value, text):
    """Whether a value rounds to a printed number."""
    return value == pytest.approx(float(text), abs=0.51 * 10 ** -len(text.partition(".")[2]))


# sampling rate, noise multiplier, steps, orders, epsilon by the old conversion, its order, by the new one
RENYI = [
    (1, 0.001, 100, OF_2020, "55000115.13", 1.1, "55000111.78"),
    (1, 0.01, 100, OF_2020, "550115.13", 1.1, "550111.78"),
    (1, 0.1, 100, OF_2020, "5615.13", 1.1, "5611.78"),
    (1, 0.4, 100, OF_2020, "432.56", 1.2, "429.86"),
    (1, 1.1, 100, OF_2020, "85.01", 1.5, "83.10"),
    (1, 1.5, 100, OF_2020, "54.22", 1.7, "52.58"),
    (250 / 60000, 0.7, 10800, OF_2020, "7.009", 3.9, "6.233"),
    (250 / 60000, 1.1, 14400, OF_2020, "2.970", 8.9, "2.562"),
    (250 / 60000, 1.3, 3600, OF_2020, "1.180", 17, "0.942"),
    (600 / 60000, 4, 10000, OF_2020, "1.2586", 20, None),
    (600 / 60000, 8, 1500, OF_2020, "0.2608", 63, None),
    (600 / 60000, 2, 70000, OF_2020, "7.793", 4.4, None),
    (4096 / 50000, 10, 875, OF_2020, "1.2043", 20, "0.9877"),
    (256 / 28709, 1.1940571248, 2400, COARSE, "2.361", 10, "2.0000"),
    (256 / 28709, 0.6646113865, 2400, COARSE, "8.955", 3, "8.0000"),
    (256 / 28709, 0.4416650428, 2400, COARSE, "33.23", 1.75, "31.64"),
    (256 / 28709, 0.2977043798, 2400, COARSE, "121.73", 1.25, "119.23"),
    (256 / 28709, 0.2258450233, 2400, COARSE, "502.20", 1.25, "499.70"),
    (100 / 28709, 0.8179822662, 2400, COARSE, "2.478", 7, "2.0000"),
    (100 / 28709, 0.2154187939, 2400, COARSE, "242.4", 1.25, "239.9"),
    (100 / 28709, 0.1944365505, 2400, COARSE, "502.4", 1.25, "499.9"),
]


@pytest.mark.parametrize(("rate", "sigma", "steps", "orders", "old", "order", "new"), RENYI)
def test_renyi_accountants_on_the_orders_of_the_papers(rate, sigma, steps, orders, old, order, new):
    by_old = spent(rate, sigma, steps, "rdp-2017", orders=orders)
    assert printed(by_old.epsilon, old)
    assert by_old.order == pytest.approx(order)
    assert by_old.on_edge == (by_old.order in (orders[0], orders[-1]))
    by_new = spent(rate, sigma, steps, "rdp", orders=orders).epsilon
    assert by_new < by_old.epsilon
    if new is not None:
        assert printed(by_new, new)


@pytest.mark.parametrize(
    ("rate", "sigma", "orders", "fine"),
    [
        (256 / 28709, 0.2258450233, FROM_1_1, "279.6"),
        (100 / 28709, 0.2154187939, None, "166.5"),
        (100 / 28709, 0.1944365505, None, "224.3"),
    ],
)
def test_large_epsilons_need_orders_just_above_one(rate, sigma, orders, fine):
    given = {} if orders is None else {"orders": orders}
    found = spent(rate, sigma, 2400, "rdp", **given)
    assert found.epsilon == pytest.approx(float(fine), rel=2e-3)
    assert not found.on_edge
    assert spent(rate, sigma, 2400, "rdp", orders=COARSE).on_edge


# sampling rate, noise multiplier, steps, epsilon on fine orders, its order, epsilon by the PRV accountant of Opacus 1.6
# at an error of 0.01, which it adds to what it finds
FINE = [
    (1, 0.4, 100, "429.72", 1.19, "418.21"),
    (1, 1.1, 100, "83.07", 1.52, "79.29"),
    (1, 1.5, 100, "52.58", 1.70, "49.90"),
    (250 / 60000, 0.7, 10800, "6.233", 3.8, "5.572"),
    (250 / 60000, 1.1, 14400, "2.562", 8.2, "2.360"),
    (250 / 60000, 1.3, 3600, "0.942", 17, "0.863"),
    (600 / 60000, 4, 10000, "1.036", 17, "0.957"),
    (600 / 60000, 8, 1500, "0.173", 80, "0.166"),
    (600 / 60000, 2, 70000, "7.081", 4.2, "6.581"),
    (4096 / 50000, 10, 875, "0.988", 18, "0.913"),
    (256 / 28709, 1.19406, 2400, "1.998", 9.6, "1.829"),
    (256 / 28709, 0.66461, 2400, "7.993", 3.1, "7.031"),
    (256 / 28709, 0.44167, 2400, "30.69", 1.64, "27.31"),
    (100 / 28709, 0.81798, 2400, "1.969", 6.8, "1.465"),
]


@pytest.mark.parametrize(("rate", "sigma", "steps", "fine", "order", "prv"), FINE)
def test_default_orders_and_the_pld_accountant(rate, sigma, steps, fine, order, prv):
    by_rdp = spent(rate, sigma, steps, "rdp")
    assert printed(by_rdp.epsilon, fine)
    assert by_rdp.order == pytest.approx(order)
    assert not by_rdp.on_edge
    by_pld = spent(rate, sigma, steps)
    assert by_pld.accountant == ("gaussian" if rate == 1 else "pld")
    rounding = 0.51 * 10 ** -len(prv.partition(".")[2])
    assert by_pld.epsilon == pytest.approx(float(prv) - 0.006, abs=0.006 + rounding + 1e-4 * float(prv))


# records, batch, steps, epsilon, noise multiplier by the pld and by the rdp accountant, to about 0.2 %
CALIBRATED = [
    (60000, 512, 4687, 3, 1.070, 1.124),
    (60000, 4096, 586, 1, 6.273, 6.799),
    (60000, 4096, 586, 3, 2.461, 2.634),
    (60000, 8192, 293, 2.7, 3.713, 3.989),
    (50000, 4096, 875, 1, 9.128, 9.891),
    (50000, 4096, 2500, 8, 2.576, 2.730),
    (50000, 8192, 366, 3, 4.481, 4.812),
    (28709, 256, 2400, 2, 1.129, 1.193),
    (28709, 256, 2400, 8, 0.637, 0.665),
    (28709, 256, 2400, 120, 0.288, 0.297),
    (28709, 4096, 700, 8, 2.405, 2.551),
]


@pytest.mark.parametrize(("records", "batch", "steps", "target", "pld", "rdp"), CALIBRATED)
def test_calibrated_noise(records, batch, steps, target, pld, rdp):
    rate = batch / records
    for accountant, published in (("pld", pld), ("rdp", rdp)):
        sigma = noise_multiplier(epsilon=target, delta=DELTA, sampling_rate=rate, steps=steps, accountant=accountant)
        assert sigma == pytest.approx(published, rel=2e-3, abs=1.4e-3)
        assert 0.9995 * target <= spent(rate, sigma, steps, accountant).epsilon <= target


def test_published_noise_of_tramer_and_boneh_spends_less_than_they_say():
    assert spent(512 / 60000, 1.23, 4687).epsilon == pytest.approx(2.37, abs=0.01)
