"""One training run audited with canaries: what its ledger promises beside what an experiment shows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from divulge.auditing.canaries import CANARIES, Canary
from divulge.auditing.canaries.mechanism import LedgerGuesses, LedgerRates
from divulge.data import Dataset, concatenate
from divulge.defenses import Defense
from divulge.errors import BadInputError
from divulge.models import Architecture
from divulge.privacy.bounds import BOUNDS, LowerBound
from divulge.privacy.bounds.base import GAUSSIAN_MECHANISM, INDEPENDENT
from divulge.privacy.ledger import Ledger
from divulge.privacy.loss import privacy_loss
from divulge.training import Recipe
from divulge.training.private import Privacy, fit_private

ALARM = 0.01
"""The chance that a training that does as its ledger says is told to differ from it."""

StepWatch = Callable[[int, nn.Module], None]
Trainer = Callable[[nn.Module, Dataset, Recipe, StepWatch], Ledger]
"""Trains a network in place on records by a recipe, calls back after each step, and returns what was spent."""


@dataclass(frozen=True, eq=False)
class TrainingAudit:
    """What a training promises, beside what its canaries show.

    Args:
        kind: of canary.
        ledger: what the training says it has spent.
        epsilon: the ledger's, at `delta`: it is at most this.
        delta: at which all epsilons are stated.
        confidence: the chance that all of `bounds` are right together.
        bounds: by name; epsilon is at least this.
        scores: of the canaries, higher for likely members, `(canaries,)`.
        members: which of them were trained on, bool `(canaries,)`.
        departures: see `Planted.departures`.
    """

    kind: Canary
    ledger: Ledger
    epsilon: float
    delta: float
    confidence: float
    bounds: Mapping[str, LowerBound]
    scores: np.ndarray
    members: np.ndarray
    departures: Mapping[str, float] = field(default_factory=dict)

    @property
    def departed(self) -> list[str]:
        """How the training differs from its ledger, whatever that costs; wrongly so with a chance of `ALARM`."""
        return [what for what, chance in self.departures.items() if chance <= ALARM / len(self.departures)]

    @property
    def proofs(self) -> dict[str, LowerBound]:
        """The bounds whose assumptions hold for canaries of this kind, whatever the training did.

        A Gaussian mechanism cannot be taken for granted in a training that is under suspicion.
        """
        return proofs(self.bounds, independent=self.kind.independent)

    @property
    def strongest(self) -> LowerBound:
        """The proof that shows most."""
        return max(self.proofs.values(), key=lambda bound: bound.epsilon)

    @property
    def caught(self) -> bool:
        """Whether a proof exceeds the ledger's epsilon, so that the training breaks its promise."""
        return self.strongest.epsilon > self.epsilon

    def __str__(self) -> str:
        best = self.strongest
        differs = f" It does other things than its ledger says: {'; '.join(self.departed)}." if self.departed else ""
        promise = f"The ledger says that epsilon is at most {self.epsilon:.3g} (delta {self.delta:g})."
        shown = (
            f"{len(self.scores):,} {self.kind.name} canaries show that it is at least {best.epsilon:.3g} "
            f"({100 * self.confidence:g} % confidence, {best.name})"
        )
        if self.caught:
            return (
                f"{promise} But {shown}: this training does not keep its promise. Look for noise that is missing or "
                "too small, gradients that are clipped layer by layer or not at all, and records that take part more "
                f"often than the ledger counts.{differs}"
            )
        return (
            f"{promise} {shown[0].upper()}{shown[1:]}, which agrees. So many canaries could have shown up to "
            f"{max(bound.ceiling for bound in self.proofs.values()):.3g}; that nothing was caught is no proof.{differs}"
        )


