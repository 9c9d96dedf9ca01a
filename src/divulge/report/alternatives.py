"""Figures as tables: what stands behind every drawing, for eyes that cannot see it and for copying."""

from functools import singledispatch

from divulge.auditing.facts import Bars, Curve, Histogram, Plot, Scatter, Table
from divulge.report import bars, words

ROWS = 16
"""A table lists at most so many points of a curve."""


@singledispatch
def table(block: object) -> Table:
    """The values of a figure as a table."""
    raise TypeError(f"no table for a {type(block).__name__}")


@table.register
def _(block: Plot) -> Table:
    rows: list[list[str | float | int | None]] = []
    for curve in block.curves:
        for index in _spread(curve):
            interval = words.span(curve.low[index], curve.high[index], block.y_unit) if curve.low else None
            x, y = words.measure(curve.x[index], block.x_unit), words.measure(curve.y[index], block.y_unit)
            rows.append([curve.label, x, y, interval])
    return Table(block.title, ["Curve", block.x_label, block.y_label, "95 % interval"], rows)


def _spread(curve: Curve) -> list[int]:
    """Places of a curve's points that stand evenly from its first to its last."""
    last = len(curve.x) - 1
    return sorted({round(index * last / (ROWS - 1)) for index in range(ROWS)}) if last > 0 else list(range(last + 1))


@table.register
def _(block: Bars) -> Table:
    rows: list[list[str | float | int | None]] = [
        [name, words.measure(value, bars.mark(block)), words.span(low, high, bars.mark(block)), count]
        for name, value, low, high, count in zip(
            block.labels, block.values, block.low, block.high, block.counts, strict=True
        )
    ]
    return Table(block.title, ["Group", bars.axis(block), "95 % interval", "Records"], rows)


@table.register
def _(block: Histogram) -> Table:
    bins = [words.span(low, high, block.x_unit) for low, high in zip(block.edges, block.edges[1:], strict=False)]
    rows: list[list[str | float | int | None]] = [
        [name, *(group[index] for group in block.groups.values())] for index, name in enumerate(bins)
    ]
    return Table(block.title, [block.x_label, *block.groups], rows)


@table.register
def _(block: Scatter) -> Table:
    rows: list[list[str | float | int | None]] = []
    for p in block.points:
        x = f"{words.measure(p.x, block.x_unit)} ({words.span(p.x_low, p.x_high, block.x_unit)})"
        y = f"{words.measure(p.y, block.y_unit)} ({words.span(p.y_low, p.y_high, block.y_unit)})"
        rows.append([p.series, p.label, x, y])
    return Table(block.title, ["Series", "Adversary", block.x_label, block.y_label], rows)
