"""The steps that guess an attribute of a person's records with the model in hand and without it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from divulge import settings
from divulge.attacks.attributes import Overlearning
from divulge.auditing.attributes import AttributeAudit, attribute_findings
from divulge.auditing.corpus import Corpus, opened
from divulge.auditing.exposure import grouped
from divulge.auditing.gradients.audit_steps import Carried
from divulge.auditing.representations import Exposure, Guessed, expose_attribute
from divulge.auditing.subject import POPULATION, PRIVATE
from divulge.auditing.targets import Target
from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.metrics import Finding
from divulge.runs.step import Artifact, Context

RARE = 10
"""Values that fewer of the adversary's records have are left out, with the records that have them."""
KINDS = ("layers", "controls", "blank")


@dataclass(frozen=True)
class Reading:
    """Settings of a step that reads an attribute off the layers of a network, or off its answers.

    Args:
        identity: stands for the model in a run's keys.
        attribute: its name in the corpus.
        attack: the probes.
        answered: the parts that the step `answers` is about; empty where the layers are read.
        known: records of the adversary, at most.
        test: training records to guess, at most.
        seed: of draws.
        model: the network; None where only answers are seen.
    """

    identity: str
    attribute: str
    attack: Overlearning
    answered: tuple[str, ...]
    known: int
    test: int
    seed: int
    model: Carried | None = field(compare=False)


@dataclass(frozen=True)
class Trying:
    """Settings of a step that guesses a column of a table.

    Args:
        identity: stands for the model in a run's keys.
        attribute: its name.
        white_box: whether the adversary has the model itself.
        records: members, and as many non-members, to guess about at most.
        seed: of draws.
        target: the model.
    """

    identity: str
    attribute: str
    white_box: bool
    records: int
    seed: int
    target: Target = field(compare=False)


