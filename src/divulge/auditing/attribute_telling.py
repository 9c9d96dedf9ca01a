"""From guesses of attributes to a card, a section and words."""

from collections.abc import Mapping
from typing import Any

from divulge.auditing.attribute_found import Found
from divulge.auditing.attribute_layers import of_layers
from divulge.auditing.attribute_tables import of_table
from divulge.auditing.facts import Card, Section, Text
from divulge.auditing.probes.base import Outcome
from divulge.auditing.subject import Subject
from divulge.runs.step import Artifact

QUESTION = "What does the model tell of a record's attributes?"


def outcome(subject: Subject, artifacts: Mapping[str, Artifact]) -> Outcome:
    """Everything the report says about attributes."""
    able = {name: one for name, one in artifacts.items() if "refused" not in one.facts}
    refused = {name: str(one.facts["refused"]) for name, one in artifacts.items() if "refused" in one.facts}
    not_tested = [f"Attribute {name}: {reason.rstrip('.')}." for name, reason in refused.items()]
    left = [name for name in subject.corpus.data.attributes if name not in artifacts]
    if left:
        not_tested.append(f"Attributes {', '.join(left)}: the first {len(artifacts)} were guessed.")
    if not able:
        reason = "Attributes were not guessed: " + " ".join(refused.values())
        return Outcome(Card("posteriors", QUESTION, "", None, 1.0, {}, reason), None, "", "", not_tested=not_tested)
    level = 1 - 0.05 / len(able)
    found = [
        of_table(name, one, confidence=level) if "audit" in one.facts else of_layers(name, one, confidence=level)
        for name, one in able.items()
    ]
    worst = max(found, key=lambda one: (one.band, one.gained.low if one.gained else one.finding.low))
    control = worst.finding.control
    assert control is not None
    widened = ", widened for choosing the worst of all attributes, layers and attacks"
    confidence = (
        f"95 % interval {100 * worst.finding.low:.0f} to {100 * worst.finding.high:.0f} of 100{widened}; "
        f"{worst.finding.n:,} records. Control: the best guess without the model, or from an untrained copy of it, is "
        f"right for {100 * control.value:.0f} of 100."
    )
    advice = _advice(worst)
    records: dict[str, list[Any]] = {}
    for one in found:
        if one.records and not records.keys() - {"record"}:
            records = dict(one.records)
        elif one.records:
            place = {record: row for row, record in enumerate(one.records["record"])}
            rows = [place.get(record) for record in records["record"]]
            records |= {
                name: ["" if row is None else values[row] for row in rows]
                for name, values in one.records.items()
                if name != "record"
            }
    return Outcome(
        card=Card(
            release=worst.release,
            question=QUESTION,
            attack=worst.attack,
            finding=worst.finding,
            worst=1.0,
            unit="%",
            needed=worst.needed,
            sentence=worst.sentence,
        ),
        band=worst.band,
        confidence=confidence,
        advice=advice,
        sections=[
            Section(
                "Attributes",
                "What does the model tell of records beyond what it was made for, and what could be guessed anyway?",
                [block for one in found for block in [Text(one.sentence), *one.blocks]],
            )
        ],
        settings={f"attribute {name}": _settings(one) for name, one in able.items()},
        assumptions=[
            "Who guesses attributes has records of their own whose attributes are known: the non-members, or part of "
            "them.",
        ],
        not_tested=not_tested,
        references=sorted({line for one in found for line in one.references}),
        records=records,
    )


def _settings(artifact: Artifact) -> str:
    facts = artifact.facts
    if "audit" in facts:
        return f"{facts['known']:,} records of the adversary, {facts['queries']:,} queries"
    left = f", {facts['left out']:,} records with rare values left out" if facts["left out"] else ""
    return f"{facts['known']:,} records of the adversary, {len(facts['ids']):,} training records to guess{left}"


def _advice(worst: Found) -> str:
    if worst.band == 0:
        return "Nothing found speaks against giving out this model on account of the attributes that were guessed."
    if worst.release == "weights":
        return (
            f"Do not hand out what the layers make of records whose {worst.name} must stay unknown: give answers "
            "alone, or train with the attribute censored, and repeat the audit with that defense named, so that the "
            "adversary knows it too."
        )
    return (
        f"Where {worst.name} must stay unknown, answer with the label alone or fewer digits (label-only, top-k, "
        "rounding), or train without what correlates with it, and repeat the audit."
    )
