"""Renyi differential privacy of sampled Gaussian noise, and what it says about epsilon."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from divulge.errors import BadInputError

ORDERS = (
    *(1 + step / 100 for step in range(1, 100)),
    *(2 + step / 10 for step in range(90)),
    *range(11, 65),
    *(80, 96, 128, 256, 512, 1024),
)
"""Fine where large epsilons have their best order (just above 1) and reaching as far as small ones need."""

Conversion = Literal["rdp", "rdp-2017"]
SMALL = 0.01
"""Noise multiplier below which sampling is left out of account: an epsilon of thousands is none the wiser for it."""
REACH = 12  # standard deviations on either side of the integrand: what lies outside is below 1e-31 of the whole


def renyi_divergence(*, sampling_rate: float, noise_multiplier: float, orders: Sequence[float] = ORDERS) -> np.ndarray:
    """Renyi divergence of one Poisson-sampled Gaussian sum, the larger of both directions, at each order.

    Mironov, Talwar and Zhang 2019 (arXiv 1908.10530): by their sum at whole orders. At the others their integral over
    the noise, by the trapezoid rule, which is exact to rounding for such integrands; their series does not converge for
    sampling rates near one half. Below a noise multiplier of `SMALL` it is the larger one of the unsampled sum.

    Args:
        sampling_rate: chance of a record to be in the sum, in (0, 1].
        noise_multiplier: standard deviation of the noise over the sensitivity.
        orders: above 1.

    Returns:
        One divergence an order, float64.

    Raises:
        BadInputError: an order of 1 or less.

    Example:
        >>> renyi_divergence(sampling_rate=1, noise_multiplier=2.0, orders=[2, 8]).tolist()
        [0.25, 1.0]
    """
    alphas = np.asarray(orders, dtype=np.float64)
    if not (alphas > 1).all() or not alphas.size:
        raise BadInputError(f"orders: expected one or more numbers above 1, got {list(orders)}.")
    if sampling_rate == 1 or noise_multiplier < SMALL:
        return alphas / (2 * noise_multiplier**2)
    moments = np.empty_like(alphas)
    whole = alphas == np.floor(alphas)
    moments[whole] = [_whole_moment(int(order), sampling_rate, noise_multiplier) for order in alphas[whole]]
    moments[~whole] = _moments(alphas[~whole], sampling_rate, noise_multiplier)
    return np.maximum(moments, 0) / (alphas - 1)


def to_epsilon(
    divergence: np.ndarray, *, delta: float, orders: Sequence[float] = ORDERS, conversion: Conversion = "rdp"
) -> tuple[float, float, bool]:
    """The smallest epsilon that Renyi divergences at `orders` imply.

    Args:
        divergence: of the whole run, one an order.
        delta: in (0, 1).
        orders: above 1, ascending.
        conversion: `rdp` is that of Canonne, Kamath and Steinke 2020 (arXiv 2004.00010, proposition 12); `rdp-2017`
            that of Mironov 2017 (arXiv 1702.07476, proposition 3), which papers of 2020 and before report.

    Returns:
        Epsilon, the order it comes from, and whether that order is an end of the grid, beyond which a smaller epsilon
        may lie.
    """
    alphas = np.asarray(orders, dtype=np.float64)
    if conversion == "rdp":
        epsilons = divergence + np.log1p(-1 / alphas) - np.log(delta * alphas) / (alphas - 1)
    else:
        epsilons = divergence - math.log(delta) / (alphas - 1)
    best = int(np.argmin(epsilons))
    return max(0.0, float(epsilons[best])), float(alphas[best]), best in (0, len(alphas) - 1)


def _whole_moment(order: int, rate: float, sigma: float) -> float:
    from scipy.special import gammaln, logsumexp

    k = np.arange(order + 1)
    choose = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
    logs = choose + k * math.log(rate) + (order - k) * math.log1p(-rate) + k * (k - 1) / (2 * sigma**2)
    return float(logsumexp(logs))


def _moments(orders: np.ndarray, rate: float, sigma: float) -> list[float]:
    """Log of E[(1 - q + q exp((2x - 1) / (2 sigma^2)))^order] over x ~ N(0, sigma^2), for each order."""
    from scipy.special import logsumexp

    if not orders.size:
        return []
    # The integrand has its poles pi sigma^2 away from the real axis. Below sigma = 0.05 they lie where the Gaussian is
    # zero to rounding.
    step = min(sigma / 4, sigma**2 / 2) if sigma >= 0.05 else sigma / 4
    x = np.arange(-REACH * sigma, orders.max() + REACH * sigma, step)
    ratio = np.logaddexp(math.log1p(-rate), math.log(rate) + (2 * x - 1) / (2 * sigma**2))
    weight = -(x**2) / (2 * sigma**2) + math.log(step / (sigma * math.sqrt(2 * math.pi)))
    return [float(logsumexp(order * ratio + weight)) for order in orders]
