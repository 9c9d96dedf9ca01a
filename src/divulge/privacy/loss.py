"""The privacy loss of a whole run: what one record's presence can change, from which all else follows."""

import math
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from divulge.privacy.gaussian import epsilon_of, log_delta
from divulge.privacy.ledger import Adjacency, Ledger, Phase

FINENESS = 0.03
"""Spacing of the losses, in standard deviations of one step's loss: adds about 0.01 % to epsilon."""
NEGLIGIBLE = 1e-5  # a loss that matters to nobody
COARSEST = 0.5
STEP_BINS = 100_000
RUN_BINS = 1_000_000
REACH = 10  # standard deviations of the noise that are looked at: the rest has mass e^-53
POINTS = 200  # in a standard deviation of the noise, or in its square, over which the loss bends
UNAMPLIFIED = "gaussian, without amplification by sampling"


@dataclass(frozen=True, kw_only=True, eq=False)
class PrivacyLoss(ABC):
    """How well the run with a record can be told from the run without it.

    Args:
        accountant: what computed it.
        caveats: those of the ledger it comes from.
    """

    accountant: str
    caveats: tuple[str, ...] = ()

    @abstractmethod
    def epsilon(self, delta: float) -> float:
        """Smallest epsilon at `delta`; infinite if `delta` is too small for this accountant to say."""

    @abstractmethod
    def delta(self, epsilon: float) -> float:
        """Smallest delta at `epsilon`."""

    @abstractmethod
    def most(self, fpr: np.ndarray) -> np.ndarray:
        """Largest true positive rate of any test of membership at each false positive rate, elementwise."""


@dataclass(frozen=True)
class GaussianLoss(PrivacyLoss):
    """Loss of full-batch sums, in closed form: two unit normals `mu` apart (Dong, Roth and Su 2019, arXiv 1905.02383).

    Args:
        mu: distance, 0 where nothing was released.
    """

    mu: float
    accountant: str = field(default="gaussian", kw_only=True)

    def epsilon(self, delta: float) -> float:
        """Exact epsilon."""
        return epsilon_of(self.mu, delta)

    def delta(self, epsilon: float) -> float:
        """Exact delta."""
        return math.exp(log_delta(epsilon, self.mu)) if self.mu else 0.0

    def most(self, fpr: np.ndarray) -> np.ndarray:
        """Exact trade-off: `Phi(Phi^-1(fpr) + mu)`."""
        from scipy.special import ndtr, ndtri

        return ndtr(ndtri(fpr) + self.mu)


class Side(NamedTuple):
    """Best tests of one direction of the adjacency, those that flag losses above a threshold, from none to all.

    Args:
        losses: thresholds, descending and evenly spaced, `(L,)`.
        hits: chance to flag a run with the record, at each.
        alarms: chance to flag a run without it, times `exp(losses)`, at each.
        beyond: mass of infinite loss.
    """

    losses: np.ndarray
    hits: np.ndarray
    alarms: np.ndarray
    beyond: float

    def epsilon(self, delta: float) -> float:
        """Where the excess of hits over alarms falls to `delta`."""
        above = self.hits - self.alarms > delta
        if self.beyond > delta:
            return math.inf
        if not above.any():
            return max(0.0, float(self.losses[-1]))
        last = max(int(np.argmax(above)) - 1, 0)
        ratio = (self.hits[last] - delta) / self.alarms[last] if self.alarms[last] > 0 else 1.0
        return max(0.0, float(self.losses[last] + math.log(min(ratio, 1.0))))

    def delta(self, epsilon: float) -> float:
        """Excess of hits over `exp(epsilon)` times the alarms, for the test of threshold `epsilon`."""
        flagged = int(np.count_nonzero(self.losses > epsilon))
        if not flagged:
            return self.beyond
        last = flagged - 1
        return float(self.hits[last] - math.exp(epsilon - self.losses[last]) * self.alarms[last])

    def most(self, fpr: np.ndarray) -> np.ndarray:
        """Hits at each rate of alarms, by a coin between the two nearest tests."""
        with np.errstate(over="ignore"):
            alarms = np.clip(self.alarms * np.exp(-self.losses), 0, 1)
        alarms = np.maximum.accumulate(np.concatenate([[0], alarms, [1]]))
        return np.interp(fpr, alarms, np.concatenate([[self.beyond], self.hits, [1]]))


