"""What every attack on the users of a recommender names, beside what is guessed without their updates."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from divulge.attacks import ATTACKS
from divulge.attacks.recommenders import RecommenderAttack
from divulge.auditing.recommender import METRICS, POPULAR, Adversary, guesses, knowing, scored, shared
from divulge.auditing.recommenders.adversaries import SEARCHES, attacks_on
from divulge.auditing.recommenders.exchange import UserExchange
from divulge.defenses.recommenders import BasketDefense
from divulge.defenses.recommenders.base import Undefended
from divulge.errors import BadInputError
from divulge.releases import GradientRecord
from divulge.releases.baskets import Drawn

STEP = 0.03
"""Step size of the searches, larger than the published one as they are shorter."""


@dataclass(frozen=True, eq=False)
class Tried:
    """What one attack of one adversary named.

    Args:
        refused: why it did not run; empty if it did.
        named: for each record the sets of items, bool `(sets, items)`.
        claimed: records whose baskets it claims to have exactly, bool `(records,)`.
        scores: each metric of each user, or of each record where it names one set for all of its users `(n, metrics)`.
        others: the same against other users.
        guessed: the same of guesses without the update, by kind.
        seconds: of computing a record, the median.
    """

    refused: str = ""
    named: tuple[Tensor, ...] = ()
    claimed: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    scores: np.ndarray = field(default_factory=lambda: np.zeros((0, len(METRICS))))
    others: np.ndarray = field(default_factory=lambda: np.zeros((0, len(METRICS))))
    guessed: Mapping[str, np.ndarray] = field(default_factory=dict)
    seconds: float = 0.0

    def metric(self, name: str) -> np.ndarray:
        """One metric of each user."""
        return self.scores[:, METRICS.index(name)]

    def control(self, name: str) -> np.ndarray:
        """The same of as many of the most popular items."""
        return self.guessed[POPULAR][:, METRICS.index(name)]


@dataclass(frozen=True, eq=False)
class Case:
    """One adversary of one defense.

    Args:
        defense: of the users.
        adversary: None where there is no defense.
        users: rows of the users who were attacked, one list a record.
        tried: every attack by name, the strongest first.
        cosine: of the angle between what each user shares and would share without the defense; NaN where it
            changes the model or adds users up.
    """

    defense: BasketDefense
    adversary: Adversary | None
    users: tuple[Tensor, ...]
    tried: Mapping[str, Tried]
    cosine: np.ndarray

    @property
    def strongest(self) -> str:
        """The attack that an adversary would believe, chosen without a look at the truth.

        The first that claims every basket, else the first of those that ran.
        """
        ran = [name for name, one in self.tried.items() if not one.refused]
        return next((name for name in ran if self.tried[name].claimed.all()), ran[0])

    @property
    def best(self) -> Tried:
        """What that attack named."""
        return self.tried[self.strongest]


def gather(exchange: UserExchange) -> list[Case]:
    """Attack the users under no defense, under the declared one, and under those to try, in that order."""
    everything = (Undefended(), exchange.declared, *exchange.defenses)
    several = {one.label: one for one in everything}
    return [case for label, one in several.items() for case in _cases(exchange, one, label)]


def _cases(exchange: UserExchange, defense: BasketDefense, label: str) -> Iterator[Case]:
    full = label in (Undefended().label, exchange.declared.label)
    rows = exchange.victims[: None if full else exchange.plan.tried]
    groups = rows[: len(rows) // defense.summed * defense.summed].split(defense.summed)
    model = defense.architecture(exchange.network)
    attacks = {name: _made(name) for name in attacks_on(defense.name, summed=defense.summed > 1)}
    adversaries: list[Adversary | None] = [None]
    if not isinstance(defense, Undefended):
        adversaries = ["blind", "adaptive"]
        oracle = defense.sharing.std > 0 or defense.sharing.fakes > 0
        adversaries += ["oracle"] if oracle and defense.summed == 1 else []
    runs = {adversary: {name: _Run() for name in attacks} for adversary in adversaries}
    cosines, kept = [], []
    generator = torch.Generator().manual_seed(exchange.seed)
    most = max(one.each for one in attacks.values())
    for number, group in enumerate(groups):
        records, drawn, angle = _updates(exchange, defense, model, group, most, generator)
        cosines.append(angle)
        if number < exchange.plan.searched:
            kept.append((records[0], drawn[0]))
        for adversary, run in runs.items():
            for name, attack in attacks.items():
                if attack.each > 1 and adversary in (None, "blind"):
                    run[name].refused = "an adversary who knows of no defense asks once."
                run[name].step(exchange, defense, attack, adversary, model, group, records, drawn)
    for adversary, run in runs.items():
        tried = {name: one.told(exchange) for name, one in run.items()}
        if kept and defense.summed == 1 and not any(one.claimed.all() for one in tried.values() if not one.refused):
            tried |= _searched(exchange, defense, adversary, model, groups, kept)
        yield Case(defense, adversary, tuple(groups), tried, np.array(cosines))


class _Run:
    """One attack of one adversary, record by record."""

    def __init__(self) -> None:
        self.refused = ""
        self.named: list[Tensor] = []
        self.claimed: list[bool] = []
        self.rows: list[np.ndarray] = []
        self.others: list[np.ndarray] = []
        self.truth: list[Tensor] = []
        self.seconds: list[float] = []

    def step(
        self,
        exchange: UserExchange,
        defense: BasketDefense,
        attack: RecommenderAttack,
        adversary: Adversary | None,
        model: nn.Module,
        group: Tensor,
        records: list[GradientRecord],
        drawn: list[list[Drawn]],
    ) -> None:
        """Attack the record of some users."""
        if self.refused:
            return
        own = [one for turn in drawn[: attack.each] for one in turn]
        known = knowing(defense, adversary, exchange.public, own)
        start = time.process_time()
        try:
            found = attack.run(
                records[: attack.each], model, knowledge=known, generator=torch.Generator().manual_seed(exchange.seed)
            )
        except BadInputError as error:
            self.refused = str(error)
            return
        self.seconds.append(time.process_time() - start)
        self.take(exchange, group, found.items[0], found.scores[0], claimed=found.exact)

    def take(self, exchange: UserExchange, group: Tensor, items: Tensor, scores: Tensor, *, claimed: bool) -> None:
        """Score what was named for the users of a record."""
        truth = exchange.users.inputs[group] > 0
        others = exchange.users.inputs[(group + len(group)) % len(exchange.users)] > 0
        self.named.append(items)
        self.claimed.append(claimed)
        self.rows.append(scored(items, scores, truth))
        self.others.append(scored(items, scores, others))
        self.truth.append(truth if len(items) > 1 else truth.any(dim=0, keepdim=True))

    def told(self, exchange: UserExchange) -> Tried:
        """All records together."""
        if self.refused or not self.rows:
            return Tried(refused=self.refused)
        truth = torch.cat(self.truth)
        public = exchange.users.inputs if exchange.public is None else exchange.public.inputs
        guessed = guesses(truth, _outside(public, exchange), torch.Generator().manual_seed(exchange.seed))
        return Tried(
            "",
            tuple(self.named),
            np.array(self.claimed),
            np.concatenate(self.rows),
            np.concatenate(self.others),
            guessed,
            float(np.median(self.seconds)),
        )


def _outside(public: Tensor, exchange: UserExchange) -> Tensor:
    """Baskets that tell what is popular: those of others, or of the users who are not attacked if there are some."""
    if exchange.public is not None or len(exchange.victims) == len(public):
        return public
    kept = torch.ones(len(public), dtype=torch.bool)
    kept[exchange.victims] = False
    return public[kept]


def _updates(
    exchange: UserExchange,
    defense: BasketDefense,
    model: nn.Module,
    group: Tensor,
    rounds: int,
    generator: torch.Generator,
) -> tuple[list[GradientRecord], list[list[Drawn]], float]:
    """What some users share in several rounds, what each of them drew, and how far the first turned their update."""
    baskets = exchange.users.inputs[group]
    records, drawn = [], []
    alike = torch.Generator()
    alike.set_state(generator.get_state())
    for _ in range(rounds):
        record, own = shared(model, baskets, defense.sharing, generator=generator)
        records.append(record)
        drawn.append(own)
    if len(group) > 1 or type(defense).architecture is not BasketDefense.architecture:
        return records, drawn, float("nan")
    # the same seed, so that dropout and the code draw the same
    honest, _ = shared(model, baskets, Undefended().sharing, generator=alike)
    pairs = zip(records[0].gradients.values(), honest.gradients.values(), strict=True)
    parts = torch.tensor([(float((a * b).sum()), float(a.square().sum()), float(b.square().sum())) for a, b in pairs])
    common, one, two = parts.sum(dim=0).tolist()
    return records, drawn, common / max(one * two, 1e-30) ** 0.5


def _searched(
    exchange: UserExchange,
    defense: BasketDefense,
    adversary: Adversary | None,
    model: nn.Module,
    groups: tuple[Tensor, ...],
    kept: list[tuple[GradientRecord, list[Drawn]]],
) -> Iterator[tuple[str, Tried]]:
    """The searches on the first users, side by side."""
    drawn = [one for _, own in kept for one in own]
    known = knowing(defense, adversary, exchange.public, drawn)
    for name in SEARCHES:
        attack = _made(name, steps=exchange.plan.steps, lr=STEP)
        run, start = _Run(), time.process_time()
        try:
            found = attack.run(
                [record for record, _ in kept],
                model,
                knowledge=known,
                generator=torch.Generator().manual_seed(exchange.seed),
            )
        except BadInputError as error:
            yield name, Tried(refused=str(error))
            continue
        run.seconds.append((time.process_time() - start) / len(kept))
        for number, group in enumerate(groups[: len(kept)]):
            run.take(exchange, group, found.items[number], found.scores[number], claimed=False)
        yield name, run.told(exchange)


def _made(name: str, **settings: float) -> RecommenderAttack:
    attack = ATTACKS.make({"name": name, **settings})
    assert isinstance(attack, RecommenderAttack)
    return attack
