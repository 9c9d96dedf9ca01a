"""The main job: a target, its members and non-members in; the facts of a report out."""

import datetime
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import version

import numpy as np
import torch

from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.facts import BANDS, Card, Facts, Section, Verdict
from divulge.auditing.probes import PROBES, Outcome
from divulge.auditing.subject import POPULATION, PRIVATE, Subject, budget
from divulge.auditing.targets import Target
from divulge.data import Dataset, concatenate, require_disjoint
from divulge.defenses import Defense
from divulge.errors import BadInputError
from divulge.runs.engines import Engine
from divulge.runs.progress import Progress
from divulge.runs.provenance import machine
from divulge.runs.store import Store
from divulge.training import Recipe, fit

LEAST = 10
"""Fewest members, and fewest non-members, that any number is computed from."""
SPARE = 0.2
"""Share of the non-members that are told to the adversary as known outsiders, where there are enough."""
MOST_SPARE = 2_500


@dataclass(frozen=True)
class Means:
    """What an audit may use, besides the model and the records.

    Args:
        budget: `quick` trains nothing; `standard` trains 4 shadow models; `thorough` 16.
        recipe: how the target was trained, as far as it is known; shadow models are trained so.
        defense: the defense it was trained under, if any; shadow models are trained under it too.
        seed: of everything drawn.
    """

    budget: str = "standard"
    recipe: Recipe = field(default_factory=Recipe)
    defense: Defense | None = None
    seed: int = 0


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
    """Check the records, choose those the budget allows, and set some non-members aside as known outsiders.

    Raises:
        BadInputError: too few records, records of different shapes or classes, or members among the non-members.
    """
    plan = budget(means.budget)
    for name, part in (("members", members), ("non-members", nonmembers)):
        if len(part) < LEAST:
            raise BadInputError(
                f"{name}: expected {LEAST} records or more, got {len(part)}. No rate means anything below."
            )
    if members.num_classes < 2:
        raise BadInputError(
            "expected records of two classes or more, got one. A posterior over one class tells nothing."
        )
    if members.shape != nonmembers.shape or members.num_classes != nonmembers.num_classes:
        raise BadInputError(
            f"members are of shape {members.shape} with {members.num_classes} classes, non-members of shape "
            f"{nonmembers.shape} with {nonmembers.num_classes}. Prepare both the same way."
        )
    if target.has_inputs:
        require_disjoint(members, nonmembers)
    rng = np.random.default_rng(means.seed)
    known = min(MOST_SPARE, int(SPARE * len(nonmembers))) if len(nonmembers) >= 100 else 0
    outsiders = rng.permutation(len(nonmembers))
    chosen = {
        "members": np.sort(rng.permutation(len(members))[: plan.records]),
        "nonmembers": len(members) + np.sort(outsiders[known:][: plan.records]),
        POPULATION: len(members) + np.sort(outsiders[:known]),
    }
    corpus = Corpus(_compacted(members, nonmembers), {name: rows for name, rows in chosen.items() if len(rows)})
    data = keep(corpus, store)
    return Subject(
        target,
        corpus,
        data,
        plan,
        means.recipe,
        means.defense,
        means.seed,
        store=store,
        engine=engine,
        progress=progress,
    )


def audit(subject: Subject, *, command: str) -> Facts:
    """Ask every question that the release allows and put the answers together.

    Args:
        subject: from `prepare`.
        command: what to type to repeat the audit.
    """
    cards: list[Card] = []
    outcomes: list[Outcome] = []
    for cls in PROBES.classes.values():
        probe = cls()
        reason = probe.unable(subject)
        if reason is None:
            outcomes.append(probe.run(subject))
            cards.append(outcomes[-1].card)
        else:
            cards.append(Card(cls.release, (cls.__doc__ or "").split("?")[0] + "?", "", None, 1.0, {}, reason))
    worst = max(outcomes, key=lambda outcome: outcome.band or 0)
    level = worst.band or 0
    sections: list[Section] = [section for outcome in outcomes for section in outcome.sections]
    return Facts(
        title=subject.target.name or "model",
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        released=f"{worst.card.release} of a {subject.target.kind}",
        verdict=Verdict(level, worst.card.sentence, worst.confidence, worst.advice),
        cards=cards,
        sections=sections,
        settings=_settings(subject) | {key: text for outcome in outcomes for key, text in outcome.settings.items()},
        assumptions=[line for outcome in outcomes for line in outcome.assumptions],
        not_tested=[*(line for outcome in outcomes for line in outcome.not_tested), *NOT_TESTED],
        references=sorted({line for outcome in outcomes for line in outcome.references}),
        command=command,
        records=dict(worst.records),
    )


NOT_TESTED = [
    "What weights, gradients or representations give away: this audit asked for posteriors only.",
    "Attacks that did not exist when this was written. A finding of nothing is no proof.",
]


def estimate(subject: Subject) -> float:
    """About how many seconds training the shadow models will take, from two batches of one."""
    maker = subject.target.architecture() if subject.target.has_inputs else None
    if maker is None or not subject.budget.shadows:
        return 0.0
    pool = sum(len(subject.corpus.parts[part]) for part in PRIVATE)
    rows = min(2 * subject.recipe.batch_size, pool)
    sample = subject.corpus.part(*PRIVATE)[:rows]
    once = Recipe(epochs=1, batch_size=min(subject.recipe.batch_size, rows // 2), precision=subject.recipe.precision)
    model = maker()
    fit(model, sample, once, seed=0)
    started = time.perf_counter()
    fit(model, sample, once, seed=0)
    return (time.perf_counter() - started) / rows * (pool / 2) * subject.recipe.epochs * subject.budget.shadows


def _compacted(members: Dataset, nonmembers: Dataset) -> Dataset:
    sides = []
    for name, side in (("member", members), ("non-member", nonmembers)):
        ids = tuple(side.id(row) if side.ids else f"{name} {row}" for row in range(len(side)))
        sides.append(
            Dataset(side.inputs, side.targets, side.attributes, classes=members.classes, name=members.name, ids=ids)
        )
    return concatenate(sides)


def _settings(subject: Subject) -> dict[str, str]:
    recipe = ", ".join(f"{item.name} {getattr(subject.recipe, item.name)}" for item in fields(subject.recipe))
    counts: Sequence[str] = [f"{len(rows):,} {name}" for name, rows in subject.corpus.parts.items()]
    hardware = machine()
    return {
        "model": f"{subject.target.kind}"
        + (f", {subject.target.parameters:,} parameters" if subject.target.parameters else ""),
        "records": ", ".join(counts),
        "record shape": " x ".join(map(str, subject.corpus.data.shape)),
        "classes": str(subject.corpus.data.num_classes),
        "budget": subject.budget.name,
        "seed": str(subject.seed),
        "recipe of shadow models": recipe,
        "defense known to the adversary": str(subject.trained_under or "none"),
        "divulge": version("divulge"),
        "torch": torch.__version__,
        "machine": ", ".join(f"{key} {value}" for key, value in hardware.items() if key not in ("torch",)),
        "verdict bands": ", ".join(BANDS),
    }
