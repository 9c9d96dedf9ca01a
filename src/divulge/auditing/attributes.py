"""An attribute of a table, guessed with a model in hand and without it: every attack that fits, on the same records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from divulge.attacks.attributes.base import AttributeGuesses
from divulge.attacks.attributes.blanked import Blanked, blank
from divulge.attacks.attributes.by_labels import ByLabels
from divulge.attacks.attributes.confidence import ConfidenceScores, WeightedConfidence
from divulge.attacks.attributes.fredrikson import Mistakes, TreeCounts
from divulge.attacks.attributes.imputation import Imputation
from divulge.attacks.attributes.neurons import Neurons
from divulge.attacks.knowledge import Knowledge
from divulge.auditing.representations import layers
from divulge.auditing.targets import as_target
from divulge.auditing.targets.labels import class_numbers
from divulge.data import Dataset
from divulge.data.columns import Column, column_of
from divulge.errors import BadInputError
from divulge.metrics import Finding
from divulge.metrics.certainty import TOP, score_attribute
from divulge.releases import Posteriors, Representation
from divulge.releases.trees import Tree, published

IMPUTATION = "imputation, without the model"
COUNTS = (1, 10, 100)
"""Neurons that are averaged, as published."""
KNOWS = "every other column and the class of a record; whole records of its own"
ONLY = "every other column and the class of a record"

NO_RECORDS = ("labels", "confidence scores")
"""Attacks that need no records of the adversary's own."""


