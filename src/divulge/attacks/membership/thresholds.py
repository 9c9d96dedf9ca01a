"""Attacks that compare one number of the target's answer with a threshold; no attack model is trained."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from divulge.attacks.membership.base import MembershipAttack, MembershipScores, Signals, View, scaled_confidence
from divulge.metrics.roc import best_threshold


def log_posteriors(logits: np.ndarray) -> np.ndarray:
    """Normalized log-posteriors, float64, of logits `(..., C)`."""
    logits = np.asarray(logits, dtype=np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


@dataclass(frozen=True)
class ThresholdAttack(MembershipAttack):
    """Base of attacks on one number per record; the decisions' threshold comes from the first shadow model, if any.

    Args:
        per_class: one threshold for each class instead of one for all; the score is then the distance to it. A class
            that the shadow model does not have on both sides gets the threshold for all.
    """

    per_class: bool = False

    @abstractmethod
    def statistic(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The number, float64 `(N,)`, higher for likely members, of answers `(N, C)`."""

    def requirements(self) -> frozenset[str]:
        """What must be in the view; thresholds per class need a shadow model."""
        return self.needs | {"attack-data"} if self.per_class else self.needs

    def score(self, view: View, *, seed: int) -> np.ndarray | MembershipScores:
        """The statistic, less its class's threshold where those are asked for."""
        signals, reference = view.candidates, view.reference
        values = self.statistic(answers(signals), signals.labels)
        shadow = first_two_sided(reference)
        if shadow is None:
            return values
        logits, members = shadow
        known = self.statistic(logits, reference.labels)
        overall = best_threshold(known, members)
        if not self.per_class:
            return MembershipScores(values, self.name, values >= overall)
        for label in np.unique(signals.labels):
            rows, own = signals.labels == label, reference.labels == label
            two_sided = members[own].any() and not members[own].all()
            values[rows] -= best_threshold(known[own], members[own]) if two_sided else overall
        return MembershipScores(values, self.name, values >= 0)


def answers(signals: Signals) -> np.ndarray:
    """The target's logits on these records."""
    signals.confidence  # noqa: B018 - raises where the target was never asked
    assert signals.target is not None
    return signals.target


def first_two_sided(reference: Signals) -> tuple[np.ndarray, np.ndarray] | None:
    """Logits `(N, C)` and memberships `(N,)` of the first shadow model with records on both sides; None without."""
    if reference.shadows is None or reference.members is None:
        return None
    for logits, members in zip(reference.shadows, reference.members, strict=True):
        if members.any() and not members.all():
            return logits, members
    return None


@dataclass(frozen=True)
class Gap(MembershipAttack):
    """Calls a record a member if the target classifies it right.

    Yeom et al. 2018 (arXiv 1709.01604). Its advantage is the gap between train and test accuracy.
    """

    name: ClassVar[str] = "gap"
    source: ClassVar[str] = "Yeom et al. 2018, arXiv 1709.01604"

    def score(self, view: View, *, seed: int) -> MembershipScores:
        """1 where the most likely class is the label, else 0."""
        right = answers(view.candidates).argmax(axis=1) == view.candidates.labels
        return MembershipScores(right.astype(np.float64), self.name, right)


@dataclass(frozen=True)
class Loss(MembershipAttack):
    """Calls a record a member if its cross-entropy is low.

    Yeom et al. 2018 (arXiv 1709.01604). Where a shadow model is known, decisions compare with its mean training loss.
    """

    name: ClassVar[str] = "loss"
    source: ClassVar[str] = "Yeom et al. 2018, arXiv 1709.01604"

    def score(self, view: View, *, seed: int) -> MembershipScores:
        """Log-posterior of the label."""
        values = -np.logaddexp(0, -view.candidates.confidence)
        shadow = first_two_sided(view.reference)
        if shadow is None:
            return MembershipScores(values, self.name)
        logits, members = shadow
        inside = scaled_confidence(logits[members], view.reference.labels[members])
        return MembershipScores(values, self.name, values >= -np.logaddexp(0, -inside).mean())


@dataclass(frozen=True)
class Confidence(ThresholdAttack):
    """Calls a record a member if the target is confident.

    Salem et al. 2019 (arXiv 1806.01246), adversary 3, for the largest posterior; Song and Mittal 2021 (arXiv
    2003.10595) for the label's. Compared as log-odds, which rank alike and do not saturate.

    Args:
        posterior: `top` for the largest, `true` for the label's.
    """

    name: ClassVar[str] = "confidence"
    source: ClassVar[str] = "Salem et al. 2019, arXiv 1806.01246; Song and Mittal 2021, arXiv 2003.10595"

    posterior: Literal["top", "true"] = "top"

    def statistic(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Log-odds of the chosen posterior."""
        return scaled_confidence(logits, logits.argmax(axis=1) if self.posterior == "top" else labels)


@dataclass(frozen=True)
class Entropy(ThresholdAttack):
    """Calls a record a member if the posteriors' entropy is low.

    Salem et al. 2019 (arXiv 1806.01246), adversary 3; Song and Mittal 2021 (arXiv 2003.10595) per class.
    """

    name: ClassVar[str] = "entropy"
    source: ClassVar[str] = "Salem et al. 2019, arXiv 1806.01246; Song and Mittal 2021, arXiv 2003.10595"

    def statistic(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Negative entropy, in nats."""
        log_p = log_posteriors(logits)
        return (np.exp(log_p) * log_p).sum(axis=1)


@dataclass(frozen=True)
class ModifiedEntropy(ThresholdAttack):
    """Calls a record a member if the posteriors are sure of the right label.

    Song and Mittal 2021 (arXiv 2003.10595), equation 8: entropy that grows when the target is sure of a wrong class.
    """

    name: ClassVar[str] = "modified-entropy"
    source: ClassVar[str] = "Song and Mittal 2021, arXiv 2003.10595"

    def statistic(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Negative modified entropy, in nats."""
        log_p = log_posteriors(logits)
        p = np.exp(log_p)
        rest = np.maximum(1 - p, 2.0**-53)  # keeps the logarithm finite where a posterior rounds to 1
        terms = p * np.log(rest)
        index = labels[:, None]
        own = np.take_along_axis(rest, index, 1) * np.take_along_axis(log_p, index, 1)
        np.put_along_axis(terms, index, own, axis=1)
        return terms.sum(axis=1)
