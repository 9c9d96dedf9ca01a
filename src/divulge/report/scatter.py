"""Trade-offs as SVG: what a defense costs against what still leaks, once for each adversary."""

from dataclasses import dataclass
from itertools import pairwise

from divulge.auditing.facts import Point, Scatter
from divulge.report import axes, svg, words

SHAPES = 4
"""Shapes that tell adversaries apart, used in turn."""


@dataclass(frozen=True)
class Box:
    """A rectangle that text takes."""

    x: float
    y: float
    width: float
    height: float

    def meets(self, other: "Box") -> bool:
        """Whether two rectangles overlap."""
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and self.y < other.y + other.height
            and other.y < self.y + self.height
        )

    def holds(self, other: "Box") -> bool:
        """Whether all of `other` stands inside."""
        return (
            self.x <= other.x
            and other.x + other.width <= self.x + self.width
            and self.y <= other.y
            and other.y + other.height <= self.y + self.height
        )


def names(block: Scatter) -> list[str]:
    """The series in the order of their first point; their numbers in the figure count from 1."""
    return list(dict.fromkeys(point.series for point in block.points))


def adversaries(block: Scatter) -> list[str]:
    """The adversaries in the order of their first point, each with a shape of its own."""
    return list(dict.fromkeys(point.label for point in block.points))


def front(block: Scatter) -> list[str]:
    """The Pareto front from left to right: series that no other beats on both axes, judged by their worst adversary."""
    worst = {name: _worst(block, name) for name in names(block)}
    kept = [
        name
        for name, one in worst.items()
        if not any(
            other.x >= one.x and other.y <= one.y and (other.x > one.x or other.y < one.y) for other in worst.values()
        )
    ]
    return sorted(kept, key=lambda name: worst[name].x)


def _worst(block: Scatter, name: str) -> Point:
    return max((point for point in block.points if point.series == name), key=lambda point: point.y)


def draw(block: Scatter, *, key: str, width: int = svg.WIDE) -> str:
    """Draw `block`, `width` pixels wide, series numbered as in `names`."""
    if not block.points:
        return svg.nothing(key=key, title=block.title, width=width)
    x_name, y_name = axes.title(block.x_label, block.x_unit), axes.title(block.y_label, block.y_unit)
    top = axes.above(y_name, width)
    floor = top + width * (0.52 if width == svg.WIDE else 0.8)
    ys = [value for p in block.points for value in (p.y, p.y_low, p.y_high)]
    y = axes.linear(ys, floor, top, unit=block.y_unit, zero=False)
    edge = axes.margin(y)
    xs = [value for p in block.points for value in (p.x, p.x_low, p.x_high)]
    x = axes.linear(xs, edge, width - 22.0, unit=block.x_unit, zero=False)
    parts = [axes.left(y, edge, x.end, y_name), axes.bottom(x, floor, top, x_name)]
    best = [_worst(block, name) for name in front(block)]
    taken = [Box(x.at(p.x) - 6, y.at(p.y) - 6, 12, 12) for p in block.points]
    if len(best) > 1:
        line = [(x.at(p.x), y.at(p.y)) for p in best]
        parts.append(svg.path(line, class_="front"))
        taken += _along(line)
    shapes = adversaries(block)
    groups = {name: [point for point in block.points if point.series == name] for name in names(block)}
    for points in groups.values():
        taken += _along([(x.at(p.x), y.at(p.y)) for p in points])
    room = Box(edge, 24, width - edge, floor - 24)
    labels = []
    for number, (name, points) in enumerate(groups.items(), start=1):
        chosen = " chosen" if name == block.chosen else ""
        marks = [svg.path([(x.at(p.x), y.at(p.y)) for p in points], class_="join")] if len(points) > 1 else []
        marks += [_mark(p, x.at(p.x), y.at(p.y), shapes.index(p.label) % SHAPES, x, y, block) for p in points]
        parts.append(svg.tag("g", *marks, class_=f"series{chosen}"))
        worst = _worst(block, name)
        labels.append(_name(number, name, (x.at(worst.x), y.at(worst.y)), taken, room, chosen))
    return svg.figure(
        *parts, *labels, key=key, title=block.title, description=describe(block), width=width,
        height=floor + axes.below(x_name, x.end - x.start),
    )  # fmt: skip


