"""The contract of every membership attack: a pure function of signals and memberships."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from divulge.attacks.base import Attack
from divulge.attacks.membership.moments import Moments, masked_moments
from divulge.errors import BadInputError
from divulge.settings import labelled

Mode = Literal["auto", "online", "offline"]
"""Which of a candidate's own shadow signals an attack uses: `online` those from inside and outside training sets,
`offline` only those from outside, `auto` online where every candidate is inside some training set."""


def scaled_confidence(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logit-scaled confidence of the true class, `log p / (1 - p)`, without ever forming `1 - p`.

    Carlini et al. 2022 (arXiv 2112.03570), section IV-C.

    Args:
        logits: `(..., N, C)`, up to a constant per row.
        labels: class numbers `(N,)`.

    Returns:
        float64 `(..., N)`.

    Example:
        >>> np.exp(scaled_confidence(np.log([[0.2, 0.8]]), np.array([1]))).round(6).tolist()
        [4.0]
    """
    # classes first: reductions over a short last axis are several times slower
    others = np.array(np.moveaxis(logits, -1, 0), dtype=np.float64, order="C")
    index = np.broadcast_to(labels, (1, *others.shape[1:]))
    true = np.take_along_axis(others, index, axis=0)[0]
    np.put_along_axis(others, index, -np.inf, axis=0)
    top = others.max(axis=0)
    others -= top
    np.exp(others, out=others)
    return true - (top + np.log(others.sum(axis=0)))


@dataclass(frozen=True, eq=False)
class Signals:
    """What models answer on a list of records.

    Args:
        labels: true classes, int64 `(N,)`.
        target: the target's log-posteriors up to a constant per row, `(N, C)`; None for records it was never asked
            about.
        shadows: the same of each shadow model, `(S, N, C)`.
        members: bool `(S, N)`, whether shadow `s` was trained on record `n`.
        inputs: the records themselves, flattened, float32 `(N, D)`, for attacks that look at them.
    """

    labels: np.ndarray
    target: np.ndarray | None = None
    shadows: np.ndarray | None = None
    members: np.ndarray | None = None
    inputs: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = len(self.labels)
        if self.target is not None and (self.target.ndim != 2 or len(self.target) != n):
            raise BadInputError(f"signals: expected target logits ({n}, classes), got {self.target.shape}.")
        if (self.shadows is None) != (self.members is None):
            raise BadInputError("signals: shadows and their memberships come together or not at all.")
        if self.shadows is not None and self.members is not None and self.shadows.shape[:2] != self.members.shape:
            raise BadInputError(
                f"signals: expected memberships {self.shadows.shape[:2]}, one for each shadow and record, got "
                f"{self.members.shape}."
            )

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def confidence(self) -> np.ndarray:
        """Logit-scaled confidence of the target, float64 `(N,)`."""
        if self.target is None:
            raise BadInputError("signals: the target was never asked about these records.")
        return scaled_confidence(self.target, self.labels)

    @cached_property
    def shadow_confidence(self) -> np.ndarray:
        """Logit-scaled confidence of every shadow model, float64 `(N, S)`."""
        if self.shadows is None:
            raise BadInputError("signals: there are no shadow models.")
        return np.stack([scaled_confidence(one, self.labels) for one in self.shadows], axis=1)

    @cached_property
    def inside(self) -> Moments:
        """Moments of each record's confidence over the shadow models trained on it."""
        return masked_moments(self.shadow_confidence, self.membership)

    @cached_property
    def outside(self) -> Moments:
        """Moments of each record's confidence over the shadow models not trained on it."""
        return masked_moments(self.shadow_confidence, ~self.membership)

    @property
    def membership(self) -> np.ndarray:
        """Whether record `n` was in shadow `s`'s training set, bool `(N, S)` as `shadow_confidence` is laid out."""
        if self.members is None:
            raise BadInputError("signals: there are no shadow models.")
        return self.members.T


@dataclass(frozen=True, eq=False)
class View:
    """All that one membership adversary looks at.

    Args:
        candidates: the records whose membership is asked; their true membership is not here.
        population: records known not to be members of the target, disjoint from the candidates.
        shadowed: records on which shadow models' memberships are known, to train attack models on; the candidates where
            left out.
    """

    candidates: Signals
    population: Signals | None = None
    shadowed: Signals | None = None

    @property
    def reference(self) -> Signals:
        """Where shadow memberships are known."""
        return self.shadowed if self.shadowed is not None else self.candidates


