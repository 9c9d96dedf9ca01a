"""Many models of one design, each on a random half of a pool: the first are attacked, the rest are shadows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from divulge.attacks import ATTACKS
from divulge.attacks.membership import MembershipAttack, Signals, View
from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.train import Training, shadow_steps
from divulge.data import load, split
from divulge.errors import BadInputError
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store

POOL, POPULATION = "pool", "population"


def halves(data: str, *, pool: int, population: int, seed: int, data_dir: Any) -> Corpus:
    """A pool of candidates and further records that are in no training set."""
    records = load(data, data_dir=data_dir)
    return Corpus(records, split(records, {POOL: pool, POPULATION: population}, seed=seed).rows)


def model_steps(training: Training, corpus: Corpus, store: Store, *, count: int, label: str) -> dict[str, Step]:
    """The steps that train `count` models of one design; `training` answers about pool and population."""
    return shadow_steps(training, keep(corpus, store), like=corpus.data, count=count, label=label)


@dataclass(frozen=True, eq=False)
class Models:
    """What the models answered.

    Args:
        logits: `(models, n, C)`, about the pool and then the population.
        members: bool `(models, n)`.
        labels: `(n,)`.
        pool: how many of the records are candidates.
        targets: how many of the models, the first, are attacked in turn.
    """

    logits: np.ndarray
    members: np.ndarray
    labels: np.ndarray
    pool: int
    targets: int

    @classmethod
    def of(cls, parts: Sequence[Artifact], *, pool: int, targets: int) -> "Models":
        """The answers that the steps of `model_steps` left, in their order."""
        logits, members = (
            np.concatenate([np.asarray(part.arrays[name]) for part in parts]) for name in ("logits", "members")
        )
        return cls(logits, members, np.asarray(parts[0].arrays["labels"]), pool, targets)

    def attacked(self, attack: MembershipAttack, *, shadows: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Scores and memberships of the candidates `(pool,)`, for each target."""
        references = slice(self.targets, self.targets + shadows)
        for target in range(self.targets):

            def signals(rows: slice, target: int = target) -> Signals:
                told = self.logits[references, rows], self.members[references, rows]
                return Signals(self.labels[rows], self.logits[target][rows], *told)

            view = View(signals(slice(self.pool)), signals(slice(self.pool, None)))
            yield attack.run(view, seed=seed).scores, self.members[target][: self.pool]

    def unrelated(self, target: int) -> np.ndarray:
        """Memberships `(pool,)` in a model whose half has nothing to do with the target's, for controls."""
        return self.members[(target + 2) % len(self.members)][: self.pool]

    def accuracies(self) -> np.ndarray:
        """Which records of the population each target gets right, bool `(targets, n)`."""
        answers = self.logits[: self.targets, self.pool :].argmax(axis=2)
        return answers == self.labels[self.pool :]


def membership_attack(spec: Mapping[str, Any], *, where: str) -> MembershipAttack:
    """The membership attack that a study names.

    Raises:
        BadInputError: no such attack, or one of another kind.
    """
    made = ATTACKS.make(spec, where=where)
    if not isinstance(made, MembershipAttack):
        raise BadInputError(f"{where}: expected membership attacks, got {spec['name']!r}.")
    return made
