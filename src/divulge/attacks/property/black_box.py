"""A group's share in a training set, told by answers alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from divulge.attacks.knowledge import Knowledge
from divulge.attacks.membership.base import scaled_confidence
from divulge.attacks.property.base import PropertyAttack, PropertyGuesses, discriminant
from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.releases import Posteriors


@dataclass(frozen=True)
class BlackBox(PropertyAttack):
    """Base of the attacks that ask; `Knowledge.data` are records to ask about, in no target's training set."""

    def records(self, knowledge: Knowledge) -> Dataset:
        """What can be asked about.

        Raises:
            BadInputError: nothing was given, or a defense is named that the shadow models should have been trained
                under instead.
        """
        if knowledge.data is None or not len(knowledge.data):
            raise BadInputError(f"{self.name}: expected records to ask about in knowledge.data, got none.")
        if knowledge.defense is not None or knowledge.randomness is not None:
            raise BadInputError(
                f"{self.name} adapts to a defense by its shadow models: train them under it, let them answer through "
                "it, and leave it out of the knowledge."
            )
        return knowledge.data


@dataclass(frozen=True)
class ChosenQueries(BlackBox):
    """Asks about the few records whose confidence differs most between the worlds.

    The logit gap of Chaudhari et al. 2022 (SNAP, arXiv 2208.12348) without its poisoned records: logit-scaled
    confidences are taken as normal in each world. Records are picked one after another on the shadow models, each for
    what it adds to those before; a target is then asked about these alone, and the likelihood ratio decides.

    Args:
        queries: how many records a target is asked about.
    """

    name: ClassVar[str] = "chosen-queries"
    source: ClassVar[str] = "Chaudhari et al. 2022, arXiv 2208.12348"

    queries: int = 20

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise BadInputError(f"chosen-queries: expected queries >= 1, got {self.queries}.")

    def run(
        self, shadows: Sequence[Posteriors], has: np.ndarray, targets: Sequence[Posteriors], *, knowledge: Knowledge
    ) -> PropertyGuesses:
        """Tell the world of each target; see `PropertyAttack`.

        Raises:
            BadInputError: too few shadow models, or nothing to ask about.
        """
        self.require(shadows, has, targets)
        data = self.records(knowledge)
        known = _confidences(shadows, data)
        picked = _picked(known, has, min(self.queries, len(data)))
        chosen = data[picked]
        scores = discriminant(known[:, picked], has, _confidences(targets, chosen))
        return PropertyGuesses(scores, queries=len(chosen))


@dataclass(frozen=True)
class GroupLoss(BlackBox):
    """Compares how well a model does on the group and on everyone else.

    Suri and Evans 2022 (arXiv 2109.06024), the loss test with the threshold of their threshold test: the difference of
    the two mean losses, cut half way between the shadow models of the two worlds.
    """

    name: ClassVar[str] = "group-loss"
    source: ClassVar[str] = "Suri and Evans 2022, arXiv 2109.06024"

    def run(
        self,
        shadows: Sequence[Posteriors],
        has: np.ndarray,
        targets: Sequence[Posteriors],
        *,
        knowledge: Knowledge,
        group: np.ndarray,
    ) -> PropertyGuesses:
        """Tell the world of each target; see `PropertyAttack`.

        Args:
            shadows: the adversary's models.
            has: which of them have the property.
            targets: the models to tell.
            knowledge: with the records to ask about.
            group: which of those belong to the group, bool.

        Raises:
            BadInputError: too few shadow models, nothing to ask about, or records of the group or of others alone.
        """
        self.require(shadows, has, targets)
        data = self.records(knowledge)
        if group.shape != (len(data),) or group.dtype != bool or group.all() or not group.any():
            raise BadInputError(
                f"group-loss: expected records of the group and others, marked by bool ({len(data)},), got "
                f"{group.dtype} of shape {group.shape}."
            )

        def gap(models: Sequence[Posteriors]) -> np.ndarray:
            losses = np.logaddexp(0, -_confidences(models, data))
            return (losses[:, group].mean(axis=1) - losses[:, ~group].mean(axis=1))[:, None]

        return PropertyGuesses(discriminant(gap(shadows), has, gap(targets)), queries=len(data))


@dataclass(frozen=True)
class NearestWorld(BlackBox):
    """Asks to which world's shadow models a target's answers are nearer.

    Suri et al. 2023 (arXiv 2212.07591), the KL test: for every pair of shadow models, one of each world, the
    Kullback-Leibler divergence of the target's answers from theirs votes for the nearer one.
    """

    name: ClassVar[str] = "nearest-world"
    source: ClassVar[str] = "Suri et al. 2023, arXiv 2212.07591"

    def run(
        self, shadows: Sequence[Posteriors], has: np.ndarray, targets: Sequence[Posteriors], *, knowledge: Knowledge
    ) -> PropertyGuesses:
        """Tell the world of each target; see `PropertyAttack`.

        Raises:
            BadInputError: too few shadow models, or nothing to ask about.
        """
        self.require(shadows, has, targets)
        data = self.records(knowledge)
        known, asked = (_log_posteriors(models, data).reshape(len(models), -1) for models in (shadows, targets))
        cross = -np.exp(asked) @ known.T  # the target's own entropy is the same for every shadow model
        near, far = cross[:, has], np.sort(cross[:, ~has], axis=1)
        votes = [
            (len(line) - np.searchsorted(line, row, side="right")).sum() - np.searchsorted(line, row, side="left").sum()
            for row, line in zip(near, far, strict=True)
        ]
        return PropertyGuesses(np.array(votes) / (near.shape[1] * far.shape[1]), queries=len(data))


def _confidences(models: Sequence[Posteriors], data: Dataset) -> np.ndarray:
    """Logit-scaled confidence of each model in the records' classes, float64 `(models, n)`."""
    labels = data.targets.numpy()
    return np.stack([scaled_confidence(model.logits(data.inputs), labels) for model in models])


def _log_posteriors(models: Sequence[Posteriors], data: Dataset) -> np.ndarray:
    from scipy.special import log_softmax

    return np.stack([log_softmax(model.logits(data.inputs), axis=1) for model in models])


def _picked(known: np.ndarray, has: np.ndarray, count: int) -> np.ndarray:
    """Records, one after another, that add most to the squared distance of the worlds given those before, `(count,)`.

    After each pick, what it explains of the others is taken out of their means and covariances (a Cholesky step).
    """
    ahead, behind = known[has].mean(axis=0), known[~has].mean(axis=0)
    within = np.concatenate([known[has] - ahead, known[~has] - behind])
    covariance, gap = within.T @ within / len(within), ahead - behind
    floor = 0.1 * np.diag(covariance) + 1e-12  # no record is trusted beyond this, which few shadow models cannot show
    chosen: list[int] = []
    for _ in range(count):
        gain = gap**2 / np.maximum(np.diag(covariance), floor)
        gain[chosen] = -1
        best = int(gain.argmax())
        chosen.append(best)
        along = covariance[best] / max(covariance[best, best], floor[best])
        gap = gap - along * gap[best]
        covariance = covariance - np.outer(along, covariance[best])
    return np.array(chosen)
