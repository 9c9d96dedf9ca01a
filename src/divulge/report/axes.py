"""Scales from values to pixels, their ticks, and the axes of a figure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from divulge.report import svg, words

DECADES = 6
"""A log axis shows at most so many powers of ten below its upper end."""


@dataclass(frozen=True)
class Scale:
    """A map of values from `low` to `high` onto pixels from `start` to `end`; what lies outside is clamped."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    unit: str = ""

    def at(self, value: float) -> float:
        """The pixel of `value`."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, *, upright: bool = False) -> list[tuple[float, str]]:
        """Values worth a label, with labels that do not touch each other; `upright` for a vertical axis."""
        length = abs(self.end - self.start)
        if self.log:
            return self._apart([(value, self._write(value)) for value in self._powers()], upright)
        most = max(2, int(length / (44 if upright else 78)))
        for count in range(most, 0, -1):
            values = _steps(self.low, self.high, count)
            step = values[1] - values[0] if len(values) > 1 else self.high - self.low
            ticks = [(value, self._write(value, step)) for value in values]
            if self._apart(ticks, upright) == ticks:
                break
        return self._apart(ticks, upright)

    def _apart(self, ticks: list[tuple[float, str]], upright: bool) -> list[tuple[float, str]]:
        """Every so many of `ticks` that they stand apart, the last one among them."""
        if len(ticks) < 2:
            return ticks
        widest = max(svg.width(text) for _, text in ticks)
        need = 2 * svg.SIZE if upright else widest + 10 + max(0.0, widest / 2 - OVERHANG)
        every = math.ceil(need / abs(self.at(ticks[1][0]) - self.at(ticks[0][0])))
        return ticks[(len(ticks) - 1) % every :: every]

    def minor(self) -> list[float]:
        """Unlabeled ticks between the powers of ten of a log axis."""
        if not self.log:
            return []
        between = [power * digit for power in self._powers() for digit in range(2, 10)]
        return [value for value in between if self.low < value < self.high]

    def _powers(self) -> list[float]:
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        return [10.0**power for power in range(first, last + 1)]

    def _write(self, value: float, step: float | None = None) -> str:
        if step is None or not 1e-4 < step < 1e6:
            return words.measure(value, "%") if self.unit == "%" else words.number(value)
        if self.unit == "%":
            return words.trim(f"{value * 100:,.{_decimals(step * 100)}f}").replace("-", "−") + words.PERCENT
        return f"{value:,.{_decimals(step)}f}".replace("-", "−")


def _decimals(step: float) -> int:
    return max(0, -math.floor(math.log10(step) + 1e-9))


def _step(width: float, count: int) -> float:
    """The smallest 1, 2 or 5 times a power of ten that divides `width` into at most `count` parts."""
    power = 10.0 ** math.floor(math.log10(width / count))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor * count >= width * (1 - 1e-9))


def _steps(low: float, high: float, count: int) -> list[float]:
    step = _step(high - low, count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * index for index in range(first, last + 1)]


def linear(
    values: Iterable[float], start: float, end: float, *, unit: str = "", zero: bool = True, parts: int = 5
) -> Scale:
    """A linear scale with round ends that holds all `values`, and zero where `zero`."""
    known = [*values, *([0.0] if zero else [])]
    low, high = min(known), max(known)
    if high - low < 1e-12 * max(1.0, abs(high)):
        low, high = low - (0 if zero and low >= 0 else 0.5), high + 0.5
    step = _step(high - low, parts)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return Scale(low, high, start, end, unit=unit)


def logarithmic(values: Iterable[float], start: float, end: float, *, unit: str = "") -> Scale:
    """A log scale between powers of ten that holds the positive `values`, down to `DECADES` below the largest."""
    known = [value for value in values if value > 0] or [1.0]
    top = math.ceil(math.log10(max(known)) - 1e-9)
    bottom = max(math.floor(math.log10(min(known)) + 1e-9), top - DECADES)
    return Scale(10.0 ** min(bottom, top - 1), 10.0**top, start, end, log=True, unit=unit)


OVERHANG = 14
"""Pixels that a label may reach over the right end of its axis."""

LINE = 15
"""Pixels from one line of text to the next."""


def title(name: str, unit: str) -> str:
    """The name of an axis with its unit, which `%` leaves to the ticks."""
    return name if unit in ("", "%") else f"{name}, {unit}"


def below(name: str, room: float) -> float:
    """Pixels that a horizontal axis with this name needs below it."""
    return 36.0 + LINE * len(svg.wrap(name, room))


def above(name: str, room: float) -> float:
    """Pixels that a vertical axis with this name needs above it."""
    return 20.0 + LINE * len(svg.wrap(name, room))


def bottom(scale: Scale, y: float, top: float, name: str) -> str:
    """Draw a horizontal axis at `y` with grid lines up to `top`, and its name below."""
    parts = [svg.tag("line", x1=scale.at(v), x2=scale.at(v), y1=y, y2=y + 3, class_="axis") for v in scale.minor()]
    for value, text in scale.ticks():
        x = scale.at(value)
        parts.append(svg.tag("line", x1=x, x2=x, y1=top, y2=y + 5, class_="grid"))
        parts.append(_inside(x, y + 19, text, scale))
    parts.append(svg.tag("line", x1=scale.start, x2=scale.end, y1=y, y2=y, class_="axis"))
    middle = (scale.start + scale.end) / 2
    for line, text in enumerate(svg.wrap(name, scale.end - scale.start)):
        parts.append(svg.label(middle, y + 40 + LINE * line, text, anchor="middle", kind="name"))
    return "".join(parts)


def _inside(x: float, y: float, text: str, scale: Scale) -> str:
    """A tick label, moved by a few pixels where it would stand over an end of the drawing."""
    half = svg.width(text) / 2
    return svg.label(max(half, min(x, scale.end + OVERHANG - half)), y, text, anchor="middle", kind="tick")


def left(scale: Scale, x: float, right: float, name: str) -> str:
    """Draw a vertical axis at `x` with grid lines to `right`; its name stands above its upper end."""
    parts = []
    for value, text in scale.ticks(upright=True):
        y = scale.at(value)
        parts.append(svg.tag("line", x1=x - 5, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(svg.label(x - 9, y + 4, text, anchor="end", kind="tick"))
    parts.append(svg.tag("line", x1=x, x2=x, y1=scale.start, y2=scale.end, class_="axis"))
    lines = svg.wrap(name, right)
    for line, text in enumerate(lines):
        parts.append(svg.label(0, scale.end - 14 - LINE * (len(lines) - 1 - line), text, kind="name"))
    return "".join(parts)


def margin(scale: Scale) -> float:
    """Pixels that the labels of a vertical axis need to its left."""
    return max(svg.width(text) for _, text in scale.ticks(upright=True)) + 12