def audit_training(
    train: Privacy | Trainer,
    data: Dataset,
    architecture: Architecture,
    recipe: Recipe,
    *,
    canaries: int = 1000,
    kind: Canary | str | Mapping[str, Any] = "one-hot",
    delta: float = 1e-5,
    confidence: float = 0.95,
    seed: int = 0,
) -> TrainingAudit:
    """Train once with canaries, each included by the toss of a coin, and hold what they show against the ledger.

    Steinke, Nasr and Jagielski 2023 (arXiv 2305.08846), with every registered bound.

    Args:
        train: what makes the training private, such as the defense `dp-sgd`; or a training function of one's own.
        data: the records; those of the canaries that are included join them.
        architecture: what is trained.
        recipe: how. Its batch grows with the canaries, so that the sampling rate is that on `data` alone.
        canaries: how many are made.
        kind: of canary, by name or with settings.
        delta: at which epsilons are stated.
        confidence: the chance that no bound is above the training's true epsilon.
        seed: of the first weights, the canaries and their coins.

    Raises:
        BadInputError: a defense that promises no epsilon, so many canaries cannot be made, all coins fell alike, or the
            training refuses.
    """
    if isinstance(train, Defense) and not isinstance(train, Privacy):
        raise BadInputError(f"the defense {train.name!r} promises no epsilon that canaries could check; use dp-sgd.")
    made = kind if isinstance(kind, Canary) else CANARIES.make(kind)
    model = architecture.build(data.shape, data.num_classes, seed=seed)
    if isinstance(train, Defense):
        model = train.architecture(model)
    planted = made.plant(model, data, canaries, seed=seed)
    members = np.random.default_rng((seed, canaries)).random(canaries) < 0.5
    if not 2 <= members.sum() <= canaries - 2:
        raise BadInputError(
            f"canaries: expected two inside and two outside or more, got {members.sum()} inside of {canaries}. Make "
            "more; a hundred or more are worth having."
        )
    records = concatenate([planted.records, planted.canaries[members]])
    recipe = replace(recipe, batch_size=round(recipe.batch_size / len(data) * len(records)))
    privacy = train if isinstance(train, Privacy) else None
    if isinstance(train, Privacy):
        ledger = fit_private(planted.model, records, recipe, train, seed=seed, step_watch=planted.watch).ledger
    else:
        ledger = train(planted.model, records, recipe, planted.watch)
    scores = planted.scores(ledger, recipe, privacy)
    audit = judged(made, ledger, scores, members, delta=delta, confidence=confidence, seed=seed)
    return replace(audit, departures=planted.departures(ledger, recipe, privacy, members, seed=seed))


def judged(
    kind: Canary,
    ledger: Ledger,
    scores: np.ndarray,
    members: np.ndarray,
    *,
    delta: float,
    confidence: float,
    seed: int,
) -> TrainingAudit:
    """Hold scores of canaries against a ledger by every bound, all of them together at one level of confidence."""
    bounds = every_bound(ledger, scores[members], scores[~members], delta=delta, confidence=confidence, seed=seed)
    return TrainingAudit(kind, ledger, privacy_loss(ledger).epsilon(delta), delta, confidence, bounds, scores, members)


def every_bound(
    ledger: Ledger, inside: np.ndarray, outside: np.ndarray, *, delta: float, confidence: float, seed: int
) -> dict[str, LowerBound]:
    """Every registered bound and those of the ledger's own mechanism, by name, all right together at `confidence`.

    Args:
        ledger: what the training says it has spent.
        inside: scores of canaries that were trained on, `(N,)`.
        outside: scores of canaries that were not, `(M,)`.
        delta: at which epsilons are stated.
        confidence: the chance that no bound is above the training's true epsilon.
        seed: of whatever a bound draws.
    """
    every = [*(cls() for cls in BOUNDS.classes.values()), LedgerRates(ledger), LedgerGuesses(ledger)]
    each = 1 - (1 - confidence) / len(every)
    return {bound.name: bound.run(inside, outside, delta=delta, confidence=each, seed=seed) for bound in every}


def proofs(bounds: Mapping[str, LowerBound], *, independent: bool) -> dict[str, LowerBound]:
    """The bounds whose assumptions hold whatever the training did.

    Args:
        bounds: by name.
        independent: whether one canary's score has nothing to do with another's.
    """
    doubtful = {GAUSSIAN_MECHANISM} if independent else {GAUSSIAN_MECHANISM, INDEPENDENT}
    return {name: bound for name, bound in bounds.items() if not doubtful & set(bound.assumptions)}
