"""Which items of which user each attack named, in tables."""

from collections.abc import Sequence

import numpy as np
import torch

from divulge.auditing.facts import Bars, Block, Table
from divulge.auditing.recommenders.evidence import Case, Tried
from divulge.auditing.recommenders.exchange import UserExchange
from divulge.metrics import bootstrap

SHOWN = 25
"""Users in the table of the report; the export has all."""
LISTED = 8
"""Items that are named for a user."""


def columns(exchange: UserExchange, case: Case) -> dict[str, list[object]]:
    """Every attacked user with the scores, for export; of a union, all its users together."""
    names = ("record", "class", "items", "score", "precision", "recall", "whole basket", "attack")
    told: dict[str, list[object]] = {name: [] for name in names}
    found = case.best
    for place, rows in enumerate(_units(case)):
        told["record"].append(_called(exchange, rows))
        told["class"].append("user" if len(rows) == 1 else "users")
        told["items"].append(int(exchange.users.inputs[rows].any(dim=0).sum()))
        told["score"].append(float(found.metric("F1")[place]))
        told["precision"].append(float(found.metric("precision")[place]))
        told["recall"].append(float(found.metric("recall")[place]))
        told["whole basket"].append(bool(found.metric("whole baskets")[place]))
        told["attack"].append(case.strongest)
    return told


def _units(case: Case) -> list[torch.Tensor]:
    """Rows of the users behind each line of scores."""
    if len(case.best.scores) == len(case.users):
        return list(case.users)
    return [row[None] for rows in case.users for row in rows]


def users(exchange: UserExchange, case: Case) -> list[Block]:
    """What was named for each user, beside what the popularity of items tells."""
    found, units = case.best, _units(case)
    order = np.argsort(-found.metric("F1"), kind="stable")
    shown = order[np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int))]
    rows: list[list[str | float | int | None]] = []
    for place in shown:
        count = int(exchange.users.inputs[units[place]].any(dim=0).sum())
        precision, recall = (float(found.metric(name)[place]) for name in ("precision", "recall"))
        hits = round(recall * count)
        rows.append(
            [
                _called(exchange, units[place]),
                count,
                round(hits / precision) if precision else 0,
                hits,
                f"{100 * precision:.0f} %",
                f"{100 * recall:.0f} %",
                f"{100 * float(found.control('F1')[place]):.0f} %",
            ]
        )
    table = Table(
        title="Users from the most to the least exposed",
        columns=["user", "items", "named", "right", "precision", "recall", "by popularity"],
        rows=rows,
        note=f"{len(rows)} of {len(units)} users, evenly spaced. Precision: the share of the items named that is "
        "right; recall: that of the user's items that is named. By popularity: the share that is right of as many of "
        "the most popular items. Higher is worse.",
    )
    return [*_baskets(exchange, case, order), table]


def _baskets(exchange: UserExchange, case: Case, order: np.ndarray) -> list[Block]:
    """What was named for the most, the middle and the least exposed user, where a set is known to be one user's."""
    if len(case.best.named) != len(case.best.scores):
        return []
    units = _units(case)
    rows: list[list[str | float | int | None]] = []
    for word, place in {"most": 0, "median": (len(order) - 1) // 2, "least": len(order) - 1}.items():
        row = int(order[place])
        named = case.best.named[row].any(dim=0)
        truth = exchange.users.inputs[units[row]].any(dim=0)
        parts = (named & truth, named & ~truth, truth & ~named)
        rows.append([f"{word}: {_called(exchange, units[row])}", *(_listed(exchange, part) for part in parts)])
    return [
        Table(
            title="Three baskets",
            columns=["user", "named and right", "named and wrong", "missed"],
            rows=rows,
            note=f"The most, the median and the least exposed user; of long lists the first {LISTED} items.",
        )
    ]


def _called(exchange: UserExchange, rows: torch.Tensor) -> str:
    return " + ".join(exchange.users.id(int(row)) for row in rows)


def _listed(exchange: UserExchange, items: torch.Tensor) -> str:
    """Some items by name, and how many more there are."""
    numbers = items.nonzero()[:, 0].tolist()
    names = ", ".join(exchange.name_of(item) for item in numbers[:LISTED])
    return f"{names} and {len(numbers) - LISTED} more" if len(numbers) > LISTED else names or "none"


def attacks(exchange: UserExchange, cases: Sequence[Case]) -> list[Block]:
    """Every attack on its own, beside its controls."""
    rows: list[list[str | float | int | None]] = []
    labels, values, low, high, counts = [], [], [], [], []
    for case in cases:
        for name, one in case.tried.items():
            if one.refused:
                continue
            rows.append(_row(exchange, case, name, one))
            f1 = bootstrap(_mean, one.metric("F1"), seed=exchange.seed)
            labels.append(name if case.adversary is None else f"{name}, {case.adversary}")
            values.append(f1.value)
            low.append(f1.low)
            high.append(f1.high)
            counts.append(len(one.scores))
    best = max(cases, key=lambda case: float(case.best.metric("F1").mean())).best
    bars = Bars(
        title="Items of a user that each attack gets right",
        unit="%",
        labels=labels,
        values=values,
        low=low,
        high=high,
        counts=counts,
        reference=float(best.control("F1").mean()),
        measure="F1 (100 %: every item, and no other)",
        note="The line: as many of the most popular items, named without the update. Higher is worse.",
    )
    table = Table(
        title="Every attack that ran",
        columns=[
            "attack", "adversary", "users", "precision", "recall", "F1", "whole baskets", "popular items", "any items",
            "another user's", "ms",
        ],
        rows=rows,
        note="Means over users, in brackets 95 % intervals. Controls are F1: as many of the most popular items, as "
        "many drawn at random, and what was named held against another user. ms: computing time a record.",
    )  # fmt: skip
    return [bars, table]


def _row(exchange: UserExchange, case: Case, name: str, one: Tried) -> list[str | float | int | None]:
    def told(metric: str) -> str:
        found = bootstrap(_mean, one.metric(metric), seed=exchange.seed)
        ends = "" if found.low == found.high else f" [{100 * found.low:.0f}, {100 * found.high:.0f}]"
        return f"{100 * found.value:.0f} %{ends}"

    controls = [*(float(rows[:, 2].mean()) for rows in one.guessed.values()), float(one.others[:, 2].mean())]
    return [
        name,
        case.adversary or "–",
        len(one.scores),
        told("precision"),
        told("recall"),
        told("F1"),
        f"{100 * float(one.metric('whole baskets').mean()):.0f} %",
        *(f"{100 * value:.0f} %" for value in controls),
        f"{1000 * one.seconds:.1f}",
    ]


def _mean(values: np.ndarray) -> float:
    return float(values.mean())
