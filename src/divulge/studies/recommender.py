"""Studies of federated recommenders: the basket of a user out of the update that the user shares."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from divulge.attacks import ATTACKS
from divulge.attacks.recommenders import RecommenderAttack
from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.recommender import (
    CONTROL,
    METRICS,
    PARTS,
    TRUTH,
    BasketAttempt,
    Fitting,
    attack_baskets,
    fit,
)
from divulge.data import concatenate, load
from divulge.errors import BadInputError
from divulge.metrics import Finding, bootstrap
from divulge.models.multvae import MultVAE
from divulge.releases.baskets import BasketSharing
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store
from divulge.studies.base import Row, Study, percent
from divulge.training.recommender import BEST, RECALLED, RecommenderFederation

State = Literal["untrained", "trained"]
Adversary = Literal["none", "blind", "adaptive"]


@dataclass(frozen=True)
class Case:
    """One way in which users share, and what is tried on it.

    Args:
        row: its name in words.
        attacks: what is tried, by name or with settings.
        sharing: what each user does before sharing.
        output_bias: whether the recommender's last layer has biases.
        adversaries: who tries: `none` where there is nothing to adapt to.
        states: whose updates: of a recommender with its first weights, or of one trained under the same sharing.
        users: how many users' updates are summed before anyone sees them.
        published: the literature's numbers by metric.
    """

    row: str
    attacks: tuple[str, ...]
    sharing: BasketSharing = field(default_factory=BasketSharing)
    output_bias: bool = True
    adversaries: tuple[Adversary, ...] = ("none",)
    states: tuple[State, ...] = ("untrained", "trained")
    users: int = 1
    published: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RecommenderStudy(Study):
    """FedVAE under some ways of sharing: how well it recommends, and what of a basket an update gives away.

    Beside each number on a basket stands the same against another victim's basket; beside each recommendation, the one
    of the most popular items.

    Args:
        data: name of a set of interactions in the catalog, with held-out users.
        cases: what is measured.
        victims: users attacked in each case.
        epochs: of the training.
        seed: of the first weights, the training and the victims.
    """

    name: ClassVar[str] = "recommender"

    data: str
    cases: tuple[Case, ...]
    victims: int = 100
    epochs: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for case in self.cases:
            if self.victims % case.users:
                raise BadInputError(
                    f"{self.title}, {case.row}: expected victims that go into groups of {case.users}, got "
                    f"{self.victims}."
                )

    def steps(self, store: Store, *, data_dir: Path | None) -> dict[str, Step]:
        """The data, each recommender that is trained, and each attack."""
        parts = [load(self.data, part=part, data_dir=data_dir) for part in PARTS]
        ends = np.cumsum([0, *map(len, parts)])
        rows = {name: np.arange(*ends[index : index + 2]) for index, name in enumerate(PARTS)}
        data = keep(Corpus(concatenate(parts), rows), store)
        steps = {"data": data}
        for case in self.cases:
            architecture = MultVAE(output_bias=case.output_bias)
            target = None
            if "trained" in case.states:
                federation = RecommenderFederation(epochs=self.epochs, sharing=case.sharing)
                fitting = Fitting(architecture, federation, self.seed)
                target = steps[f"{case.row}/target"] = Step(fit, fitting, {"data": data}, label=case.row, cost=10)
            for key, attack, adversary, state in self._cells(case):
                attempt = BasketAttempt(
                    architecture,
                    attack,
                    self.victims,
                    case.users,
                    case.sharing,
                    None if adversary == "none" else adversary,
                    self.seed,
                    trained=state == "trained",
                )
                given = {"data": data, "target": target} if target and state == "trained" else {"data": data}
                steps[key] = Step(attack_baskets, attempt, given, label=key.replace("/", ", "))
        return steps

    def rows(self, done: Mapping[str, Artifact]) -> list[Row]:
        """How well each recommender works, then what each attack finds."""
        rows = []
        for case in self.cases:
            if f"{case.row}/target" in done:
                fitted = done[f"{case.row}/target"]
                for metric in (f"NDCG@{BEST}", *(f"Recall@{k}" for k in RECALLED)):
                    rows.append(_row(case.row, metric, fitted, metric, f"{CONTROL}/{metric}", case.published, None))
            for key, attack, adversary, state in self._cells(case):
                told = None if adversary == "none" else adversary
                row = f"{case.row}, {attack.name}, {state}"
                rows += [
                    _row(row, metric, done[key], f"{TRUTH}/{metric}", f"{CONTROL}/{metric}", case.published, told)
                    for metric in METRICS
                ]
        return rows

    def _cells(self, case: Case) -> list[tuple[str, RecommenderAttack, Adversary, State]]:
        cells = []
        for name in case.attacks:
            attack = ATTACKS.make(name, where=self.title)
            if not isinstance(attack, RecommenderAttack):
                raise BadInputError(f"{self.title}: expected attacks on recommenders, got {name!r}.")
            for adversary in case.adversaries:
                for state in case.states:
                    cells.append((f"{case.row}/{name}/{adversary}/{state}", attack, adversary, state))
        return cells


def _row(
    row: str,
    metric: str,
    artifact: Artifact,
    own: str,
    control: str,
    published: Mapping[str, float],
    adversary: str | None,
) -> Row:
    measured, other = (np.asarray(artifact.arrays[key]) for key in (own, control))
    nothing = Finding(metric, *bootstrap(np.mean, other, seed=0), n=len(other))
    finding = Finding(
        metric, *bootstrap(np.mean, measured, seed=0), n=len(measured), control=nothing, adversary=adversary
    )
    return percent(finding, row=row, published=published.get(metric))
