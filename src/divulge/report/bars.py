"""Bars with intervals, and histograms, as SVG."""

from divulge.auditing.facts import Bars, Histogram
from divulge.report import axes, svg, words

MOST = 24
"""A figure draws at most so many bars, the highest ones; the table below it has all."""


def shown(bars: Bars) -> list[int]:
    """Which bars are drawn: all in their order, or the `MOST` highest from the top."""
    indices = range(len(bars.labels))
    if len(indices) <= MOST:
        return list(indices)
    return sorted(indices, key=lambda index: -bars.values[index])[:MOST]


def axis(bars: Bars) -> str:
    """What the axis of the bars is called."""
    if bars.measure:
        return axes.title(bars.measure, bars.unit)
    return bars.title if bars.unit in ("", "%") else bars.unit


def mark(bars: Bars) -> str:
    """What is written after each value; any unit but `%` stands at the axis alone."""
    return "%" if bars.unit == "%" else ""


def draw(bars: Bars, *, key: str, width: int = svg.WIDE) -> str:
    """Draw `bars`, `width` pixels wide; on a phone the names stand above their bars."""
    if not bars.labels:
        return svg.nothing(key=key, title=bars.title, width=width)
    indices = shown(bars)
    names = [svg.width(words.clean(bars.labels[index])) for index in indices]
    beside = min(max(names) + 14, 190.0) if width == svg.WIDE else 0.0
    found = [bars.values[index] for index in indices]
    values = [words.percent(value) for value in found] if bars.unit == "%" else words.column(found)
    after = max(svg.width(text) for text in values) + 14
    reference = [] if bars.reference is None else [bars.reference]
    ends = [end for index in indices for end in (bars.values[index], bars.low[index], bars.high[index])]
    scale = axes.linear(
        ends + reference, beside + 2, width - max(after, 26.0), unit=bars.unit, zero=bars.reference is None
    )
    base = scale.at(bars.reference or 0.0)
    row, top = (24.0 if beside else 38.0), 26.0
    floor = top + row * len(indices) + 4
    name = axis(bars)
    parts = [axes.bottom(scale, floor, top - 6, name)]
    if bars.reference is not None:
        parts.append(svg.tag("line", x1=base, x2=base, y1=top - 6, y2=floor, class_="reference"))
    for place, index in enumerate(indices):
        y = top + row * place + (row / 2 if beside else row - 10)
        parts.append(_bar(bars, index, scale, base, y, beside))
        right = width - after + 8
        parts.append(svg.label(right, y + 4, values[place], kind="value"))
    if bars.reference is not None:
        text = f"guessing: {words.measure(bars.reference, mark(bars))}"
        half = svg.width(text) / 2
        x = min(max(base, half), width - half)
        parts.append(svg.label(x, top - 12, text, anchor="middle", kind="tick"))
    return svg.figure(
        *parts,
        key=key,
        title=bars.title,
        description=describe(bars),
        width=width,
        height=floor + axes.below(name, scale.end - scale.start),
    )


def _bar(bars: Bars, index: int, scale: axes.Scale, base: float, y: float, beside: float) -> str:
    value, low, high = scale.at(bars.values[index]), scale.at(bars.low[index]), scale.at(bars.high[index])
    hint = (
        f"{bars.labels[index]}: {words.measure(bars.values[index], mark(bars))} "
        f"({words.span(bars.low[index], bars.high[index], mark(bars))}), n = {bars.counts[index]:,}"
    )
    exposed = bars.low[index] > (bars.reference or 0.0)
    name = bars.labels[index]
    return svg.tag(
        "g",
        svg.tag("title", svg.words(hint)),
        svg.label(beside - 8, y + 4, name, anchor="end", room=beside - 10)
        if beside
        else svg.label(2, y - 11, name, room=scale.end),
        svg.tag(
            "rect", x=min(base, value), y=y - 6, width=max(abs(value - base), 0.5), height=12,
            class_="bar above" if exposed else "bar",
        ),
        svg.whisker(low, high, y, 3, kind="whisker"),
    )  # fmt: skip


def describe(bars: Bars) -> str:
    """Say in words which bars stand out."""
    order = sorted(range(len(bars.labels)), key=lambda index: -bars.values[index])
    first, last = order[0], order[-1]
    text = (
        f"{len(order)} bars. Highest: {bars.labels[first]} with {words.measure(bars.values[first], mark(bars))}; "
        f"lowest: {bars.labels[last]} with {words.measure(bars.values[last], mark(bars))}."
    )
    return text if bars.reference is None else f"{text} The line is at {words.measure(bars.reference, mark(bars))}."


def histogram(block: Histogram, *, key: str, width: int = svg.WIDE) -> str:
    """Draw the groups of `block` as outlines over shared bins."""
    if len(block.edges) < 2 or not block.groups:
        return svg.nothing(key=key, title=block.title, width=width)
    x_name, y_name = axes.title(block.x_label, block.x_unit), "Records in each bin"
    top = axes.above(y_name, width)
    floor = top + width * (0.34 if width == svg.WIDE else 0.55)
    counts = [count for group in block.groups.values() for count in group]
    y = axes.linear(counts, floor, top)
    edge = axes.margin(y)
    x = axes.Scale(block.edges[0], block.edges[-1], edge, width - 16.0, unit=block.x_unit)
    parts = [axes.left(y, edge, x.end, y_name), axes.bottom(x, floor, top, x_name)]
    for index, group in enumerate(block.groups.values()):
        line = [(x.at(block.edges[0]), y.start)]
        for count, start, end in zip(group, block.edges, block.edges[1:], strict=False):
            line += [(x.at(start), y.at(count)), (x.at(end), y.at(count))]
        line.append((x.at(block.edges[-1]), y.start))
        parts.append(svg.path(line, closed=True, class_=f"band group-{index % 4}"))
        parts.append(svg.path(line, class_=f"curve group-{index % 4}"))
    totals = "; ".join(f"{name}: {sum(group):,} records" for name, group in block.groups.items())
    description = f"Histogram of {block.x_label} in {len(block.edges) - 1} bins. {totals}."
    return svg.figure(
        *parts, key=key, title=block.title, description=description, width=width,
        height=floor + axes.below(x_name, x.end - x.start),
    )  # fmt: skip