def _mark(p: Point, cx: float, cy: float, shape: int, x: axes.Scale, y: axes.Scale, block: Scatter) -> str:
    hint = (
        f"{p.series}, {p.label} adversary: {block.y_label} {words.measure(p.y, block.y_unit)} "
        f"({words.span(p.y_low, p.y_high, block.y_unit)}), {block.x_label} {words.measure(p.x, block.x_unit)} "
        f"({words.span(p.x_low, p.x_high, block.x_unit)})"
    )
    cross = f"M{x.at(p.x_low):.1f},{cy:.1f}H{x.at(p.x_high):.1f}M{cx:.1f},{y.at(p.y_low):.1f}V{y.at(p.y_high):.1f}"
    return svg.tag(
        "g",
        svg.tag("title", svg.words(hint)),
        svg.tag("path", d=cross, class_="whisker"),
        svg.tag("path", d=outline(shape, cx, cy), class_=f"mark shape-{shape}"),
    )


def outline(shape: int, x: float, y: float, r: float = 5.0) -> str:
    """The outline of one of the `SHAPES`: circle, square, diamond, triangle."""
    if shape == 0:
        return f"M{x - r:.1f},{y:.1f}a{r},{r} 0 1 0 {2 * r},0a{r},{r} 0 1 0 {-2 * r},0Z"
    if shape == 1:
        return f"M{x - r + 0.5:.1f},{y - r + 0.5:.1f}h{2 * r - 1}v{2 * r - 1}h{1 - 2 * r}Z"
    if shape == 2:
        return f"M{x:.1f},{y - r - 1.5:.1f}l{r + 1.5},{r + 1.5}l{-r - 1.5},{r + 1.5}l{-r - 1.5},{-r - 1.5}Z"
    return f"M{x:.1f},{y - r - 1:.1f}l{r + 1},{2 * r}h{-2 * r - 2}Z"


def _along(line: list[svg.Point]) -> list[Box]:
    """Small boxes along a line, so that no text is written over it."""
    boxes = []
    for (x0, y0), (x1, y1) in pairwise(line):
        steps = int(max(abs(x1 - x0), abs(y1 - y0)) / 6) + 1
        boxes += [Box(x0 + (x1 - x0) * i / steps - 1, y0 + (y1 - y0) * i / steps - 1, 2, 2) for i in range(steps + 1)]
    return boxes


def _name(number: int, name: str, at: svg.Point, taken: list[Box], room: Box, chosen: str) -> str:
    """Write a series' number, with its name where that fits, in a free place near its worst point."""
    full = f"{number} {svg.fit(name, 150)}"
    for text in (full, str(number)):
        size = svg.width(text) * (1.1 if chosen else 1)
        for distance in (4, 14, 26, 40, 58, 80):
            for dx, dy in ((9, 0), (-9 - size, 0), (-size / 2, -1), (-size / 2, 1), (6, -1), (6, 1), (-size - 6, -1)):
                side = distance - 4 if dy == 0 else 0
                x = at[0] + dx + (side if dx > 0 else -side)
                box = Box(x, at[1] - 8 + dy * (distance + 10), size, 16)
                if room.holds(box) and not any(box.meets(other) for other in taken):
                    taken.append(box)
                    return svg.label(box.x, box.y + 12, text, kind=f"label{chosen}")
    return ""


def describe(block: Scatter) -> str:
    """Say in words where each series stands."""
    parts = [f"{block.y_label} against {block.x_label}."]
    for name in names(block):
        found = ", ".join(f"{p.label} {words.measure(p.y, block.y_unit)}" for p in block.points if p.series == name)
        parts.append(f"{name}: {found} at {words.measure(_worst(block, name).x, block.x_unit)}.")
    return " ".join([*parts, f"Recommended: {block.chosen}."] if block.chosen else parts)
