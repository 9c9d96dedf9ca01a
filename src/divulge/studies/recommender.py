"""Studies of federated recommenders: the basket of a user out of the update that the user shares."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from divulge.attacks import ATTACKS
from divulge.attacks.recommenders import RecommenderAttack
from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.recommender import (
    CONTROL,
    METRICS,
    PARTS,
    POPULAR,
    RANDOM,
    TRUTH,
    BasketAttempt,
    Fitting,
    Guess,
    attack_baskets,
    fit,
    guess_baskets,
)
from divulge.data import concatenate, load
from divulge.defenses.recommenders import BASKET_DEFENSES, BasketDefense
from divulge.defenses.recommenders.base import Undefended
from divulge.errors import BadInputError
from divulge.metrics import Estimate, Finding, bootstrap, clopper_pearson
from divulge.models.multvae import MultVAE
from divulge.privacy.accounting import epsilon
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store
from divulge.studies.base import Row, Study, percent
from divulge.training.recommender import BEST, RECALLED, RecommenderFederation

State = Literal["untrained", "trained"]
Adversary = Literal["none", "blind", "adaptive", "oracle"]
GUESSES = {POPULAR: "no update seen, the most popular items", RANDOM: "no update seen, any items"}
DELTA = 1e-5


@dataclass(frozen=True)
class Tried:
    """An attack of a case and how much of it is run.

    Args:
        attack: its name, or its name and settings.
        adversaries: who tries; those of the case if empty.
        states: whose updates; those of the case if empty.
        victims: users attacked; those of the study if None.
        drawn: whether dropout and the code draw; without, the published conditions of the searches.
        row: what to call it, besides the case; its name if empty.
        published: the literature's numbers by metric.
    """

    attack: str | dict[str, Any]
    adversaries: tuple[Adversary, ...] = ()
    states: tuple[State, ...] = ()
    victims: int | None = None
    drawn: bool = True
    row: str = ""
    published: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One way in which users share, and what is tried on it.

    Args:
        row: its name in words.
        attacks: what is tried.
        defense: of the users, by name or with settings.
        adversaries: who tries: `none` where there is nothing to adapt to.
        states: whose updates: of a recommender with its first weights, or of one trained under the defense.
        trained: whether a recommender is trained under it in any case, for what it costs.
    """

    row: str
    attacks: tuple[Tried, ...] = ()
    defense: str | dict[str, Any] = "none"
    adversaries: tuple[Adversary, ...] = ("none",)
    states: tuple[State, ...] = ("untrained", "trained")
    trained: bool = True


@dataclass(frozen=True, eq=False)
class Cell:
    """One attack of one adversary on one state of the recommender."""

    key: str
    row: str
    attack: RecommenderAttack
    adversary: Adversary
    state: State
    victims: int
    tried: Tried


