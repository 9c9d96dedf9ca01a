"""Curves on linear or log-log axes as SVG."""

import math
from collections.abc import Iterator

from divulge.auditing.facts import Curve, Plot
from divulge.report import axes, svg, words
from divulge.report.axes import Scale

ORDER = ("bound", "control", "chance", "other", "main")
"""Roles from the back to the front of a plot."""


def style(plot: Plot, index: int) -> str:
    """The class of a curve: its role, and for further curves which of them it is."""
    role = plot.curves[index].role
    if role != "other":
        return role
    return f"other other-{[i for i, curve in enumerate(plot.curves) if curve.role == 'other'].index(index) % 4}"


def draw(plot: Plot, *, key: str, width: int = svg.WIDE) -> str:
    """Draw `plot`, `width` pixels wide; `key` starts the identifiers inside.

    On log axes a point without a positive height is left out, and one without a positive abscissa stands on the left
    edge: a share of true positives at no false positive at all.
    """
    xs = [value for curve in plot.curves for value in curve.x]
    ys = [value for curve in plot.curves for value in (*curve.y, *curve.low, *curve.high)]
    if not xs:
        return svg.nothing(key=key, title=plot.title, width=width)
    x_name, y_name = axes.title(plot.x_label, plot.x_unit), axes.title(plot.y_label, plot.y_unit)
    top = axes.above(y_name, width)
    floor = top + width * (0.5 if width == svg.WIDE else 0.7)
    make = axes.logarithmic if plot.log else axes.linear
    if plot.log:
        drawn = [curve for curve in plot.curves if curve.role not in ("chance", "bound")] or plot.curves
        xs = [value for curve in drawn for value in curve.x]
        ys = [value for curve in drawn for value in curve.y]
    y = make(ys, floor, top, unit=plot.y_unit)
    edge = axes.margin(y)
    x = make(xs, edge, width - 16.0, unit=plot.x_unit)
    parts = [axes.left(y, edge, x.end, y_name), axes.bottom(x, floor, top, x_name)]
    indices = sorted(range(len(plot.curves)), key=lambda index: ORDER.index(plot.curves[index].role))
    parts += [_curve(plot.curves[index], style(plot, index), x, y) for index in indices]
    return svg.figure(
        *parts,
        key=key,
        title=plot.title,
        description=describe(plot),
        width=width,
        height=floor + axes.below(x_name, x.end - x.start),
        data_x=f"{x.low!r} {x.high!r} {x.start!r} {x.end!r} {plot.x_unit}".strip(),
        data_y=f"{y.low!r} {y.high!r} {y.start!r} {y.end!r} {plot.y_unit}".strip(),
        data_log="true" if plot.log else None,
    )


def _curve(curve: Curve, kind: str, x: Scale, y: Scale) -> str:
    line = list(_visible(curve.x, curve.y, x, y))
    parts = []
    if curve.low:
        upper, lower = (
            [(x.at(a), y.at(b)) for a, b in zip(curve.x, end, strict=True)] for end in (curve.high, curve.low)
        )
        if len(upper) > 1:
            parts.append(svg.path(svg.thin(upper) + svg.thin(lower)[::-1], closed=True, class_=f"band {kind}"))
    if curve.role == "bound" and line:
        region = [*svg.thin(line), (x.end, line[-1][1]), (x.end, y.end), (line[0][0], y.end)]
        parts.append(svg.path(region, closed=True, class_="forbidden"))
    if len(line) > 1:
        parts.append(svg.path(svg.thin(line), class_=f"curve {kind}", data_label=curve.label))
    elif line:
        parts.append(svg.tag("circle", cx=line[0][0], cy=line[0][1], r=4, class_=f"dot {kind}"))
    return "".join(parts)


def _visible(xs: list[float], ys: list[float], x: Scale, y: Scale) -> Iterator[svg.Point]:
    """The pixels of a curve inside the axes: on log axes its lines are cut where they cross the lower edge."""
    points = list(zip(xs, ys, strict=True))
    if x.log:
        points = _from_edge([(a, b) for a, b in points if b > 0], x.low)
    for index, (a, b) in enumerate(points):
        if x.log and index and (b < y.low) != (points[index - 1][1] < y.low):
            yield x.at(_between(points[index - 1][::-1], (b, a), y.low)), y.start
        if not x.log or b >= y.low:
            yield x.at(a), y.at(b)


def _from_edge(points: list[svg.Point], edge: float) -> list[svg.Point]:
    """Let a curve of rising abscissas begin at the left edge of a log axis, at its height there."""
    outside = [index for index, (a, _) in enumerate(points) if a <= edge]
    if not outside:
        return points
    last, inside = points[outside[-1]], points[outside[-1] + 1 :]
    height = _between(last, inside[0], edge) if last[0] > 0 and inside else last[1]
    return [(edge, height), *inside]


def _between(first: svg.Point, second: svg.Point, at: float) -> float:
    """The second coordinate where a straight line of a log-log plot has the first coordinate `at`."""
    share = math.log(at / first[0]) / math.log(second[0] / first[0])
    return first[1] * (second[1] / first[1]) ** share


def describe(plot: Plot) -> str:
    """Say in words what the curves do."""
    kind = "logarithmic" if plot.log else "linear"
    parts = [f"{plot.y_label} against {plot.x_label}, {kind} axes."]
    for curve in plot.curves:
        if not curve.x:
            parts.append(f"{curve.label}: no values.")
        elif len(curve.x) == 1:
            at = words.measure(curve.x[0], plot.x_unit)
            parts.append(f"{curve.label}: {words.measure(curve.y[0], plot.y_unit)} at {at}.")
        else:
            first, last = (words.measure(curve.y[i], plot.y_unit) for i in (0, -1))
            start, end = (words.measure(curve.x[i], plot.x_unit) for i in (0, -1))
            region = "what lies above the line " if curve.role == "bound" else ""
            parts.append(f"{curve.label}: {region}from {first} at {start} to {last} at {end}.")
    return " ".join(parts)
