"""Normal samples whose mean and variance have a conjugate prior: posterior, predictive density, empirical Bayes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from divulge.attacks.membership.moments import Moments


class Prior(NamedTuple):
    """Normal-inverse-gamma prior of each record's signals, `phi ~ N(mu, sigma^2)`; all float64 `(N,)`.

    `mu | sigma^2 ~ N(mean, sigma^2 / kappa)` and `sigma^2 ~ InverseGamma(nu / 2, nu * variance / 2)`: the prior is
    worth `kappa` signals about the mean and `nu` about the variance.
    """

    mean: np.ndarray
    variance: np.ndarray
    kappa: np.ndarray
    nu: np.ndarray

    def rows(self, which: np.ndarray | slice) -> "Prior":
        """The prior of some records."""
        return Prior(*(part[which] for part in self))

    def posterior_mean(self, moments: Moments) -> np.ndarray:
        """Expected mean of each record given its signals, `(N,)`."""
        return (self.kappa * self.mean + moments.count * moments.mean) / (self.kappa + moments.count)

    def predictive(self, moments: Moments) -> "StudentT":
        """What the next signal of each record is distributed as given those seen; the prior's where there are none."""
        kappa, nu = self.kappa + moments.count, self.nu + moments.count
        surprise = moments.count * self.kappa / kappa * (moments.mean - self.mean) ** 2
        variance = (self.nu * self.variance + moments.squares + surprise) / nu
        return StudentT(nu, self.posterior_mean(moments), variance * (kappa + 1) / kappa)


@dataclass(frozen=True, eq=False)
class StudentT:
    """Student's t of `freedom` degrees, moved and stretched, one for each record.

    Args:
        freedom: `(N,)`.
        center: `(N,)`.
        square_scale: `(N,)`.
    """

    freedom: np.ndarray
    center: np.ndarray
    square_scale: np.ndarray

    def log_density(self, values: np.ndarray) -> np.ndarray:
        """Log-density at `values` `(N,)`."""
        from scipy.special import gammaln

        constant = by_unique(lambda v: gammaln((v + 1) / 2) - gammaln(v / 2) - np.log(v * np.pi) / 2, self.freedom)
        distance = (values - self.center) ** 2 / (self.freedom * self.square_scale)
        return constant - np.log(self.square_scale) / 2 - (self.freedom + 1) / 2 * np.log1p(distance)

    def log_survival(self, values: np.ndarray) -> np.ndarray:
        """Log of the chance to exceed `values` `(N,)`; beyond what a float holds, by the tail's power law."""
        from scipy.special import gammaln, stdtr

        z = (values - self.center) / np.sqrt(self.square_scale)
        v = self.freedom
        tail = stdtr(v, -z)
        # P(T > z) -> C z^-v with C = v^(v/2 - 1) Gamma((v + 1) / 2) / (sqrt(pi) Gamma(v / 2))
        power = (v / 2 - 1) * np.log(v) + gammaln((v + 1) / 2) - gammaln(v / 2) - np.log(np.pi) / 2
        far = power - v * np.log(np.maximum(z, 1))
        return np.where(tail > 1e-300, np.log(np.maximum(tail, 1e-300)), far)


def by_unique(function: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
    """Apply an expensive function once to each distinct value; counts of shadow models have few."""
    distinct, where = np.unique(values, return_inverse=True)
    return function(distinct)[where]


def empirical_bayes(moments: Moments, mean: np.ndarray, variance: np.ndarray, *, kappa: float) -> Prior:
    """The prior around `mean` and `variance` under which the signals seen are most likely.

    For a record of n signals, mean m and squared deviations SS, let s^2 be its entry of `variance` and
    B = nu c s^2 + SS + n kappa / (n + kappa) (m - mean)^2. With mu and sigma^2 integrated out, its likelihood under the
    prior of variance c s^2 is, up to a constant,

        Gamma((nu + n) / 2) / Gamma(nu / 2) * (kappa / (kappa + n))^(1/2) * (nu c s^2)^(nu / 2) * B^-((nu + n) / 2).

    The sum of its logarithms over records is maximized over log kappa, log nu and log c by L-BFGS with the exact
    gradient. One signal a record shows kappa and c only together, through c (1 + 1 / kappa); where no record has two,
    kappa keeps the value given.

    Args:
        moments: what was seen of each record; records without signals do not count.
        mean: prior means, `(N,)`.
        variance: prior variances up to the factor c, positive, `(N,)`.
        kappa: where to start, or to stay.

    Returns:
        One kappa and one nu for all records.
    """
    from scipy.optimize import minimize
    from scipy.special import digamma, gammaln

    seen = moments.count > 0
    n, squares, scale = moments.count[seen], moments.squares[seen], variance[seen]
    distance = (moments.mean[seen] - mean[seen]) ** 2
    sizes, where, repeats = np.unique(n, return_inverse=True, return_counts=True)
    known = bool((n >= 2).any())

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        nu, c, k = np.exp([*point, np.log(kappa)][:3])
        shrink = (sizes / (k + sizes))[where]
        prior = nu * c * scale
        b = prior + squares + k * shrink * distance
        log_ratio, weight = np.log(prior) - np.log(b), (nu + n) / 2
        by_size = gammaln((nu + sizes) / 2) - gammaln(nu / 2) + np.log(k / (k + sizes)) / 2
        total = (repeats * by_size).sum() + (weight * log_ratio - n / 2 * np.log(prior)).sum()
        by_nu = (repeats * (digamma((nu + sizes) / 2) - digamma(nu / 2) + 1)).sum()
        slope = [
            nu / 2 * (by_nu + (log_ratio - 2 * weight * c * scale / b).sum()),
            (nu / 2 - weight * prior / b).sum(),
            (shrink / 2 - weight * k * shrink**2 * distance / b).sum(),
        ]
        return -float(total) / len(n), -np.array(slope[: len(point)]) / len(n)

    start = [np.log(4.0), 0.0, np.log(kappa)][: 3 if known else 2]
    bounds = [(-1.0, 6.0), (-7.0, 7.0), (-7.0, 7.0)][: len(start)]  # beyond these the predictive no longer changes
    best = np.exp(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x)
    strength = best[2] if known else kappa
    return Prior(mean, variance * best[1], np.full(len(mean), strength), np.full(len(mean), best[0]))
