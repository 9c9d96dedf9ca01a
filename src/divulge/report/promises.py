"""A study under differential privacy as one picture: the promise, what is measured, the accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files

from divulge.report import axes, svg, words
from divulge.studies import Results, Row

PANEL, GAP, COLUMN = 372, 16, 100
"""Pixels: a panel's width, the space between the two, and the room of a level without epsilon."""
TOP, FLOOR = 40.0, 270.0
"""Where the axes end and begin."""


@dataclass(frozen=True)
class Figure:
    """A picture that stands by itself.

    Args:
        svg: the file's content.
        alternative: what there is to see, in words.
    """

    svg: str
    alternative: str


@dataclass(frozen=True)
class Level:
    """What a study found of one way to train.

    Args:
        name: in words.
        epsilon: promised; None without privacy.
        most: the largest AUC that the promise allows.
        attack: the row of the strongest attack's AUC.
        accuracy: the row of the test accuracy, in per cent.
    """

    name: str
    epsilon: float | None
    most: float | None
    attack: Row
    accuracy: Row


def figure(results: Results) -> Figure | None:
    """Draw a study of the kind `promises`; None where no level has an epsilon."""
    levels = _levels(results.rows)
    if not any(level.epsilon for level in levels):
        return None
    told = " ".join(map(_told, levels))
    title = "Promise, measurement, accuracy: what leaks and what is learned at each epsilon"
    height = FLOOR + 78
    drawn = svg.figure(
        svg.tag("style", files("divulge.report").joinpath("figure.css").read_text(encoding="utf-8")),
        svg.tag("rect", width=2 * PANEL + GAP, height=height, class_="paper"),
        _leakage(levels),
        svg.tag("g", _accuracy(levels), transform=f"translate({PANEL + GAP} 0)"),
        key="f",
        title=title,
        description=told,
        width=2 * PANEL + GAP,
        height=height,
        xmlns="http://www.w3.org/2000/svg",
    )
    return Figure(drawn + "\n", f"{title}. {told}")


def _levels(rows: Sequence[Row]) -> list[Level]:
    """The levels in the order of their rows, each with its strongest attack."""
    values = {(row.row, row.metric): row.value for row in rows}
    found = []
    for row in rows:
        attacks = [one for one in rows if one.metric == "AUC" and one.row.startswith(f"{row.row}, ")]
        if row.metric == "test accuracy" and attacks:
            strongest = max(attacks, key=lambda one: one.value)
            epsilon, most = (values.get((row.row, metric)) for metric in ("epsilon", "largest AUC"))
            found.append(Level(row.row, epsilon, most, strongest, row))
    return found


def _told(level: Level) -> str:
    area = words.number(level.attack.value)
    limit = "" if level.most is None else f" of at most {words.number(level.most)}"
    return f"{level.name}: AUC {area}{limit}, test accuracy {words.percent(level.accuracy.value / 100)}."


@dataclass(frozen=True)
class Panel:
    """One of the two pairs of axes: epsilon to the right, levels without it at the end.

    Args:
        levels: what is drawn.
        x: of epsilon.
        y: of what was measured.
    """

    levels: Sequence[Level]
    x: axes.Scale
    y: axes.Scale

    @classmethod
    def of(cls, levels: Sequence[Level], y: axes.Scale) -> "Panel":
        """Lay out the horizontal axis beside a vertical one."""
        plain = sum(one.epsilon is None for one in levels)
        known = [one.epsilon for one in levels if one.epsilon]
        return cls(levels, axes.logarithmic(known, axes.margin(y), PANEL - 16.0 - COLUMN * plain), y)

    def place(self, level: Level) -> float:
        """The abscissa of a level."""
        if level.epsilon:
            return self.x.at(level.epsilon)
        plain = [one for one in self.levels if one.epsilon is None]
        return self.x.end + COLUMN * (plain.index(level) + 0.5) + 8

    def frame(self, name: str) -> str:
        """Draw the axes."""
        plain = [one for one in self.levels if one.epsilon is None]
        return "".join(
            [
                axes.left(self.y, self.x.start, PANEL - 16.0, name),
                axes.bottom(self.x, self.y.start, self.y.end, "epsilon promised"),
                *(
                    svg.label(self.place(one), self.y.start + 19, svg.fit(one.name, COLUMN - 16), anchor="middle")
                    for one in plain
                ),
            ]
        )

    def series(self, rows: Sequence[Row]) -> str:
        """Draw one measured row a level, those with an epsilon joined."""
        spots = [
            (self.place(level), self.y.at(row.value), [self.y.at(end) for end in _ends(row)])
            for level, row in zip(self.levels, rows, strict=True)
        ]
        joined = sorted((x, y) for level, (x, y, _) in zip(self.levels, spots, strict=True) if level.epsilon)
        return "".join(
            [
                svg.path(joined, class_="curve main"),
                *(svg.path([(x, max(ends)), (x, min(ends))], class_="interval") for x, _, ends in spots),
                *(svg.tag("circle", cx=x, cy=y, r=4.0, class_="dot main") for x, y, _ in spots),
            ]
        )


def _leakage(levels: Sequence[Level]) -> str:
    controls = [one.attack.control for one in levels if one.attack.control is not None]
    measured = [value for one in levels for value in _ends(one.attack)]
    y = axes.linear([*measured, *controls, 0.5, 1.0], FLOOR, TOP, zero=False)
    panel = Panel.of(levels, y)
    promised = sorted((one.epsilon, one.most) for one in levels if one.epsilon and one.most)
    limit = [(panel.x.at(epsilon), y.at(most)) for epsilon, most in promised]
    return "".join(
        [
            panel.frame("AUC of the strongest attack (higher is worse)"),
            svg.path([*limit, (limit[-1][0], y.end), (limit[0][0], y.end)], closed=True, class_="forbidden"),
            svg.path(limit, class_="curve bound"),
            *(
                svg.tag("circle", cx=panel.place(one), cy=y.at(one.attack.control), r=3.5, class_="dot control")
                for one in levels
                if one.attack.control is not None
            ),
            panel.series([one.attack for one in levels]),
            _legend(panel.x.start),
        ]
    )


def _accuracy(levels: Sequence[Level]) -> str:
    rows = [_fraction(one.accuracy) for one in levels]
    panel = Panel.of(levels, axes.linear([value for row in rows for value in _ends(row)], FLOOR, TOP, unit="%"))
    return panel.frame("test accuracy") + panel.series(rows)


def _legend(x: float) -> str:
    y = FLOOR + 62
    return "".join(
        [
            svg.tag("circle", cx=x + 8, cy=y - 4, r=4.0, class_="dot main"),
            svg.label(x + 18, y, "measured"),
            svg.tag("circle", cx=x + 100, cy=y - 4, r=3.5, class_="dot control"),
            svg.label(x + 110, y, "control"),
            svg.tag("rect", x=x + 172, y=y - 10, width=16.0, height=12.0, class_="forbidden"),
            svg.label(x + 194, y, "ruled out by epsilon"),
        ]
    )


def _ends(row: Row) -> list[float]:
    """A row's value with the ends of its interval, where it has one."""
    return [value for value in (row.low, row.value, row.high) if value is not None]


def _fraction(row: Row) -> Row:
    """A row in per cent as one of fractions, which axes write in per cent."""
    low, high = (None if end is None else end / 100 for end in (row.low, row.high))
    return replace(row, value=row.value / 100, low=low, high=high)
