"""A column of a table whose values were tried on the model, in words and blocks."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from divulge.attacks import ATTACKS
from divulge.auditing.attribute_found import Found
from divulge.auditing.attribute_steps import audit_of
from divulge.auditing.attributes import IMPUTATION, AttributeAudit
from divulge.auditing.facts import Table, Text
from divulge.auditing.words import share
from divulge.metrics import clopper_pearson
from divulge.runs.step import Artifact

_ROOM = "divulge.attacks.attributes."


def of_table(name: str, artifact: Artifact, *, confidence: float) -> Found:
    """A column of a table whose values were tried on the model."""
    found = audit_of(artifact)
    head = max((one for one in found.findings if one.metric.startswith("precision")), key=lambda one: one.n)
    tried = len({row["attack"] for row in found.rows} - {IMPUTATION})
    low, high = clopper_pearson(head.value * head.n, head.n, confidence=1 - (1 - confidence) / max(tried, 1))
    finding = replace(head, metric=f"{name}, {head.metric}", low=float(low), high=float(high))
    control = finding.control
    assert control is not None
    elsewhere = _row(found, found.strongest, "non-members", head.metric)
    told = (
        f"Whoever knows the rest of a training record and can ask the model guesses {name} right for "
        f"{share(head.value)} of the {head.n:,} guesses that are surest. Without the model {share(control.value)} of "
        "the surest could be guessed anyway, from the other columns"
    )
    if elsewhere is not None:
        told += (
            f"; of records that were not in the training the model gives {share(elsewhere)}, so this is "
            f"{'about training records' if head.low > elsewhere else 'about the kind of record, and no memory of one'}"
        )
    return Found(
        name=name,
        release="posteriors",
        attack=found.strongest,
        finding=finding,
        gained=None,
        sentence=f"{told}.",
        blocks=[_attacks(found), *(Text(note[:1].upper() + note[1:].rstrip(".") + ".") for note in found.notes)],
        records={},
        references=sorted({cls.source for cls in ATTACKS.classes.values() if cls.__module__.startswith(_ROOM)}),
        needed={
            "known of a record": "every other column, and its class",
            "records with known attribute": f"{artifact.facts['known']:,}",
            "queries": f"{artifact.facts['queries']:,}",
        },
    )


def _row(found: AttributeAudit, attack: str, records: str, metric: str) -> float | None:
    wanted = (attack, records, metric)
    values = [row["value"] for row in found.rows if (row["attack"], row["records"], row["metric"]) == wanted]
    return float(values[0]) if values else None


def _attacks(found: AttributeAudit) -> Table:
    """Every attack on members and on others, the imputation among them."""
    metrics = list(dict.fromkeys(row["metric"] for row in found.rows))
    shown = [*[one for one in metrics if one.startswith("precision")][-2:], "accuracy", "balanced accuracy"]
    rows: list[list[str | float | int | None]] = []
    for attack, records in dict.fromkeys((row["attack"], row["records"]) for row in found.rows):
        own = {row["metric"]: row for row in found.rows if (row["attack"], row["records"]) == (attack, records)}
        rows.append([attack, records, *(_interval(own.get(metric)) for metric in shown)])
    return Table(
        title=f"{found.attribute}, by every attack",
        columns=["attack", "records", *shown],
        rows=rows,
        note="With 95 % intervals. Imputation sees no model: what it guesses could be guessed anyway. Precision at top "
        "k: share of the k surest guesses that are right. Higher is worse.",
    )


def _interval(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else f"{100 * row['value']:.0f} % [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"
