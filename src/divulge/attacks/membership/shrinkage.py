"""Shrinkage: the likelihood ratio of LiRA with what all records teach about each one."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from divulge.attacks.membership.base import MembershipScores, TwoSidedAttack, View
from divulge.attacks.membership.moments import Moments, pooled_variance
from divulge.attacks.membership.normal_gamma import Prior, empirical_bayes
from divulge.errors import BadInputError

KAPPA_PLAIN = 0.25
KAPPA_LINKED = 1.0
"""Prior weight of the mean on a side where no record has two signals, so that the data cannot tell: about what they
tell where there are more shadow models."""

PER_BIN = 50
MOST_BINS = 20
"""Records in a bin of the curve from one side's mean to the other's, and how many bins at most."""


@dataclass(frozen=True)
class Shrinkage(TwoSidedAttack):
    """Likelihood ratio of Student-t predictives, each record's mean and variance shrunk to what its likes show.

    After Brännvall 2026 (BaVarIA-t, arXiv 2603.11799): on either side of membership a record's confidence is normal,
    with a normal-inverse-gamma prior on its mean and variance. The target is compared with the predictive of one more
    shadow model, exact at any count of shadow models from one up, so no switch between a variance per example and one
    for all is needed. Two things are chosen differently here.

    *How strong the priors are* follows from the data: kappa and nu of each side maximize the marginal likelihood of
    all records' signals (`normal_gamma.empirical_bayes`), unless they are given.

    *Where a prior sits* depends on the record. Confidence inside rises with confidence outside, and its variance with
    both. So the prior of one side has its mean and variance on curves (`curve`) of the record's posterior mean on the
    other side, and the densities compared are those given *all* of a record's signals. With few shadow models this
    corrects an unlucky draw outside by what was seen inside. It is the offline form as well: a candidate never inside
    has its inside predictive from the curve alone, learned on `shadowed` records or on a population in part of the
    shadow models' training sets. Where no record was seen inside, the score is the negative log of the outside
    predictive's upper tail.

    The target's own answers on the population count as one more outside signal there.

    Args:
        mode: `auto` and `online` use all of a candidate's own signals (`online` insists on some from inside), `offline`
            only those from outside, for the candidate and for the curves.
        kappa: signals that a prior mean is worth; None, with nu, for empirical Bayes.
        nu: signals that a prior variance is worth; None, with kappa, for empirical Bayes.
        linked: whether the prior of one side follows the other side; False puts it at the mean of all signals.
    """

    name: ClassVar[str] = "shrinkage"
    source: ClassVar[str] = "after Brännvall 2026, arXiv 2603.11799"

    kappa: float | None = None
    nu: float | None = None
    linked: bool = True

    def __post_init__(self) -> None:
        if (self.kappa is None) != (self.nu is None) or any(
            value is not None and not value > 0 for value in (self.kappa, self.nu)
        ):
            raise BadInputError(
                f"shrinkage: expected kappa and nu both above 0, or neither, got kappa={self.kappa} and nu={self.nu}."
            )

    def score(self, view: View, *, seed: int) -> np.ndarray | MembershipScores:
        """Log ratio of the inside to the outside predictive (decisions at 0), or of the tail; see the class."""
        own, n = view.candidates.confidence, slice(len(view.candidates))
        outside, inside = self.seen(view)
        plain_out = self.plain(outside)
        if not inside.count.any():
            return -plain_out.rows(n).predictive(outside.rows(n)).log_survival(own)
        plain_in = self.plain(inside)
        prior_out, prior_in = plain_out, plain_in
        if self.linked:
            prior_out = self.given_other(outside, plain_out, inside, plain_in.posterior_mean(inside))
            prior_in = self.given_other(inside, plain_in, outside, plain_out.posterior_mean(outside))
        density_in = prior_in.rows(n).predictive(inside.rows(n)).log_density(own)
        density_out = prior_out.rows(n).predictive(outside.rows(n)).log_density(own)
        scores = density_in - density_out
        return MembershipScores(scores, self.name, scores > 0)

    def seen(self, view: View) -> tuple[Moments, Moments]:
        """Moments outside and inside of the candidates, followed by those of all other records there are."""
        candidates, shadowed, population = view.candidates, view.shadowed, view.population
        blank = Moments.empty(len(candidates))
        outside, inside = [candidates.outside], [blank if self.mode == "offline" else candidates.inside]
        if shadowed is not None and shadowed is not candidates and shadowed.shadows is not None:
            outside.append(shadowed.outside)
            inside.append(shadowed.inside)
        if population is not None and population.target is not None:
            blank = Moments.empty(len(population))
            there = population.shadows is not None
            outside.append((population.outside if there else blank).plus(population.confidence))
            inside.append(population.inside if there else blank)
        return Moments.joined(outside), Moments.joined(inside)

    def plain(self, moments: Moments) -> Prior:
        """The prior of one side with one mean and one variance for all records."""
        n = len(moments.count)
        variance = max(pooled_variance(moments), 1e-9)
        return self.fitted(moments, np.full(n, moments.overall), np.full(n, variance), kappa=KAPPA_PLAIN)

    def given_other(self, own: Moments, plain: Prior, other: Moments, level: np.ndarray) -> Prior:
        """The prior of one side given the posterior mean `level` on the other; plain for records not seen there."""
        linked = other.count > 0
        if not (linked & (own.count > 0)).any():
            return plain
        prior = Prior(*(part.copy() for part in plain))
        some = own.rows(linked)
        found = self.fitted(some, *curve(level[linked], some), kappa=KAPPA_LINKED)
        for part, new in zip(prior, found, strict=True):
            part[linked] = new
        return prior

    def fitted(self, moments: Moments, mean: np.ndarray, variance: np.ndarray, *, kappa: float) -> Prior:
        """The prior around a mean and variance, with the strength that was given or that the data show."""
        if self.kappa is None or self.nu is None:
            return empirical_bayes(moments, mean, variance, kappa=kappa)
        return Prior(mean, variance, np.full(len(mean), self.kappa), np.full(len(mean), self.nu))


def curve(level: np.ndarray, own: Moments) -> tuple[np.ndarray, np.ndarray]:
    """What mean and variance to expect of records on one side given their level on the other, `(N,)` each.

    Piecewise linear (variances on a log scale) through the averages of bins of equally many records that were seen on
    the side. Beyond the outer bins the mean goes on with the slope of the outer fifth, kept within 0 to 1.

    Args:
        level: posterior means on the other side, `(N,)`.
        own: moments on this side; records without signals are only predicted.
    """
    level = level.round(9)  # levels that differ by rounding alone belong in one bin
    used = own.count > 0
    x, (count, mean, squares) = level[used], own.rows(used)
    bins = int(np.clip(len(x) // PER_BIN, 1, MOST_BINS))
    edges = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.unique(np.searchsorted(edges, x, side="right"), return_inverse=True)[1]
    knots = np.bincount(place, x) / np.bincount(place)
    heights = np.bincount(place, count * mean) / np.bincount(place, count)
    expected = np.interp(level, knots, heights)
    if len(knots) > 1:
        reach = len(knots) // 5 + 1
        first, last = (
            np.clip((heights[j] - heights[i]) / (knots[j] - knots[i]), 0, 1) for i, j in ((0, reach), (-1 - reach, -1))
        )
        expected += first * np.minimum(level - knots[0], 0) + last * np.maximum(level - knots[-1], 0)
    freedom = np.bincount(place, count - 1)
    if (freedom > 0).all():
        spread = np.bincount(place, squares) / freedom
    else:
        spread = np.bincount(place, squares + count * (mean - expected[used]) ** 2) / np.bincount(place, count)
    return expected, np.exp(np.interp(level, knots, np.log(np.maximum(spread, 1e-9))))