@dataclass(frozen=True)
class RecommenderStudy(Study):
    """FedVAE under some ways of sharing: how well it recommends, and what of a basket an update gives away.

    Beside each number on a basket stands the same against another victim's basket, and two rows tell how far one comes
    without any update; beside each recommendation, the one of the most popular items.

    Args:
        data: name of a set of interactions in the catalog, with held-out users.
        cases: what is measured.
        victims: users attacked.
        epochs: of the training.
        dropout: of the input.
        seed: of the first weights, the training and the victims.
    """

    name: ClassVar[str] = "recommender"

    data: str
    cases: tuple[Case, ...]
    victims: int = 100
    epochs: int = 100
    dropout: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        for case in self.cases:
            for cell in self._cells(case):
                if cell.victims % self._defense(case).summed:
                    raise BadInputError(
                        f"{self.title}, {case.row}: expected victims that go into groups of "
                        f"{self._defense(case).summed}, got {cell.victims}."
                    )

    def steps(self, store: Store, *, data_dir: Path | None) -> dict[str, Step]:
        """The data, what is guessed without an update, each recommender that is trained, and each attack."""
        parts = [load(self.data, part=part, data_dir=data_dir) for part in PARTS]
        ends = np.cumsum([0, *map(len, parts)])
        rows = {name: np.arange(*ends[index : index + 2]) for index, name in enumerate(PARTS)}
        data = keep(Corpus(concatenate(parts), rows), store)
        steps = {"data": data, "guess": Step(guess_baskets, Guess(self.victims, self.seed), {"data": data})}
        architecture = MultVAE(dropout=self.dropout)
        for case in self.cases:
            defense, cells = self._defense(case), list(self._cells(case))
            target = None
            if case.trained:
                # what is only seen as a sum is trained as if each update were seen
                under = defense if defense.in_training else Undefended()
                fitting = Fitting(architecture, under, self._federation(defense), self.seed)
                target = steps[f"{case.row}/target"] = Step(fit, fitting, {"data": data}, label=case.row, cost=10)
            for cell in cells:
                attempt = BasketAttempt(
                    architecture,
                    defense,
                    cell.attack,
                    cell.victims,
                    None if cell.adversary == "none" else cell.adversary,
                    self.seed,
                    trained=cell.state == "trained",
                    drawn=cell.tried.drawn,
                )
                given = {"data": data, "target": target} if target and cell.state == "trained" else {"data": data}
                steps[cell.key] = Step(attack_baskets, attempt, given, label=cell.key.replace("/", ", "))
        return steps

    def rows(self, done: Mapping[str, Artifact]) -> list[Row]:
        """What is guessed without an update, how well each recommender works, then what each attack finds."""
        rows = [
            _row(words, metric, done["guess"], f"{name}/{metric}", None, {}, None)
            for name, words in GUESSES.items()
            for metric in METRICS
        ]
        for case in self.cases:
            if f"{case.row}/target" in done:
                rows += self._utility(case, done[f"{case.row}/target"])
            together = self._defense(case).summed
            for cell in self._cells(case):
                told, found = None if cell.adversary == "none" else cell.adversary, done[cell.key]
                names = {metric: (f"{TRUTH}/{metric}", f"{CONTROL}/{metric}") for metric in METRICS}
                rows += [
                    _row(cell.row, metric, found, *names[metric], cell.tried.published, told, together)
                    for metric in METRICS
                ]
                milliseconds, records = 1000 * float(found.facts["seconds"]), int(found.facts["records"])
                rows.append(
                    Row(cell.row, "computing time a record", "ms", None, milliseconds, None, None, records, None, told)
                )
        return rows

    def _utility(self, case: Case, fitted: Artifact) -> Iterator[Row]:
        """How well a recommender works, and what its training promises to each user."""
        for metric in (f"NDCG@{BEST}", *(f"Recall@{k}" for k in RECALLED)):
            yield _row(case.row, metric, fitted, metric, f"{CONTROL}/{metric}", {}, None)
        users, federation = int(fitted.facts["users"]), self._federation(self._defense(case))
        poisson = federation.sampling == "poisson"
        rounds = self.epochs * (math.ceil(users / federation.users) if poisson else 1)
        rate = min(1.0, federation.users / users) if poisson else 1.0
        ledger = self._defense(case).ledger(users=users, rounds=rounds, sampling_rate=rate)
        if ledger is not None:
            spent = epsilon(ledger, delta=DELTA).epsilon
            metric = f"epsilon of a user at delta {DELTA:g}"
            yield Row(case.row, metric, "1", None, spent, None, None, users, None, None)

    def _federation(self, defense: BasketDefense) -> RecommenderFederation:
        """Where only noisy sums are seen, users are drawn by coins, as many in the mean as the noise is shared by."""
        sharing = defense.sharing
        if sharing.std > 0 and defense.summed > 1:
            return RecommenderFederation(self.epochs, defense.summed, sharing=sharing, sampling="poisson")
        return RecommenderFederation(self.epochs, sharing=sharing)

    def _defense(self, case: Case) -> BasketDefense:
        return BASKET_DEFENSES.make(case.defense, where=self.title)

    def _cells(self, case: Case) -> Iterator[Cell]:
        for tried in case.attacks:
            attack = ATTACKS.make(tried.attack, where=self.title)
            if not isinstance(attack, RecommenderAttack):
                raise BadInputError(f"{self.title}: expected attacks on recommenders, got {tried.attack!r}.")
            words = tried.row or attack.name
            for adversary in tried.adversaries or case.adversaries:
                for state in tried.states or case.states:
                    key, row = f"{case.row}/{words}/{adversary}/{state}", f"{case.row}, {words}, {state}"
                    count = self.victims if tried.victims is None else tried.victims
                    yield Cell(key, row, attack, adversary, state, count, tried)


def _row(
    row: str,
    metric: str,
    artifact: Artifact,
    own: str,
    control: str | None,
    published: Mapping[str, float],
    adversary: str | None,
    together: int = 1,
) -> Row:
    nothing = None if control is None else _finding(metric, apart(artifact, control, together), None, None)
    found = _finding(metric, apart(artifact, own, together), nothing, adversary)
    return percent(found, row=row, published=published.get(metric))


def apart(artifact: Artifact, name: str, together: int) -> np.ndarray:
    """One number for each record: users whose sum is one record are found together or not at all."""
    values = np.asarray(artifact.arrays[name])
    if together == 1 or len(values) == artifact.facts["records"]:
        return values
    return values.reshape(-1, together).mean(axis=1)


def _finding(metric: str, values: np.ndarray, control: Finding | None, adversary: str | None) -> Finding:
    """The mean over records: its interval is exact for a share of them, and else that of the bootstrap."""
    told = bootstrap(np.mean, values, seed=0)
    if metric == "whole baskets" and np.isin(values, (0, 1)).all():
        low, high = clopper_pearson(values.sum(), len(values))
        told = Estimate(told.value, float(low), float(high))
    return Finding(metric, *told, n=len(values), control=control, adversary=adversary)