@dataclass(frozen=True, eq=False)
class MembershipScores:
    """Evidence of a membership attack: one score a candidate, higher means more likely a member.

    Args:
        scores: finite float64 `(N,)`.
        attack: the attack's name.
        decisions: the attack's own yes or no for each candidate, bool `(N,)`, where it has a calibrated threshold.
        facts: what else the attack says of itself, such as the `train_accuracy` of its attack model.
    """

    scores: np.ndarray
    attack: str
    decisions: np.ndarray | None = None
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MembershipAttack(Attack):
    """Scores candidates by how likely they were in the target's training set.

    A concrete attack writes `score`; `run` owns asking, checking and the form of the evidence.
    """

    trains: ClassVar[bool] = False
    """Whether it fits a model of its own, which takes seconds to minutes."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """What must be in the view: any of `shadows` (some shadow model; on the candidates), `in` (candidates also inside
    some shadow's training set), `attack-data` (a reference with records inside and outside), `population`,
    `population-shadows` (shadow models asked about the population), `inputs` (of candidates and population)."""

    @property
    def label(self) -> str:
        """The name, with the settings that are not the defaults, such as `lira (mode=offline)`."""
        return labelled(self.name, self)

    def requirements(self) -> frozenset[str]:
        """What must be in the view under these settings: `needs`, unless a setting asks for more."""
        return self.needs

    def unable(self, view: View) -> str | None:
        """Why this attack cannot run on `view`, in words; None if it can."""
        candidates, reference, population = view.candidates, view.reference, view.population
        needs = self.requirements()
        if "shadows" in needs and candidates.shadows is None:
            return "needs shadow models that were asked about the candidates"
        if "in" in needs and (candidates.members is None or not candidates.members.any(axis=0).all()):
            return "needs every candidate inside at least one shadow's training set"
        if "attack-data" in needs and (
            reference.members is None or not reference.members.any() or reference.members.all()
        ):
            return "needs a shadow model with records inside and outside its training set"
        if "population" in needs and (population is None or population.target is None or not len(population)):
            return "needs records known not to be members, besides the candidates"
        if "population-shadows" in needs and (population is None or population.shadows is None):
            return "needs shadow models that were asked about the population"
        if "inputs" in needs and (candidates.inputs is None or population is None or population.inputs is None):
            return "needs the records themselves, not only posteriors"
        return None

    def run(self, view: View, *, seed: int = 0) -> MembershipScores:
        """Score the candidates of `view`.

        Raises:
            BadInputError: the view lacks what the attack needs, or a score came out NaN or infinite.
        """
        reason = self.unable(view)
        if reason:
            raise BadInputError(f"attack {self.name!r} {reason}.")
        evidence = self.score(view, seed=seed)
        if not isinstance(evidence, MembershipScores):
            evidence = MembershipScores(evidence, self.name)
        scores = np.asarray(evidence.scores, dtype=np.float64)
        if scores.shape != (len(view.candidates),) or not np.isfinite(scores).all():
            raise BadInputError(
                f"attack {self.name!r}: expected {len(view.candidates)} finite scores, got shape {scores.shape} with "
                f"{int((~np.isfinite(scores)).sum())} not finite."
            )
        return MembershipScores(scores, self.name, evidence.decisions, evidence.facts)

    @abstractmethod
    def score(self, view: View, *, seed: int) -> np.ndarray | MembershipScores:
        """One number for each candidate, higher for likely members; pure, deterministic given `seed`."""


@dataclass(frozen=True)
class TwoSidedAttack(MembershipAttack):
    """Base of attacks that compare a candidate with shadow models trained on it and not on it.

    Args:
        mode: which of a candidate's own shadow signals to use.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"shadows"})

    mode: Mode = "auto"

    def requirements(self) -> frozenset[str]:
        """What must be in the view; `online` also needs every candidate inside some training set."""
        return self.needs | {"in"} if self.mode == "online" else self.needs

    def online(self, candidates: Signals) -> bool:
        """Whether signals from inside training sets are used."""
        return self.mode != "offline" and bool(candidates.membership.any(axis=1).all())
