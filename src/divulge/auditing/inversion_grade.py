"""How well drawings of classes are recognized, beside those of an untrained copy and what is known without it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from divulge.attacks.inversion import InversionAttack
from divulge.data import Dataset
from divulge.metrics import Estimate, Finding, clopper_pearson
from divulge.metrics.intervals import bootstrap
from divulge.metrics.nearest import correlation
from divulge.metrics.recognition import recognize
from divulge.runs.step import Artifact


@dataclass(frozen=True, eq=False)
class Drawn:
    """What one attack drew.

    Args:
        name: of the attack.
        attack: it.
        artifact: what its step left.
        control: what the same attack left of an untrained copy; None where there is none.
    """

    name: str
    attack: InversionAttack
    artifact: Artifact
    control: Artifact | None

    @cached_property
    def pictures(self) -> Tensor:
        """One for each class `(k, *shape)`."""
        return _pictures(self.artifact)

    @cached_property
    def blanks(self) -> Tensor | None:
        """The same of the untrained copy."""
        return None if self.control is None else _pictures(self.control)

    @property
    def queries(self) -> int:
        """Records that the model was asked about."""
        return int(self.artifact.facts["asked"])


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that was drawn.

    Args:
        drawn: by attack.
        refused: why the other attacks could not be run, by name.
        classes: which were drawn.
        members: training records.
        public: records that the adversary has.
        photographs: other records that the model never saw, which name the drawings.
    """

    drawn: tuple[Drawn, ...]
    refused: Mapping[str, str]
    classes: tuple[int, ...]
    members: Dataset
    public: Dataset
    photographs: Dataset


@dataclass(frozen=True)
class Grade:
    """How well drawings are recognized.

    Args:
        ranks: of the right class among all for each drawing, 0 for named first.
        named: share that is named first, its control that of the untrained copy, or of a guess.
        beyond: how much larger that share is than the control's, paired.
        five: share that is among the first five.
        training: share of the drawings that are nearer to a training picture than to any of as many other ones.
        anyway: how many of the means of other pictures of a class are named; None where there are no such pictures.
    """

    ranks: tuple[int, ...]
    named: Finding
    beyond: Estimate
    five: float
    training: Estimate
    anyway: Finding | None

    @property
    def records(self) -> bool:
        """Whether the drawings surely show training pictures, and not only what others of the class look like."""
        return self.training.low > 0.5

    @property
    def band(self) -> int:
        """How bad it is, an index into `divulge.auditing.facts.BANDS`.

        Nothing counts unless it surely exceeds the control. Beyond that: `weak` where whoever has other pictures of the
        classes could draw them as well; a band more where half of the classes are named, and surely more than of such
        drawings; and one more where they show training pictures.
        """
        control = self.named.control
        if control is None or self.named.low <= control.value or self.beyond.low <= 0:
            return 0
        new = self.anyway is None or self.named.low > self.anyway.value
        return 1 + (new and self.named.value >= 0.5) + self.records


def grade(one: Drawn, evidence: Evidence, *, confidence: float, seed: int) -> Grade:
    """Have the drawings of one attack named, and those of the untrained copy."""
    targets = torch.from_numpy(np.asarray(one.artifact.arrays["targets"]))
    ranks = _ranks(one.pictures, targets, evidence)
    k, known = len(ranks), len(evidence.photographs.targets.unique())
    right = ranks == 0
    if one.blanks is None:
        wrong = np.full(k, 1 / known)
        nothing = Finding("classes named", 1 / known, 1 / known, 1 / known, n=k)
    else:
        wrong = (_ranks(one.blanks, targets, evidence) == 0).astype(float)
        nothing = _share(int(wrong.sum()), k, confidence=0.95)
        if nothing.value < 1 / known:  # no copy is expected to do worse than a guess
            nothing = Finding(nothing.metric, 1 / known, nothing.low, max(nothing.high, 1 / known), n=k)
    named = _share(int(right.sum()), k, confidence=confidence, control=nothing)
    beyond = bootstrap(lambda a, b: float(a.mean() - b.mean()), right.astype(float), wrong, seed=seed)
    nearer = _nearer(one.pictures, targets, evidence, seed=seed)
    low, high = clopper_pearson(nearer.sum(), k)
    training = Estimate(float(nearer.mean()), float(low), float(high))
    anyway = recognized(*means(evidence.public, evidence.classes), evidence)
    return Grade(tuple(ranks.tolist()), named, beyond, float((ranks < 5).mean()), training, anyway)


def _share(right: int, n: int, *, confidence: float, control: Finding | None = None) -> Finding:
    low, high = clopper_pearson(right, n, confidence=confidence)
    return Finding("classes named", right / n, float(low), float(high), n=n, control=control)


def _ranks(pictures: Tensor, targets: Tensor, evidence: Evidence) -> np.ndarray:
    photographs = evidence.photographs
    return recognize(pictures, targets, photographs.inputs, photographs.targets).rank.numpy()


def _nearer(pictures: Tensor, targets: Tensor, evidence: Evidence, *, seed: int) -> np.ndarray:
    """Whether each drawing is nearer to a training picture of its class than to any of as many others of it."""
    rng, found = np.random.default_rng(seed), []
    for picture, target in zip(pictures, targets, strict=True):
        inside, outside = (side.inputs[side.targets == target] for side in (evidence.members, evidence.photographs))
        count = min(len(inside), len(outside))
        near, far = (
            float(correlation(picture[None], side[np.sort(rng.permutation(len(side))[:count])]).max())
            for side in (inside, outside)
        )
        found.append(near > far)
    return np.array(found)


def means(data: Dataset, classes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The mean picture of each of the classes that `data` shows, and which those are."""
    shown = [one for one in classes if bool((data.targets == one).any())]
    found = [data.inputs[data.targets == one].mean(dim=0) for one in shown]
    return torch.stack(found) if found else torch.zeros(0, *data.shape), torch.tensor(shown, dtype=torch.long)


def recognized(pictures: Tensor, targets: Tensor, evidence: Evidence) -> Finding | None:
    """How many of these pictures are named, out of those of all classes that were drawn; None where there are none."""
    if not len(targets):
        return None
    return _share(int((_ranks(pictures, targets, evidence) == 0).sum()), len(targets), confidence=0.95)


def _pictures(artifact: Artifact) -> Tensor:
    return torch.from_numpy(np.asarray(artifact.arrays["inputs"])).clamp(0, 1)
