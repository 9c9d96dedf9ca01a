"""The family of Gaussian mechanisms: two unit normals `mu` apart, and the epsilon that tells as much."""

import math


def log_delta(epsilon: float, mu: float) -> float:
    """Logarithm of the smallest delta at which unit normals `mu` apart are (epsilon, delta)-indistinguishable.

    Balle and Wang 2018 (arXiv 1805.06530), theorem 8; Dong, Roth and Su 2019 (arXiv 1905.02383), corollary 2.13.

    Example:
        >>> round(log_delta(0.0, 1.0), 6)  # the total variation distance, 2 Phi(1/2) - 1
        -0.959916
    """
    from scipy.special import log_ndtr

    likely, unlikely = (float(log_ndtr(-epsilon / mu + side * mu / 2)) for side in (1, -1))
    ratio = epsilon + unlikely - likely
    return likely + math.log(-math.expm1(ratio)) if ratio < 0 else -math.inf


def epsilon_of(mu: float, delta: float) -> float:
    """Epsilon at `delta` of unit normals `mu` apart; 0 where `mu` is not positive, infinite at delta 0.

    Example:
        >>> round(epsilon_of(1.0, 1e-5), 2)
        4.38
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    if mu <= 0:
        return 0.0
    if delta == 0 or mu == math.inf:
        return math.inf
    if log_delta(0.0, mu) <= math.log(delta):
        return 0.0
    enough = mu * mu / 2 - mu * float(ndtri(delta))  # there, already the first of delta's two terms is delta
    if mu > 1e5:  # the second changes no digit, but rounds worse than it adds
        return enough
    return float(brentq(lambda epsilon: log_delta(epsilon, mu) - math.log(delta), 0.0, enough, xtol=1e-12, rtol=1e-12))
