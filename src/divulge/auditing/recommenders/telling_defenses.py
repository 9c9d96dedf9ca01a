"""Defenses of a recommender's users: what each leaves to every adversary, and what its noise promises."""

from collections.abc import Mapping, Sequence

import numpy as np

from divulge.auditing.facts import Block, Point, Scatter, Table, Text
from divulge.auditing.promise import short
from divulge.auditing.recommenders.evidence import Case
from divulge.auditing.recommenders.exchange import UserExchange
from divulge.auditing.recommenders.grading import Grade
from divulge.defenses.recommenders.base import Undefended
from divulge.metrics import Estimate, bootstrap
from divulge.privacy.accounting import epsilon
from divulge.privacy.words import up

CALM = 0
"""The highest band of a worst adversary at which a defense may be recommended."""
DELTA = 1e-5
ROUNDS = (1, 10, 100)


def recommended(exchange: UserExchange, cases: Sequence[Case], grades: Mapping[int, Grade], without: int) -> str:
    """The defense tried whose worst adversary finds no more than a guess, and of those the one that keeps most of an
    update; empty if none does, or there is nothing to defend against.

    The oracle has no say: what a defense draws at random is a secret that it may keep, as a key is.
    """
    worst: dict[str, int] = {}
    kept: dict[str, float] = {}
    for case in cases:
        if case.adversary in ("blind", "adaptive"):
            label = case.defense.label
            worst[label] = max(worst.get(label, 0), grades[id(case)].band)
            kept[label] = float(np.nan_to_num(case.cosine).mean())
    tried = {one.label for one in exchange.defenses}
    calm = [label for label, band in worst.items() if label in tried and band <= CALM < without]
    return max(calm, key=lambda label: kept[label], default="")


def blocks(exchange: UserExchange, cases: Sequence[Case], grades: Mapping[int, Grade], *, chosen: str) -> list[Block]:
    """The grid of defenses and adversaries, who breaks what, and how."""
    points, rows = [], []
    for case in cases:
        found, label = grades[id(case)], case.defense.label
        kept = None if np.isnan(case.cosine).any() else bootstrap(_mean, case.cosine, seed=exchange.seed)
        if kept is not None:
            points.append(Point(label, case.adversary or "any", *kept, *found.f1))
        rows.append(_row(case, found, kept))
    scatter = Scatter(
        title="What is left of an update, and what it still gives away",
        x_label="cosine of the angle between the shared and the true update (1: unchanged)",
        y_label="items of a user that are read, F1",
        y_unit="%",
        points=points,
        chosen=chosen,
        note="Down and to the right is better. A defense whose adaptive point lies far above its blind one only fools "
        "an adversary who does not know it. Defenses that change the model or add users up stand in the table alone.",
    )
    table = Table(
        title="Each defense against each adversary",
        columns=["defense", "adversary", "whole baskets", "F1", "by popularity", "lead", "cosine", "users", "attack"],
        rows=rows,
        note="Whole baskets and F1 are means over users, in brackets 95 % intervals; higher is worse. Lead: F1 less "
        "that of as many of the most popular items.",
    )
    told = "Blind: knows of no defense. Adaptive: knows it and its settings. Oracle: also knows what it drew at random."
    return [Text(told), *(Text(line) for line in _verdicts(cases, grades)), scatter, table]


def _verdicts(cases: Sequence[Case], grades: Mapping[int, Grade]) -> list[str]:
    """For each defense the adversary who breaks it, or that none did."""
    told = []
    for label in dict.fromkeys(case.defense.label for case in cases if not isinstance(case.defense, Undefended)):
        own = [case for case in cases if case.defense.label == label and case.adversary in ("blind", "adaptive")]
        worst = max(own, key=lambda case: (grades[id(case)].band, grades[id(case)].f1.value))
        found, knows = grades[id(worst)], own[0].defense.adaptive
        if found.band >= 2:
            what = (
                f"reads {100 * found.whole.value:.0f} of 100 baskets without an error"
                if found.band == 4
                else f"reaches an F1 of {100 * found.f1.value:.0f} %, {100 * found.lead.value:.0f} above popularity"
            )
            way = f": it {knows}" if worst.adversary == "adaptive" and knows else ""
            told.append(f"{label} is broken by the {worst.adversary} adversary, who {what} ({worst.strongest}){way}.")
        else:
            lead = f"{100 * found.lead.value:.0f} [{100 * found.lead.low:.0f}, {100 * found.lead.high:.0f}]"
            told.append(
                f"{label} was broken by none of the adversaries tried on {found.users:,} users: the best leads "
                f"popularity by {lead} points of F1."
            )
    return told


def promises(exchange: UserExchange) -> list[Block]:
    """What the noise of each defense promises to a user, for some numbers of rounds; empty where none promises."""
    rows: list[list[str | float | int | None]] = []
    users = len(exchange.users)
    caveats: list[str] = []
    for one in {d.label: d for d in (exchange.declared, *exchange.defenses)}.values():
        rate = min(1.0, one.summed / users) if one.summed > 1 else 1.0
        for rounds in ROUNDS:
            ledger = one.ledger(users=users, rounds=rounds, sampling_rate=rate)
            if ledger is None:
                break
            spent = epsilon(ledger, delta=DELTA).epsilon
            seen = "each update" if one.summed == 1 else f"sums of {one.summed}"
            rows.append([one.label, seen, rounds, f"{100 * rate:.3g} %", up(spent, 3)])
            caveats += [line for line in ledger.caveats if line not in caveats]
    if not rows:
        return []
    table = Table(
        title=f"Epsilon of a user with all items, at delta {short(DELTA)}",
        columns=["defense", "what is seen", "rounds", "users in a round", "epsilon"],
        rows=rows,
        note="Lower promises more; beyond about 10 it promises little. Where each update is seen, rounds are those in "
        "which the user takes part. " + " ".join(caveats),
    )
    return [table]


def _row(case: Case, found: Grade, kept: Estimate | None) -> list[str | float | int | None]:
    return [
        case.defense.label,
        case.adversary or "–",
        _percent(found.whole),
        _percent(found.f1),
        f"{100 * found.guessed.value:.0f} %",
        f"{100 * found.lead.value:.0f}",
        None if kept is None else f"{kept.value:.3f}",
        found.users,
        case.strongest,
    ]


def _percent(share: Estimate) -> str:
    return f"{100 * share.value:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]"


def _mean(values: np.ndarray) -> float:
    return float(values.mean())