@dataclass(frozen=True, eq=False)
class SampledLoss(PrivacyLoss):
    """Loss of Poisson-sampled sums as a discrete distribution that is never better than the truth.

    Each step is put on a grid that keeps both sides' mass (Doroshenko et al. 2022, arXiv 2207.04380), and the steps are
    composed by Fourier transform (Koskela et al. 2020, arXiv 1906.03049), which is `dp_accounting`'s.

    Args:
        sides: both directions of the adjacency, or one where they are the same.
    """

    sides: tuple[Side, ...]
    accountant: str = field(default="pld", kw_only=True)

    def epsilon(self, delta: float) -> float:
        """Upper bound on epsilon, about 0.01 % above it."""
        return max(side.epsilon(delta) for side in self.sides)

    def delta(self, epsilon: float) -> float:
        """Upper bound on delta."""
        return min(1.0, max(side.delta(epsilon) for side in self.sides))

    def most(self, fpr: np.ndarray) -> np.ndarray:
        """Upper bound on the trade-off, the larger of both directions."""
        return np.clip(np.max([side.most(fpr) for side in self.sides], axis=0), fpr, 1)


def privacy_loss(what: "Ledger | Sequence[Phase] | PrivacyLoss") -> PrivacyLoss:
    """The loss of what was released, to ask several things of at the price of one composition.

    Args:
        what: a ledger, or phases whose neighbors differ by a record more or less.
    """
    if isinstance(what, PrivacyLoss):
        return what
    parts, adjacency = released(what)
    mu = math.sqrt(sum(steps / sigma**2 for (_, sigma), steps in parts.items()))
    caveats = what.caveats if isinstance(what, Ledger) else ()
    whole = GaussianLoss(2 * mu if adjacency == "replace-one" else mu, caveats=caveats)
    if all(rate == 1 for rate, _ in parts):
        return whole
    interval = _interval(parts, 2.0 if adjacency == "replace-one" else 1.0)
    if interval > COARSEST:
        return replace(whole, accountant=UNAMPLIFIED)
    return SampledLoss(_composed(parts, adjacency, interval), caveats=caveats)


def released(what: Ledger | Sequence[Phase]) -> tuple[Counter[tuple[float, float]], Adjacency]:
    """How many sums were released under each sampling rate and noise multiplier, shuffled ones without amplification.

    Shuffled training passes over all records in `Phase.batches`. A record is in one of them, which counts as a sum over
    all records. A phase that follows another may begin inside a pass.
    """
    phases, adjacency = (what.phases, what.adjacency) if isinstance(what, Ledger) else (tuple(what), "add-remove")
    parts: Counter[tuple[float, float]] = Counter()
    for place, phase in enumerate(phase for phase in phases if phase.steps):
        if phase.sampling == "poisson":
            parts[phase.sampling_rate, phase.noise_multiplier] += phase.steps
        else:
            inside = min(place, 1)
            parts[1.0, phase.noise_multiplier] += inside + math.ceil((phase.steps - inside) / phase.batches)
    return parts, adjacency


def _composed(parts: Counter[tuple[float, float]], adjacency: Adjacency, interval: float) -> tuple[Side, ...]:
    """The summed loss of all steps, for each direction of the adjacency."""
    sums: list[Any] = []
    for (rate, sigma), steps in parts.items():
        with np.errstate(over="ignore"):  # bounds on the tails at high orders may be infinite; lower ones are taken
            ones = [_dots(*step, interval=interval).self_compose(steps) for step in _step(rate, sigma, adjacency)]
        sums = [total.compose(one, 1e-15) for total, one in zip(sums, ones, strict=True)] if sums else ones
    return tuple(_side(total) for total in sums)


