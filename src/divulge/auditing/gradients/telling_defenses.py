"""Defenses of what a client shares: what each leaves to every adversary, and what it does to the gradient."""

from collections.abc import Mapping

import numpy as np

from divulge.auditing.facts import Block, Point, Scatter, Table, Text
from divulge.auditing.gradients.audit import Exchange
from divulge.auditing.gradients.audit_evidence import Evidence
from divulge.auditing.gradients.audit_grade import Grade, grade
from divulge.auditing.gradients.audit_strongest import Rebuilt
from divulge.auditing.gradients.telling_pictures import side_by_side
from divulge.auditing.gradients.telling_words import decibels, strongest_attack
from divulge.metrics import Estimate
from divulge.metrics.intervals import bootstrap

CALM = 1
"""The highest band of a worst adversary at which a defense may be recommended."""


def recommended(exchange: Exchange, evidence: Evidence, grades: Mapping[int, Grade]) -> str:
    """The defense whose worst adversary recognizes no more than chance would, and of those the one that keeps most of
    a gradient; empty if none does.

    The oracle has no say: what a defense draws at random is a secret that it may keep, as a key is.
    """
    first = exchange.batch_sizes[0]
    worst: dict[str, int] = {}
    seen: set[str] = set()
    for one in evidence.defended:
        if one.case.adversary == "oracle":
            continue
        label = one.case.defense.label
        found = grade(one, seed=exchange.seed)
        worst[label] = max(worst.get(label, 0), found.band)
        if found.recognizable.value > found.by_chance.value:
            seen.add(label)
    calm = [label for label, band in worst.items() if band <= CALM and band < grades[first].band and label not in seen]
    return max(calm, key=lambda label: float(np.mean(evidence.prices[label].arrays["cosine"])), default="")


def blocks(exchange: Exchange, evidence: Evidence, *, chosen: str) -> list[Block]:
    """The grid of defenses and adversaries."""
    first = exchange.batch_sizes[0]
    few = len(evidence.defended[0])
    plain = evidence.plain[first].first(few)
    base = grade(plain, seed=exchange.seed)
    points = [Point("none", "any", 1.0, 1.0, 1.0, *_flat(base.closeness))]
    rows: list[list[str | float | int | None]] = [_row("none", "none", base, plain, None)]
    shown: dict[str, list[tuple[str, Rebuilt]]] = {}
    for one in evidence.defended:
        label, adversary = one.case.defense.label, one.case.adversary
        kept = bootstrap(_mean, np.asarray(evidence.prices[label].arrays["cosine"]), seed=exchange.seed)
        lost = float(np.mean(evidence.prices[label].arrays["error"]))
        found = grade(one, seed=exchange.seed)
        points.append(Point(label, adversary, *_flat(kept), *_flat(found.closeness)))
        rows.append(_row(label, adversary, found, one, (kept.value, lost)))
        shown.setdefault(label, []).append((adversary, one))
    scatter = Scatter(
        title="What is left of the gradient, and what it still gives away",
        x_label="cosine of the angle between the shared and the true gradient (1: unchanged)",
        y_label="how near rebuilt records are, median",
        y_unit="dB",
        points=points,
        chosen=chosen,
        note="Down and to the right is better. A defense whose adaptive point lies far above its blind one only fools "
        "an adversary who does not know it.",
    )
    table = Table(
        title="Each defense against each adversary",
        columns=[
            "defense", "adversary", "recognizable", "exact", "median dB", "control dB", "cosine", "error", "attack",
        ],
        rows=rows,
        note="Recognizable and exact are shares of the records, in brackets 95 % intervals; higher is worse. Control: "
        "the same reconstructions against other records of their classes. Error: length of the change as a share of "
        "the gradient's. An adversary takes what one who knows less has surely found; searches that find less start at "
        "random, so that among few clients one who knows more may still do worse by chance.",
    )  # fmt: skip
    pictured = [side_by_side(exchange, shown, plain)] if exchange.records.is_image else []
    told = (
        f"On {few} clients with a batch of {first}. Blind: knows of no defense. Adaptive: knows it and its settings. "
        "Oracle: also knows what it drew at random. What a defense costs in accuracy takes a federated training under "
        "it, which this audit does not do; how much of the gradient survives is a first hint."
    )
    return [Text(told), scatter, *pictured, table]


def _row(
    label: str, adversary: str, found: Grade, rebuilt: Rebuilt, cost: tuple[float, float] | None
) -> list[str | float | int | None]:
    return [
        label,
        adversary,
        _percent(found.recognizable),
        f"{100 * found.exact.value:.0f} %",
        decibels(found.closeness),
        f"{found.elsewhere.value:.0f}",
        None if cost is None else f"{cost[0]:.3f}",
        None if cost is None else f"{cost[1]:.2f}",
        strongest_attack(rebuilt),
    ]


def _percent(share: Estimate) -> str:
    return f"{100 * share.value:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]"


def _flat(one: Estimate) -> tuple[float, float, float]:
    return one.value, one.low, one.high


def _mean(values: np.ndarray) -> float:
    return float(values.mean())