@dataclass(frozen=True, eq=False)
class Guessed:
    """What every attack makes of some groups of records.

    Args:
        truth: values by group, int64 `(n,)`.
        probabilities: of each value by attack and group, `(n, values)`.
        notes: why attacks were left out.
    """

    truth: Mapping[str, np.ndarray]
    probabilities: Mapping[str, Mapping[str, np.ndarray]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class AttributeAudit:
    """An attribute under attack, scored.

    Args:
        attribute: its name.
        values: names of its values.
        value: the one that precision at the most certain records is about.
        findings: of the attack whose most certain guesses about members are right most often, each beside the same of
            imputation, with intervals that are wide enough for having picked it among all.
        rows: every number as a mapping with `attack`, `records` (`members` or `non-members`), `knows` (what the
            adversary knows), `metric`, `value`, `low`, `high`, `n` and `control` (imputation's).
        strongest: that attack.
        notes: what a reader must know, such as attacks that were left out and why.
    """

    attribute: str
    values: tuple[str, ...]
    value: str
    findings: list[Finding]
    rows: list[dict[str, Any]]
    strongest: str
    notes: tuple[str, ...] = ()


def attribute_findings(
    model: Any,
    members: Dataset,
    nonmembers: Dataset,
    *,
    sensitive: str,
    known: Dataset | None = None,
    value: str | None = None,
    white_box: bool = True,
    top: Sequence[int] = TOP,
    seed: int = 0,
) -> AttributeAudit:
    """Guess an attribute of the records that a person's model was trained on, and of others, by every attack that fits.

    What is asked of a model is query access; a torch module's neurons and the counts in the leaves of a scikit-learn
    tree or forest are looked at too if `white_box`. Beside every number stands that of imputation, which sees no model
    and has the same records of its own: what it guesses could have been guessed anyway.

    Args:
        model: a torch module, a fitted scikit-learn classifier, or anything else that `as_target` takes.
        members: a table that it was trained on.
        nonmembers: records of the same kind that it was not trained on.
        sensitive: the attribute: a column, a category's columns `name=value`, or an attribute beside the inputs.
        known: the adversary's records, in neither of the others; half of the non-members, drawn by `seed`, if None.
        value: the value that is held to be sensitive, such as a disease, and that precision is about; the rarest that
            enough members have to fill the longest list if None.
        white_box: whether the adversary has the model itself and not only its answers.
        top: how many of the most certain records precision is taken over.
        seed: of draws.

    Raises:
        BadInputError: no such attribute, one with one value or too many, a model fitted on other columns, or too few
            records.
    """
    column = column_of(members, sensitive)
    if known is None:
        order = np.random.default_rng(seed).permutation(len(nonmembers))
        known, nonmembers = (nonmembers[part] for part in np.array_split(order, 2))
    if not len(members) or not len(nonmembers):
        raise BadInputError("attribute: expected members and non-members to guess about, got none of one of them.")
    target = as_target(model, classes=members.classes, probe=members.inputs[:8])
    trees: tuple[Tree, ...] = ()
    notes: tuple[str, ...] = ()
    if white_box and target.estimator is not None:
        columns, _ = class_numbers(np.asarray(target.estimator.classes_), members.classes, what=target.name)
        try:
            trees = published(
                target.estimator, classes=members.num_classes, columns=list(columns), width=members.shape[0]
            )
        except BadInputError as error:
            notes = (f"its inside was not looked at: {error}",)
    found = guess_attribute(
        target.release,
        {"members": members, "non-members": nonmembers},
        known,
        column,
        module=target.module if white_box else None,
        trees=trees,
        seed=seed,
    )
    return scored(found, column, value=value, top=top, notes=notes)


def guess_attribute(
    release: Posteriors,
    groups: Mapping[str, Dataset],
    known: Dataset,
    column: Column,
    *,
    module: nn.Module | None = None,
    trees: Sequence[Tree] = (),
    seed: int = 0,
) -> Guessed:
    """Every attack that fits, on each group of records.

    Args:
        release: what answers.
        groups: records to guess about, whole; attacks see them blanked.
        known: the adversary's records.
        column: the attribute.
        module: the network, if the adversary has it.
        trees: the trees, if it has those.
        seed: of what imputation draws.
    """
    knowledge = Knowledge(data=known)
    asked = {name: blank(data, column) for name, data in groups.items()}
    blanked = {name: pair[0] for name, pair in asked.items()}
    own, attribute = blank(known, column)
    imputation = Imputation(seed=seed)
    prior = _parted(imputation.run(_joined(blanked), knowledge=knowledge), blanked)
    found = {IMPUTATION: prior}
    notes: list[str] = []
    if column.places:
        for name, one in blanked.items():
            told: dict[str, AttributeGuesses] = {
                "mistakes": Mistakes().run(release, one, knowledge=knowledge),
                "labels": ByLabels().run(release, one),
                "imputation and confidence": WeightedConfidence().run(release, one, prior=prior[name].probabilities),
            }
            if trees:
                told["tree counts"] = TreeCounts().run(trees, one, knowledge=knowledge)
                told["imputation and tree counts"] = TreeCounts().run(
                    trees, one, knowledge=knowledge, prior=prior[name].probabilities
                )
            try:
                told["confidence scores"] = ConfidenceScores().run(release, one)
            except BadInputError as error:
                notes.append(f"{name}: {error}")
            for attack, guesses in told.items():
                found.setdefault(attack, {})[name] = guesses
    else:
        notes.append(f"{column.name} is no column of the model: its values cannot be tried on it")
    if module is not None:
        mine = _neurons(module, own)
        seen_of_own = Neurons().run(mine, attribute, mine).probabilities
        theirs = {name: _neurons(module, one) for name, one in blanked.items()}
        for count in COUNTS:
            found[f"neurons, {count}"] = {
                name: Neurons(count).run(mine, attribute, seen) for name, seen in theirs.items()
            }
        asked_about = np.concatenate([one.probabilities for one in found["neurons, 10"].values()])
        joined = imputation.run(_joined(blanked), knowledge=knowledge, beside=(seen_of_own, asked_about))
        found["imputation and neurons"] = _parted(joined, blanked)
    if len(found) == 1:
        raise BadInputError(
            f"attribute {column.name!r} is no column of the model, and its inside was not released: nothing tells of "
            "it but the other columns. Give the network itself, or an attribute that it is given."
        )
    return Guessed(
        {name: pair[1] for name, pair in asked.items()},
        {attack: _padded(by_group, column) for attack, by_group in found.items()},
        tuple(notes),
    )


def scored(
    found: Guessed,
    column: Column,
    *,
    value: str | None = None,
    top: Sequence[int] = TOP,
    notes: tuple[str, ...] = (),
) -> AttributeAudit:
    """Score every attack beside imputation, and name the strongest on members.

    Raises:
        BadInputError: `value` is none of the attribute's, all members have one value, or there are too few.
    """
    if value is not None and value not in column.values:
        raise BadInputError(f"attribute {column.name!r}: no value {value!r}. There are: {', '.join(column.values)}.")
    truth = next(iter(found.truth.values()))
    counts = np.bincount(truth, minlength=len(column.values))
    if len(truth) < min(top) or (counts > 0).sum() < 2:
        raise BadInputError(
            f"attribute {column.name!r}: expected {min(top)} members or more, with two values or more among them, got "
            f"{len(truth)} with {(counts > 0).sum()}."
        )
    enough = np.flatnonzero(counts >= min(max(top), np.sort(counts)[-2]))
    number = int(enough[counts[enough].argmin()]) if value is None else column.values.index(value)
    rows: list[dict[str, Any]] = []
    best = (-1.0, "")
    for attack, by_group in found.probabilities.items():
        for group, probabilities in by_group.items():
            control = None if attack == IMPUTATION else found.probabilities[IMPUTATION][group]
            findings = score_attribute(found.truth[group], probabilities, control=control, value=number, top=top)
            for one in findings:
                rows.append(
                    {
                        "attack": attack,
                        "records": group,
                        "knows": ONLY if attack in NO_RECORDS else KNOWS,
                        "metric": one.metric,
                        "value": one.value,
                        "low": one.low,
                        "high": one.high,
                        "n": one.n,
                        "control": None if one.control is None else one.control.value,
                    }
                )
            surest = max((one for one in findings if one.metric.startswith("precision")), key=lambda one: one.n)
            if attack != IMPUTATION and group == next(iter(by_group)) and surest.value > best[0]:
                best = surest.value, attack
    group = next(iter(found.truth))
    findings = score_attribute(
        truth,
        found.probabilities[best[1]][group],
        control=found.probabilities[IMPUTATION][group],
        value=number,
        top=top,
        confidence=1 - 0.05 / (len(found.probabilities) - 1),
    )
    return AttributeAudit(
        column.name, column.values, column.values[number], findings, rows, best[1], (*notes, *found.notes)
    )


def _neurons(module: nn.Module, blanked: Blanked) -> list[Representation]:
    """All neurons side by side, with each value put in."""
    return [
        Representation(np.concatenate(list(layers(module, whole).values()), axis=1), "all")
        for whole in (blanked.filled() if blanked.column.places else [blanked.others])
    ]


def _joined(blanked: Mapping[str, Blanked]) -> Blanked:
    """All groups, one after another."""
    parts = list(blanked.values())
    return Blanked(
        parts[0].column, torch.cat([one.others for one in parts]), np.concatenate([one.labels for one in parts])
    )


def _parted(guesses: AttributeGuesses, blanked: Mapping[str, Blanked]) -> dict[str, AttributeGuesses]:
    """Guesses about `_joined` records by their groups."""
    ends = np.cumsum([len(one) for one in blanked.values()])[:-1]
    parts = np.split(guesses.probabilities, ends)
    return {name: AttributeGuesses(part) for name, part in zip(blanked, parts, strict=True)}


def _padded(by_group: Mapping[str, AttributeGuesses], column: Column) -> dict[str, np.ndarray]:
    """Probabilities with a column for each value, those that an attack never met included."""
    missing = len(column.values)
    return {
        name: np.pad(one.probabilities, ((0, 0), (0, missing - one.probabilities.shape[1])))
        for name, one in by_group.items()
    }
