"""Timing two ways of doing one thing in alternating pairs, and the row of the table that comes of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from divulge.runs.provenance import commit, machine


@dataclass(frozen=True)
class Row:
    """One comparison.

    Args:
        benchmark: what is compared with what.
        ours_seconds: median wall time of divulge's way; None if not run.
        other_seconds: median wall time of the other way; None where there is none.
        ratio: median over the pairs of the other's time to ours.
        ratio_range: lowest and highest ratio of the pairs.
        target: what is aimed at, in words; None where nothing is, or not on this machine.
        met: whether the target is met by the median; None without target or result.
        ours_auc: AUC of divulge's attack, where it is one.
        other_auc: AUC of the other's attack.
        note: what a reader must know; why it was not run.
        repeats: how many pairs.
    """

    benchmark: str
    ours_seconds: float | None = None
    other_seconds: float | None = None
    ratio: float | None = None
    ratio_range: tuple[float, float] | None = None
    target: str | None = None
    met: bool | None = None
    ours_auc: float | None = None
    other_auc: float | None = None
    note: str = ""
    repeats: int = 0
    machine: dict[str, Any] = field(default_factory=machine)
    commit: str | None = field(default_factory=commit)


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def alternate(ours: Callable[[], float], other: Callable[[], float], *, repeats: int) -> list[tuple[float, float]]:
    """Seconds of both in each pair; which goes first alternates, so that a drift of the machine favors neither."""
    pairs = []
    for number in range(repeats):
        if number % 2:
            slow, fast = other(), ours()
        else:
            fast, slow = ours(), other()
        pairs.append((fast, slow))
    return pairs


def compare(
    benchmark: str,
    ours: Callable[[], object],
    other: Callable[[], object],
    *,
    repeats: int,
    target: float | None,
    note: str = "",
) -> Row:
    """Run both once to warm up, then in alternating pairs."""
    ours()
    other()
    pairs = alternate(lambda: seconds(ours), lambda: seconds(other), repeats=repeats)
    return summarize(benchmark, pairs, target=target, note=note)


def summarize(benchmark: str, pairs: list[tuple[float, float]], *, target: float | None, note: str = "") -> Row:
    """The row of pairs of seconds, ours first."""
    ratios = [slow / fast for fast, slow in pairs]
    ratio = median(ratios)
    return Row(
        benchmark,
        ours_seconds=median(fast for fast, _ in pairs),
        other_seconds=median(slow for _, slow in pairs),
        ratio=ratio,
        ratio_range=(min(ratios), max(ratios)),
        target=None if target is None else f"ratio >= {target:g}",
        met=None if target is None else ratio >= target,
        note=note,
        repeats=len(pairs),
    )
