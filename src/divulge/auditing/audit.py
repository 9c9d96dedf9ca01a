"""The main job: a target, its members and non-members in; the facts of a report out."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.described import described, released
from divulge.auditing.facts import Card, Facts, Section, Verdict
from divulge.auditing.gradients.audit import Exchange
from divulge.auditing.gradients.audit_evidence import gather
from divulge.auditing.gradients.telling import outcome as told
from divulge.auditing.grid import free
from divulge.auditing.probes import Outcome, probes
from divulge.auditing.promise import as_in_ledger, promised
from divulge.auditing.shadowing import require_measurable
from divulge.auditing.subject import POPULATION, Subject, budget
from divulge.auditing.targets import Target
from divulge.data import Dataset, concatenate, require_disjoint
from divulge.defenses import Defense
from divulge.errors import BadInputError
from divulge.privacy.ledger import Ledger
from divulge.runs.engines import Engine
from divulge.runs.progress import Progress
from divulge.runs.store import Store
from divulge.training import Recipe

LEAST = 10
"""Fewest members, and fewest non-members, that any number is computed from."""
SPARE = 0.2
"""Share of the non-members that are told to the adversary as known outsiders, where there are enough."""
MOST_SPARE = 2_500
WITH_SPARE = 100
"""Fewest non-members of which some are spared."""


@dataclass(frozen=True)
class Means:
    """What an audit may use, besides the model and the records.

    Args:
        budget: `quick` trains nothing; `standard` trains 4 shadow models; `thorough` 16.
        recipe: how the target was trained, as far as it is known; shadow models are trained so.
        defense: the defense it was trained under, if any; shadow models are trained under it too.
        seed: of everything drawn.
        defenses: to try on the target; None for all that act on its answers only, which takes training nothing. Those
            that act in training take one model and as many shadow models again each, and one model to compare with.
        ledger: of the target's training, if that was private; what it promises is held against what is measured. With
            `dp-sgd` as the defense and no settings of its own, shadow models get the ledger's noise.
        delta: at which its epsilon is stated.
        weights: whether others get to see the weights of the target, and not only its answers.
    """

    budget: str = "standard"
    recipe: Recipe = field(default_factory=Recipe)
    defense: Defense | None = None
    seed: int = 0
    defenses: tuple[Defense, ...] | None = None
    ledger: Ledger | None = None
    delta: float = 1e-5
    weights: bool = False


def comparable(members: Dataset, nonmembers: Dataset) -> tuple[Dataset, Dataset]:
    """Members and non-members under one list of class names.

    A side without names of its own takes those of the other; where one list is the beginning of the other, the longer
    one counts.

    Raises:
        BadInputError: too few records, one class, or records of different shapes or classes.
    """
    for name, part in (("members", members), ("non-members", nonmembers)):
        if len(part) < LEAST:
            raise BadInputError(
                f"{name}: expected {LEAST} records or more, got {len(part)}. No rate means anything below."
            )
    if members.shape != nonmembers.shape:
        raise BadInputError(
            f"members are of shape {members.shape}, non-members of shape {nonmembers.shape}. Prepare both the same way."
        )
    names = _names(members.classes, nonmembers.classes)
    if len(names) < 2:
        raise BadInputError(
            "expected records of two classes or more, got one. A posterior over one class tells nothing. If the model "
            "knows more classes than these records show, name them all (classes=...)."
        )
    inside, outside = (replace(part, classes=names) for part in (members, nonmembers))
    return inside, outside


def _names(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    short, long = sorted((first, second), key=len)
    if long[: len(short)] == short:
        return long
    for plain, named in ((first, second), (second, first)):
        if plain == tuple(str(number) for number in range(len(plain))) and len(plain) <= len(named):
            return named
    raise BadInputError(
        f"members have the classes {_listed(first)}, non-members {_listed(second)}. Number the classes of both in the "
        "same order."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def prepare(
    target: Target,
    members: Dataset,
    nonmembers: Dataset,
    means: Means,
    *,
    store: Store,
    engine: Engine,
    progress: Progress | None = None,
) -> Subject:
    """Choose the records that the budget allows, and set some non-members aside as known outsiders.

    Args:
        target: the model.
        members: training records, from `comparable`.
        nonmembers: other records, from `comparable`.
        means: what may be used.
        store: where steps are kept.
        engine: what runs them.
        progress: told about them.

    Raises:
        BadInputError: members among the non-members, a query budget that allows no finding, a negative seed, weights
            of what is no torch module, or early stopping without records to spare for it; a ledger that cannot be this
            model's, or a delta too large for it; or defenses to try that cannot be tried on this target.
    """
    plan = budget(means.budget)
    if means.seed < 0:
        raise BadInputError(f"seed: expected 0 or more, got {means.seed}.")
    promise = promised(means.ledger, delta=means.delta, members=len(members)) if means.ledger else None
    under = as_in_ledger(means.defense, means.ledger)
    if means.weights and target.module is None:
        raise BadInputError(
            f"weights: expected a torch module, whose weights can be looked at, got a {target.kind}. Give the module "
            "itself (--model file.py:factory), or audit its posteriors."
        )
    if target.has_inputs:
        require_disjoint(members, nonmembers)
    rng = np.random.default_rng(means.seed)
    known = min(MOST_SPARE, int(SPARE * len(nonmembers))) if len(nonmembers) >= WITH_SPARE else 0
    tried = free() if means.defenses is None else tuple({one.label: one for one in means.defenses}.values())
    used = [one for one in (under, *tried) if one is not None]
    stopping = means.recipe.patience is not None or any(one.needs_validation for one in used)
    if plan.shadows and stopping and not known and target.module is not None:
        raise BadInputError(
            f"shadow models that stop early need records to judge by: expected {WITH_SPARE} non-members or more, got "
            f"{len(nonmembers)}. Give more, or set patience to none."
        )
    outsiders = rng.permutation(len(nonmembers))
    sizes = _affordable(target, [min(plan.records, len(members)), min(plan.records, len(nonmembers) - known), known])
    chosen = {
        "members": np.sort(rng.permutation(len(members))[: sizes[0]]),
        "nonmembers": len(members) + np.sort(outsiders[known:][: sizes[1]]),
        POPULATION: len(members) + np.sort(outsiders[:known][: sizes[2]]),
    }
    corpus = Corpus(_joined(members, nonmembers), {name: rows for name, rows in chosen.items() if len(rows)})
    data = keep(corpus, store)
    subject = Subject(
        target,
        corpus,
        data,
        plan,
        means.recipe,
        under,
        means.seed,
        store=store,
        engine=engine,
        progress=progress,
        defenses=tried,
        promise=promise,
        weights=means.weights,
        given=len(members),
        spare=_spare(target, sum(sizes)),
    )
    if means.defenses:
        require_measurable(subject)
    return subject


def _affordable(target: Target, sizes: Sequence[int]) -> list[int]:
    """How many records of each part may be asked about under the target's query budget."""
    release, total = target.release, sum(sizes)
    left = total if release.budget is None else min(total, release.budget - release.queries)
    afforded = [size * left // total for size in sizes]
    if min(afforded[:2]) < LEAST:
        raise BadInputError(
            f"query budget: expected enough for {LEAST} members and {LEAST} non-members, but of {release.budget:,} "
            f"queries {release.queries:,} went into trying the model, and the rest pays for {afforded[0]} and "
            f"{afforded[1]}. Raise it."
        )
    return afforded


def _spare(target: Target, asked: int) -> int | None:
    """How many records the target may be asked about beyond those that it is `asked` about anyway; None for no limit.

    Whoever answers elsewhere is asked for no more than twice as much, unless a budget says so.
    """
    release = target.release
    if release.budget is not None:
        return release.budget - release.queries - asked
    return None if target.module is not None or target.estimator is not None else asked


def audit(subject: Subject | None, *, command: str, exchange: Exchange | None = None) -> Facts:
    """Ask every question that the releases allow and put the answers together, with the worst one as the verdict.

    Args:
        subject: from `prepare`, to audit posteriors; None to leave them out.
        command: what to type to repeat the audit.
        exchange: from `divulge.auditing.gradients.audit.prepare`, to audit gradients.

    Raises:
        BadInputError: neither of the two.
    """
    idle: list[Card] = []
    asked_for: list[Outcome] = []
    left: list[str] = []
    for probe in probes() if subject else []:
        assert subject is not None
        if (line := probe.idle(subject)) is not None:
            left.append(line)
        elif (reason := probe.unable(subject)) is not None:
            question = (type(probe).__doc__ or "").split("?")[0] + "?"
            idle.append(Card(probe.release, question, "", None, 1.0, {}, reason))
        else:
            asked_for.append(probe.run(subject))
    shared = [told(exchange, gather(exchange))] if exchange else []
    outcomes = [*asked_for, *shared]
    asked = subject or exchange
    if asked is None:
        raise BadInputError("expected posteriors or gradients to audit, or both, got neither.")
    ran = [outcome for outcome in outcomes if outcome.band is not None]
    worst = max(ran, key=lambda outcome: outcome.band or 0)
    several = len(ran) > 1
    sections: list[Section] = [section for outcome in outcomes for section in outcome.sections]
    return Facts(
        title=asked.target.name or "model",
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        released=f"{released(subject, exchange)} of a {asked.target.kind}"
        if asked.target.has_inputs
        else f"{worst.card.release}, given as a table",
        verdict=Verdict(worst.band or 0, worst.card.sentence, worst.confidence, worst.advice),
        cards=[*(_card(outcome, several=several) for outcome in outcomes), *idle],
        sections=sections,
        settings=described(subject, exchange) | {key: text for one in outcomes for key, text in one.settings.items()},
        assumptions=[line for outcome in outcomes for line in outcome.assumptions],
        not_tested=[
            *(line for outcome in outcomes for line in outcome.not_tested),
            *left,
            *([] if exchange else ["What gradients give away: this audit did not ask for them (--access gradients)."]),
            *([] if subject else ["Who was in the training set: this audit asked for gradients only (--access)."]),
            NOT_TESTED,
        ],
        references=sorted({one for outcome in outcomes for line in outcome.references for one in line.split("; ")}),
        command=command,
        records=exported(asked_for or shared),
        promise=" ".join(outcome.promise for outcome in outcomes if outcome.promise),
    )


def exported(outcomes: Sequence[Outcome]) -> dict[str, list[Any]]:
    """The records of the first outcome for export, beside them what others found of the same ones; empty where nothing.

    Example:
        >>> from types import SimpleNamespace as Found
        >>> exported([Found(records={"record": ["a", "b"]}), Found(records={"record": ["b"], "right": [True]})])
        {'record': ['a', 'b'], 'right': ['', True]}
    """
    columns = {name: list(values) for name, values in outcomes[0].records.items()}
    for other in outcomes[1:]:
        place = {record: row for row, record in enumerate(other.records.get("record", []))}
        rows = [place.get(record) for record in columns.get("record", [])]
        if any(row is not None for row in rows):
            for name, values in other.records.items():
                columns.setdefault(name, ["" if row is None else values[row] for row in rows])
    return columns


def _card(outcome: Outcome, *, several: bool) -> Card:
    """The card of an outcome with its verdict, which the first screen has already where it is the only one."""
    confidence, advice = (outcome.confidence, outcome.advice) if several else ("", "")
    return replace(outcome.card, band=outcome.band, confidence=confidence, advice=advice)


NOT_TESTED = "Attacks that did not exist when this was written. A finding of nothing is no proof."


def _joined(members: Dataset, nonmembers: Dataset) -> Dataset:
    """All records in one, with the attributes that both sides have, each named in the report by its side and row."""
    shared = [name for name in members.attributes if name in nonmembers.attributes]
    sides = [
        replace(
            side,
            attributes={key: side.attributes[key] for key in shared},
            attribute_classes={key: names for key, names in side.attribute_classes.items() if key in shared},
            ids=side.ids or tuple(f"{name} {row}" for row in range(len(side))),
        )
        for name, side in (("member", members), ("non-member", nonmembers))
    ]
    return concatenate(sides)