def read(given: Reading, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Read the attribute of members off the layers of the network, or off the artifact `answers`.

    Returns:
        What `exposure` makes an `Exposure` of, and the fact `left out`; of an attribute that cannot be read, the fact
        `refused`.
    """
    corpus = opened(inputs["data"], given.answered)
    known, test = (side[_some(len(side), most, given.seed)] for side, most in zip(
        _sides(corpus), (given.known, given.test), strict=True))  # fmt: skip
    try:
        known, test, left_out = categories(known, test, given.attribute)
        if given.model is None:
            model: Any = _Told(corpus, given.answered, np.asarray(inputs["answers"].arrays["logits"])[0])
        else:
            model = given.model.module
        found = expose_attribute(
            model, known, test, given.attribute, attack=given.attack, seed=given.seed, watch=context.progress
        )
    except (BadInputError, RuntimeError, ArithmeticError) as error:  # a person's network may be out of its reach
        return Artifact({}, {"refused": str(error) or type(error).__name__})
    arrays, facts = {"truth": found.truth}, {}
    for kind in KINDS:
        own: Sequence[Guessed] = getattr(found, kind)
        arrays |= {f"{kind}/{place}": one.values for place, one in enumerate(own)}
        facts[kind] = [
            {
                "source": one.source,
                "probe": one.probe,
                "expected": float(one.expected),
                "findings": {metric: asdict(finding) for metric, finding in one.findings.items()},
            }
            for one in own
        ]
    ids = [test.id(row) for row in range(len(test))]
    told = {"attribute": found.attribute, "names": list(found.names), "notes": list(found.notes)}
    return Artifact(arrays, {**told, **facts, "left out": left_out, "ids": ids, "known": len(known)})


def exposure(artifact: Artifact) -> Exposure:
    """What `read` left."""
    facts = artifact.facts
    kinds: dict[str, tuple[Guessed, ...]] = {}
    for kind in KINDS:
        kinds[kind] = tuple(
            Guessed(
                one["source"],
                one["probe"],
                one["expected"],
                np.asarray(artifact.arrays[f"{kind}/{place}"]),
                {metric: settings.build(Finding, finding) for metric, finding in one["findings"].items()},
            )
            for place, one in enumerate(facts[kind])
        )
    truth = np.asarray(artifact.arrays["truth"])
    return Exposure(facts["attribute"], tuple(facts["names"]), truth, **kinds, notes=tuple(facts["notes"]))


def guess(given: Trying, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Guess a column of members and non-members by every attack on tables that fits.

    Returns:
        The facts of an `AttributeAudit`; of a column that cannot be guessed, the fact `refused`.
    """
    parts = [*PRIVATE, *([POPULATION] if f"part/{POPULATION}" in inputs["data"].arrays else [])]
    corpus = opened(inputs["data"], parts)
    members, others = (corpus.part(part) for part in PRIVATE)
    known = corpus.part(POPULATION) if POPULATION in corpus.parts else None
    if known is None:
        known, others = others[::2], others[1::2]
    before = given.target.release.queries
    try:
        found = attribute_findings(
            given.target,
            members[_some(len(members), given.records, given.seed)],
            others[_some(len(others), given.records, given.seed)],
            sensitive=given.attribute,
            known=known,
            white_box=given.white_box,
            seed=given.seed,
        )
    except (BadInputError, RuntimeError, ArithmeticError) as error:  # a person's model may be out of its reach
        return Artifact({}, {"refused": str(error) or type(error).__name__})
    return Artifact({}, {"audit": asdict(found), "queries": given.target.release.queries - before, "known": len(known)})


def audit_of(artifact: Artifact) -> AttributeAudit:
    """What `guess` left."""
    return settings.build(AttributeAudit, artifact.facts["audit"])


def categories(known: Dataset, test: Dataset, attribute: str) -> tuple[Dataset, Dataset, int]:
    """Both sides with the attribute as a category whose values the adversary has met often enough, and how many records
    were left out for having another value.

    Raises:
        BadInputError: fewer than two such values, or no record left to guess about.
    """
    columns = [side.attributes[attribute].numpy() for side in (known, test)]
    names, codes = grouped(np.concatenate(columns), known.attribute_classes.get(attribute, ()))
    mine, theirs = codes[: len(known)], codes[len(known) :]
    kept = np.flatnonzero(np.bincount(mine, minlength=len(names)) >= RARE)
    if len(kept) < 2 or not np.isin(theirs, kept).any():
        raise BadInputError(
            f"attribute {attribute!r}: expected two values or more that {RARE} of the adversary's records or more have "
            f"each, got {len(kept)} ({', '.join(names[one] for one in kept[:5]) or 'none'}). Give more non-members, or "
            "leave the attribute out."
        )
    sides = []
    for side, column in ((known, mine), (test, theirs)):
        rows = np.isin(column, kept)
        values = torch.from_numpy(np.searchsorted(kept, column[rows]).astype(np.int64))
        own = {attribute: tuple(names[one] for one in kept)}
        sides.append(replace(side[np.flatnonzero(rows)], attributes={attribute: values}, attribute_classes=own))
    return sides[0], sides[1], len(codes) - len(sides[0]) - len(sides[1])


class _Told:
    """What a model answered about records that it was asked about before, as log-posteriors."""

    def __init__(self, corpus: Corpus, answered: Sequence[str], logits: np.ndarray) -> None:
        top = logits - logits.max(axis=1, keepdims=True)
        posteriors = top - np.log(np.exp(top).sum(axis=1, keepdims=True))
        records = corpus.data.inputs[corpus.rows(answered)]
        self.answers = {_bytes(record): row for record, row in zip(records, posteriors, strict=True)}

    def __call__(self, records: Tensor) -> np.ndarray:
        return np.stack([self.answers[_bytes(record)] for record in records])


def _bytes(record: Tensor) -> bytes:
    return record.contiguous().numpy().tobytes()


def _sides(corpus: Corpus) -> tuple[Dataset, Dataset]:
    """The adversary's records, all that are no members, and the members."""
    outside = [part for part in (PRIVATE[1], POPULATION) if part in corpus.parts]
    return corpus.part(*outside), corpus.part(PRIVATE[0])


def _some(count: int, most: int, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])
