"""The five bands of the verdict, and the dot of a card with its control, as SVG."""

from divulge.auditing.facts import BANDS, Card
from divulge.metrics.finding import Finding
from divulge.report import axes, svg, words


def bands(band: int, *, key: str, width: int = svg.WIDE) -> str:
    """Draw the five bands with a mark on the one that was found."""
    step = width / len(BANDS)
    parts = []
    for index, name in enumerate(BANDS):
        here = index == band
        parts.append(
            svg.tag(
                "rect", x=step * index, y=14, width=step - 3, height=14.0,
                class_=f"band-{index}{'' if here else ' faint'}",
            )
        )  # fmt: skip
        middle = step * index + (step - 3) / 2
        lines = name.split() if width == svg.NARROW else [name]
        for line, text in enumerate(lines):
            parts.append(
                svg.label(middle, 46 + 15 * line, text, anchor="middle", kind="label here" if here else "label")
            )
        if here:
            parts.append(svg.tag("path", d=f"M{middle - 7:.1f},0h14l-7,10Z", class_="pointer"))
    title = f"Verdict: {BANDS[band]}"
    description = f"Band {band + 1} of {len(BANDS)}, from {BANDS[0]} to {BANDS[-1]}: {BANDS[band]}."
    return svg.figure(
        *parts, key=key, title=title, description=description, width=width, height=66 if width == svg.NARROW else 52
    )


def dot(card: Card, finding: Finding, *, key: str, width: int = svg.WIDE) -> str:
    """Draw a finding as a dot with its interval, over the gray band of its control, on an axis up to the worst."""
    control = finding.control
    known = [finding.value, finding.low, finding.high, card.worst]
    known += [control.value, control.low, control.high] if control else []
    near_zero = min(known) >= 0 and (card.unit == "%" or min(known) < 0.4 * max(known))
    scale = axes.linear(known, 14.0, width - 26.0, unit=card.unit, zero=near_zero)
    top, y = 30.0, 50.0
    floor = 74.0
    name = axes.title(finding.metric, card.unit)
    parts = [axes.bottom(scale, floor, top, name)]
    if control:
        left, right = sorted((scale.at(control.low), scale.at(control.high)))
        parts.append(
            svg.tag("rect", x=left - 1.5, y=top, width=right - left + 3, height=floor - top, class_="control-band")
        )
    low, high, x = scale.at(finding.low), scale.at(finding.high), scale.at(finding.value)
    parts.append(svg.whisker(low, high, y, 8, kind="interval"))
    parts.append(svg.tag("circle", cx=x, cy=y, r=6, class_="dot main"))
    parts += _captions(card, finding, scale)
    text = f"{finding.metric}: {words.finding(finding, card.unit)}"
    return svg.figure(
        *parts, key=key, title=f"{card.question} {text}", description=_describe(card, finding),
        width=width, height=floor + axes.below(name, scale.end - scale.start),
    )  # fmt: skip


def _captions(card: Card, finding: Finding, scale: axes.Scale) -> list[str]:
    """Name the value, the control and the worst above their places; what would touch the one before it is left out."""
    wanted = [(scale.at(finding.value), words.measure(finding.value, "%" if card.unit == "%" else ""), "strong")]
    if finding.control:
        wanted.append(((scale.at(finding.control.low) + scale.at(finding.control.high)) / 2, "control", "tick"))
    wanted.append((scale.at(card.worst), "total exposure", "tick"))
    parts: list[str] = []
    taken: list[tuple[float, float]] = []
    for x, text, kind in wanted:
        size = svg.width(text) * (1.15 if kind == "strong" else 1)
        middle = min(max(x, size / 2), scale.end + 26 - size / 2)
        ends = (middle - size / 2, middle + size / 2)
        if text == "control" and _touches(ends, taken):
            left = taken[0][0] - 8 - size
            ends = (left, left + size) if left >= 0 else (taken[0][1] + 8, taken[0][1] + 8 + size)
        if not _touches(ends, taken):
            taken.append(ends)
            parts.append(svg.label((ends[0] + ends[1]) / 2, 20, text, anchor="middle", kind=kind))
    return parts


def _touches(ends: tuple[float, float], taken: list[tuple[float, float]]) -> bool:
    return any(ends[0] < right + 7 and left < ends[1] + 7 for left, right in taken)


def _describe(card: Card, finding: Finding) -> str:
    text = f"{finding.metric} is {words.measure(finding.value, card.unit)}, 95 percent interval "
    text += f"{words.span(finding.low, finding.high, card.unit)}, from {finding.n:,} records."
    if finding.control:
        text += (
            " The control, the same attack where there is nothing to find: "
            f"{words.measure(finding.control.value, card.unit)}, "
            f"interval {words.span(finding.control.low, finding.control.high, card.unit)}."
        )
    return f"{text} Total exposure would be {words.measure(card.worst, card.unit)}."
