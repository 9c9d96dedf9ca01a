"""Epsilon and delta of what was released, and the noise that a target epsilon needs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from divulge.errors import BadInputError
from divulge.privacy import rdp
from divulge.privacy.ledger import Ledger, Phase, Sampling
from divulge.privacy.loss import PrivacyLoss, privacy_loss, released

Accountant = Literal["pld", "rdp", "rdp-2017"]

CLOSE = 5e-4  # calibrated noise spends between 99.95 % and 100 % of the target
LEAST, MOST = 1e-3, 1e7  # noise multipliers among which one is looked for


@dataclass(frozen=True)
class Spent:
    """An epsilon and where it comes from.

    Args:
        epsilon: nobody can tell a run with any one record from a run without it better than this and `delta` allow.
        delta: the probability left out of that promise.
        accountant: what computed it: `pld`, `gaussian` (the exact closed form, where every step sees all records),
            `gaussian, without amplification by sampling` (where there is too little noise for the former), `rdp` or
            `rdp-2017`.
        order: of the Renyi divergence it comes from; None for the others.
        on_edge: that order is an end of the grid, so that more orders might show a smaller epsilon.
    """

    epsilon: float
    delta: float
    accountant: str
    order: float | None = None
    on_edge: bool = False


def epsilon(
    what: Ledger | Sequence[Phase] | PrivacyLoss,
    *,
    delta: float,
    accountant: Accountant = "pld",
    orders: Sequence[float] = rdp.ORDERS,
) -> Spent:
    """Epsilon of everything released, an upper bound.

    Args:
        what: a ledger; phases, whose neighbors differ by a record more or less; or their `privacy_loss`.
        delta: in (0, 1); for a ledger, below one over its records.
        accountant: `pld` composes privacy loss distributions (Koskela et al. 2020, arXiv 1906.03049; Doroshenko et al.
            2022, arXiv 2207.04380), about 0.01 % above the truth. `rdp` is looser, by Renyi
            divergences (Mironov et al. 2019, arXiv 1908.10530); `rdp-2017` looser still, to compare with 2020 work.
        orders: of the Renyi divergences, ascending; for `rdp` and `rdp-2017` only.

    Raises:
        BadInputError: a delta out of range, or something that the accountant cannot account for.

    Example:
        >>> run = [Phase(sampling_rate=250 / 60_000, noise_multiplier=1.1, steps=14_400)]
        >>> round(epsilon(run, delta=1e-5).epsilon, 2), round(epsilon(run, delta=1e-5, accountant="rdp").epsilon, 2)
        (2.35, 2.56)
    """
    if isinstance(what, Ledger) and delta * what.records >= 1:
        raise BadInputError(
            f"delta: expected less than 1/{what.records:,}, one over the number of records, got {delta}. With a larger "
            "one, publishing a record outright would count as private."
        )
    return _spent(what, delta, accountant, orders)


def delta(what: Ledger | Sequence[Phase] | PrivacyLoss, *, epsilon: float) -> float:
    """Delta of everything released at `epsilon`, an upper bound by the `pld` accountant.

    Raises:
        BadInputError: a negative epsilon.

    Example:
        >>> round(delta([Phase(1, 1.0, 1)], epsilon=1.0), 4)
        0.1269
    """
    if not epsilon >= 0:
        raise BadInputError(f"epsilon: expected 0 or more, got {epsilon}.")
    return privacy_loss(what).delta(epsilon)


def noise_multiplier(
    *,
    epsilon: float,
    delta: float,
    sampling_rate: float,
    steps: int,
    accountant: Accountant = "pld",
    sampling: Sampling = "poisson",
) -> float:
    """The least noise with which `steps` steps stay within (epsilon, delta): at most 0.05 % of epsilon is left over.

    Args:
        epsilon: the target, above 0.
        delta: the target, in (0, 1).
        sampling_rate: expected share of the records in a step, in (0, 1].
        steps: 1 or more.
        accountant: see `epsilon`.
        sampling: see `Phase`.

    Raises:
        BadInputError: a value out of range, or a target that no noise reaches or any noise does.

    Example:
        >>> round(noise_multiplier(epsilon=1.0, delta=1e-5, sampling_rate=4096 / 60_000, steps=586), 2)
        6.27
    """
    _check_delta(delta)
    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise BadInputError(f"epsilon: expected a finite target above 0, got {epsilon}. Only no training spends 0.")
    parts, _ = released([Phase(sampling_rate, 1.0, steps, sampling)])
    if not parts:
        raise BadInputError("steps: expected 1 or more to calibrate the noise for, got 0.")
    ((rate, _), sums) = next(iter(parts.items()))

    def spent(sigma: float) -> float:
        return _spent([Phase(sampling_rate, sigma, steps, sampling)], delta, accountant, rdp.ORDERS).epsilon

    return _least(spent, target=epsilon, start=_limit(epsilon, delta, rate, sums))


def _spent(
    what: Ledger | Sequence[Phase] | PrivacyLoss, delta: float, accountant: Accountant, orders: Sequence[float]
) -> Spent:
    _check_delta(delta)
    if accountant == "pld":
        loss = privacy_loss(what)
        found = loss.epsilon(delta)
        if math.isinf(found):
            raise BadInputError(
                f"delta: expected one that the pld accountant can resolve, above 1e-15 and 3e-16 a step, got {delta}. "
                "Take a larger one, or the rdp accountant."
            )
        return Spent(found, delta, loss.accountant)
    if accountant not in ("rdp", "rdp-2017"):
        raise BadInputError(f"accountant: expected 'pld', 'rdp' or 'rdp-2017', got {accountant!r}.")
    if isinstance(what, PrivacyLoss):
        raise BadInputError(f"accountant {accountant!r}: expected a ledger or phases, got their composed loss.")
    divergence = _divergence(what, orders)
    if not divergence.any():
        return Spent(0.0, delta, accountant)
    value, order, on_edge = rdp.to_epsilon(divergence, delta=delta, orders=orders, conversion=accountant)
    return Spent(value, delta, accountant, order, on_edge)


def _divergence(what: Ledger | Sequence[Phase], orders: Sequence[float]) -> np.ndarray:
    """Renyi divergence of everything released: those of single sums add up."""
    parts, adjacency = released(what)
    if adjacency == "replace-one" and any(rate < 1 for rate, _ in parts):
        raise BadInputError(
            "rdp: expected add-remove adjacency for Poisson sampling, got replace-one, whose divergence has no tight "
            "form. Use the pld accountant."
        )
    shift = 2 if adjacency == "replace-one" else 1
    total = np.zeros(len(orders))
    for (rate, sigma), sums in parts.items():
        total += sums * rdp.renyi_divergence(sampling_rate=rate, noise_multiplier=sigma / shift, orders=orders)
    return total


def _limit(epsilon: float, delta: float, rate: float, sums: int) -> float:
    """Noise that spends about epsilon, from the central limit theorem of many small steps.

    Dong, Roth and Su 2019 (arXiv 1905.02383), corollary 5.4.
    """
    from scipy.special import ndtri

    z = -float(ndtri(delta))
    mu = math.sqrt(z * z + 2 * epsilon) - z
    return 1 / math.sqrt(math.log1p((mu / rate) ** 2 / sums))


def _least(spent: Callable[[float], float], *, target: float, start: float) -> float:
    """Least noise that spends no more than `target`: the secant rule on logarithms, inside a shrinking bracket."""
    least, most = math.log(LEAST), math.log(MOST)
    low, high = least, most
    place, slope = min(max(math.log(start), low), high), -1.5
    seen: list[tuple[float, float]] = []
    while high - low > CLOSE / 10:
        value = spent(math.exp(place))
        excess = math.log(value / target) if value else -math.inf
        if math.log1p(-CLOSE) <= excess <= 0:
            return math.exp(place)
        if excess > 0:
            low = place
        else:
            high = place
        if seen and math.isfinite(excess - seen[-1][1]):
            slope = min((excess - seen[-1][1]) / (place - seen[-1][0]), -0.1)
        seen.append((place, excess))
        place -= (excess + CLOSE / 2) / slope
        if not low < place < high:
            place = (low + high) / 2
    if high == most:
        raise BadInputError(
            f"epsilon: {target:g} cannot be reached by this accountant, not with a noise multiplier of {MOST:g}. "
            f"The least it came to is {min(target * math.exp(excess) for _, excess in seen):.3g}: take a larger "
            "epsilon or delta, or the pld accountant."
        )
    if low == least:
        raise BadInputError(
            f"epsilon: even a noise multiplier of {LEAST:g} spends less than {target:g}. Take a smaller epsilon."
        )
    return math.exp(high)


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise BadInputError(f"delta: expected a number above 0 and below 1, such as 1e-5, got {delta}.")