def _side(pmf: Any) -> Side:
    from scipy.signal import lfilter

    pmf = pmf.to_dense_pmf()
    mass = pmf._probs[::-1]
    losses = pmf._discretization * (pmf._lower_loss + np.arange(len(mass))[::-1])
    alarms = lfilter([1], [1, -math.exp(-pmf._discretization)], mass)  # alarm = alarm before / e^interval + mass
    return Side(losses, pmf._infinity_mass + np.cumsum(mass), alarms, pmf._infinity_mass)


def _interval(parts: Counter[tuple[float, float]], shift: float) -> float:
    """Spacing of the losses: fine beside the loss of one step, but with no more bins than a second can compose."""
    scale = sum(steps * _square(rate, sigma / shift) for (rate, sigma), steps in parts.items())
    spread = sum(steps * _variance(rate, sigma / shift) for (rate, sigma), steps in parts.items())
    farthest = max(_farthest(rate, sigma / shift) for rate, sigma in parts)
    widest = farthest + 2 * REACH * math.sqrt(spread)
    fine = max(FINENESS * math.sqrt(scale / parts.total()), NEGLIGIBLE / math.sqrt(parts.total()))
    return max(min(fine, COARSEST), farthest / STEP_BINS, widest / RUN_BINS)


def _square(rate: float, sigma: float) -> float:
    """About the square of one step's loss, or twice its mean where that is less."""
    return min(_crowded(rate, sigma), rate * sigma**-2)


def _variance(rate: float, sigma: float) -> float:
    return min(_crowded(rate, sigma), rate * (sigma**-2 + (1 - rate) * sigma**-4 / 4))


def _crowded(rate: float, sigma: float) -> float:
    """Variance of the ratio of likelihoods, which is that of a small loss."""
    return rate**2 * math.expm1(sigma**-2) if sigma > 0.05 else math.inf


def _farthest(rate: float, sigma: float) -> float:
    return float(np.logaddexp(_log(1 - rate), math.log(rate) + REACH / sigma + sigma**-2 / 2))


def _step(rate: float, sigma: float, adjacency: Adjacency) -> list[tuple[np.ndarray, np.ndarray]]:
    """Losses of one step at many outcomes, and their mass, for each direction of the adjacency.

    Outcomes are points of the noise's axis with the mass of the trapezoid rule. That is exact to rounding for every
    moment of the loss, hence for what a composition of steps shows of it.
    """
    gap = (min(sigma, sigma**2) if sigma > 0.05 else sigma) / POINTS
    x = gap * np.arange(-math.ceil((REACH * sigma + 1) / gap), math.ceil((REACH * sigma + 1) / gap) + 1)
    without = -(x**2) / (2 * sigma**2) + math.log(gap / (sigma * math.sqrt(2 * math.pi)))

    def against(side: int) -> np.ndarray:
        """Log density with a record that moves the sum by `side`, over that without it."""
        return np.logaddexp(_log(1 - rate), math.log(rate) + (2 * side * x - 1) / (2 * sigma**2))

    more = against(1)
    if adjacency == "replace-one":
        return [(more - against(-1), np.exp(without + more))]
    return [(more, np.exp(without + more)), (-more, np.exp(without))]


def _dots(losses: np.ndarray, mass: np.ndarray, *, interval: float) -> Any:
    """Split every mass between the multiples of `interval` around its loss, so that neither side's total changes.

    A rounding error counts as an infinite loss: composing by Fourier transform multiplies it by the number of steps.
    """
    from dp_accounting.pld.pld_pmf import DensePLDPmf

    below = np.floor(losses / interval).astype(np.int64)
    upper = mass * np.expm1(below * interval - losses) / math.expm1(-interval)
    lowest = int(below.min())
    place, size = below - lowest, int(below.max()) - lowest + 2
    probs = np.bincount(place, mass - upper, size) + np.bincount(place + 1, upper, size)
    return DensePLDPmf(interval, lowest, probs, sys.float_info.epsilon, True)


def _log(value: float) -> float:
    return math.log(value) if value else -math.inf
