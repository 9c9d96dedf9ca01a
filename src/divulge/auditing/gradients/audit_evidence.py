"""What an audit of gradients gathers: stages of attacks on the clients of every defense and adversary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from divulge.attacks.gradients import GradientAttack
from divulge.attacks.gradients.first_layer import FirstLayer
from divulge.attacks.gradients.gauss_newton import GaussNewton
from divulge.attacks.gradients.search import Search
from divulge.auditing.gradients.attempt import ADVERSARIES, Adversary, Attempt
from divulge.auditing.gradients.audit import Exchange
from divulge.auditing.gradients.audit_cases import CLEAR, Case, Tried
from divulge.auditing.gradients.audit_plan import STAGES, searches
from divulge.auditing.gradients.audit_steps import Pricing, Trying, price, pursue
from divulge.auditing.gradients.audit_strongest import Rebuilt, strongest
from divulge.defenses import Defense
from divulge.runs.graph import execute
from divulge.runs.step import Artifact, Step

CHUNK = 8
"""Clients that one step of a search, or of what takes as long, takes on."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that the audit gathered.

    Args:
        plain: without a defense, by batch size.
        defended: with one, in the order of the defenses and their adversaries.
        prices: of each defense by its label: `cosine` and `error` of its clients' gradients.
        whole: batch sizes at which everything was found before any search was run.
    """

    plain: Mapping[int, Rebuilt]
    defended: Sequence[Rebuilt]
    prices: Mapping[str, Artifact]
    whole: frozenset[int]


def gather(exchange: Exchange) -> Evidence:
    """Run each stage of attacks on every case that those before it left open."""
    plan, first = exchange.plan, exchange.batch_sizes[0]
    plain = [Case(batch, exchange.clients(batch)) for batch in exchange.batch_sizes]
    few = min(exchange.clients(first), max(2, plan.tried // first))
    grid = [Case(first, few, one, adversary) for one in exchange.defenses for adversary in adversaries_of(one)]
    tried: dict[Case, dict[str, Tried]] = {case: {} for case in (*plain, *grid)}
    pricing = {one.label: _pricing(exchange, Case(first, few, one)) for one in exchange.defenses}
    prices: dict[str, Artifact] = {}
    whole: frozenset[int] = frozenset()
    for stage in STAGES:
        pending = [case for case in tried if not _settled(tried[case])]
        if stage is searches:
            whole = frozenset(case.batch for case in plain if case not in pending)
        attacks = {case: stage(plan, image=exchange.records.is_image, batch=case.batch) for case in pending}
        if stage is searches and plan.name != "thorough":
            attacks |= {case: dict(list(attacks[case].items())[:1]) for case in pending if case in grid}
        for case, found in _run(exchange, attacks, pricing, prices).items():
            tried[case] |= found
    results = {case: strongest(exchange, case, found, lesser=_of_lesser(case, tried)) for case, found in tried.items()}
    return Evidence(
        plain={case.batch: results[case] for case in plain},
        defended=[results[case] for case in grid],
        prices=prices,
        whole=whole,
    )


def adversaries_of(defense: Defense) -> tuple[Adversary, ...]:
    """The adversaries worth telling apart: an oracle knows more only where something is drawn."""
    return ("blind", "adaptive") if defense.randomness == "none" else ("blind", "adaptive", "oracle")


def _of_lesser(case: Case, tried: Mapping[Case, Mapping[str, Tried]]) -> dict[str, Tried]:
    """What adversaries who know less of the same defense made of the same clients, by attack and adversary."""
    own = ADVERSARIES.index(case.adversary)
    lesser = [replace(case, adversary=one) for one in ADVERSARIES[:own]]
    return {f"{name}, {one.adversary}": found for one in lesser for name, found in tried[one].items()}


def _settled(tried: Mapping[str, Tried]) -> bool:
    """Whether closed forms have every client's whole batch."""
    able = [one for one in tried.values() if not one.refused]
    return bool(able) and bool(np.logical_or.reduce([one.array("unexplained") < CLEAR for one in able]).all())


def _run(
    exchange: Exchange,
    attacks: Mapping[Case, Mapping[str, GradientAttack]],
    pricing: Mapping[str, Step],
    prices: dict[str, Artifact],
) -> dict[Case, dict[str, Tried]]:
    """Every attack of every case, and the prices that are not known yet, which are added to `prices`."""
    steps = {case: {name: _steps(exchange, case, one) for name, one in own.items()} for case, own in attacks.items()}
    flat = [step for own in steps.values() for several in own.values() for step in several]
    missing = {name: step for name, step in pricing.items() if name not in prices}
    if not flat and not missing:
        return {}
    every = [*missing.values(), *flat]
    done = execute(every, exchange.store, engine=exchange.engine, progress=exchange.progress)
    prices |= {name: done[step.key] for name, step in missing.items()}
    return {
        case: {name: _tried([done[step.key] for step in several]) for name, several in own.items()}
        for case, own in steps.items()
    }


def _tried(artifacts: list[Artifact]) -> Tried:
    return Tried(tuple(artifacts), sum(one.facts.get("seconds", 0.0) for one in artifacts))


def _steps(exchange: Exchange, case: Case, attack: GradientAttack) -> list[Step]:
    size = CHUNK if isinstance(attack, (Search, GaussNewton)) else case.clients
    under = "" if type(case.defense) is Defense else f", {case.defense.label}, {case.adversary}"
    steps = []
    for number, start in enumerate(range(0, case.clients, size)):
        one = Attempt(attack, case.defense, case.adversary, exchange.training, exchange.seed + 1000 * number)
        window = (start, min(start + size, case.clients))
        settings = Trying(exchange.identity, one, case.batch, window, exchange.carried)
        label = f"{attack.name} on {window[1] - window[0]} x {case.batch}{under}"
        steps.append(Step(pursue, settings, {"data": exchange.data}, label=label))
    return steps


def _pricing(exchange: Exchange, case: Case) -> Step:
    # No attack runs here; one must be named.
    one = Attempt(FirstLayer(), case.defense, "blind", exchange.training, exchange.seed)
    settings = Pricing(exchange.identity, one, case.batch, (0, case.clients), exchange.carried)
    return Step(price, settings, {"data": exchange.data}, label=f"what {case.defense.label} does to gradients")
