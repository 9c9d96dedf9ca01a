"""Elements of inline SVG as escaped strings, and what text takes in width."""

import html
import unicodedata
from collections.abc import Iterable

from divulge.report.words import clean

WIDE = 672
"""Width of a figure beside a column of text, in CSS pixels."""

NARROW = 328
"""Width of a figure on a phone of 360 pixels."""

SIZE = 12
"""Size of the letters of a figure, in the same pixels."""

Point = tuple[float, float]


def tag(name: str, *children: str, **attributes: str | float | None) -> str:
    """Write an element; `children` are written already, attribute values are escaped, `_` stands for `-`.

    Example:
        >>> tag("text", words("a < b"), x=1.25, class_="note")
        '<text x="1.25" class="note">a &lt; b</text>'
    """
    parts = [name]
    for key, value in attributes.items():
        if value is not None:
            written = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else clean(value)
            parts.append(f'{key.rstrip("_").replace("_", "-")}="{html.escape(written)}"')
    return f"<{' '.join(parts)}>{''.join(children)}</{name}>"


def words(text: object) -> str:
    """Escape text for the inside of an element."""
    return html.escape(clean(text))


def label(
    x: float, y: float, text: str, *, anchor: str = "start", room: float | None = None, kind: str = "label"
) -> str:
    """Write a line of text; where it is wider than `room` pixels it is cut and its full form is a tooltip."""
    shown = fit(text, room) if room is not None else clean(text)
    more = [tag("title", words(text))] if shown != clean(text) else []
    return tag("text", *more, words(shown), x=x, y=y, text_anchor=anchor, class_=kind)


def width(text: str, size: float = SIZE) -> float:
    """Estimate the width of text in pixels, for a wide system typeface."""
    return sum(_advance(letter) for letter in text) * size


def _advance(letter: str) -> float:
    if unicodedata.combining(letter):
        return 0.0
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.05
    if letter in " .,:;'|!iIjl()[]\u202f\u00a0":
        return 0.38
    if letter in "mwMW@%—":
        return 0.98
    return 0.72 if letter.isupper() else 0.63


def fit(text: str, room: float) -> str:
    """Cut text to `room` pixels with an ellipsis."""
    text = clean(text)
    if width(text) <= room:
        return text
    used, kept = width("…"), ""
    for letter in text:
        used += width(letter)
        if used > room:
            break
        kept += letter
    return kept.rstrip() + "…"


def wrap(text: str, room: float, most: int = 2) -> list[str]:
    """Break text into at most `most` lines of `room` pixels; what is left over is cut with an ellipsis."""
    lines: list[str] = []
    rest = clean(text).split()
    while rest and len(lines) < most - 1 and width(" ".join(rest)) > room:
        count = max((n for n in range(1, len(rest)) if width(" ".join(rest[:n])) <= room), default=0)
        if not count:
            break
        lines.append(" ".join(rest[:count]))
        rest = rest[count:]
    return [*lines, fit(" ".join(rest), room)]


def path(points: Iterable[Point], *, closed: bool = False, **attributes: str | float | None) -> str:
    """Draw a line through `points`, or the area inside them."""
    steps = "L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return tag("path", d=f"M{steps}{'Z' if closed else ''}", **attributes)


def whisker(low: float, high: float, y: float, half: float, *, kind: str) -> str:
    """Draw a horizontal interval at `y` with a stroke of twice `half` pixels at each end."""
    ends = "".join(f"M{x:.1f},{y - half:.1f}v{2 * half:.1f}" for x in (low, high))
    return tag("path", d=f"M{low:.1f},{y:.1f}H{high:.1f}{ends}", class_=kind)


def thin(points: list[Point], apart: float = 0.7) -> list[Point]:
    """Drop points that stand less than `apart` pixels from the last one kept; the first and the last stay."""
    kept = points[:1]
    for point in points[1:]:
        if abs(point[0] - kept[-1][0]) >= apart or abs(point[1] - kept[-1][1]) >= apart:
            kept.append(point)
    if len(points) > 1 and kept[-1] != points[-1]:
        kept.append(points[-1])
    return kept


def figure(
    *children: str, key: str, title: str, description: str, width: int, height: float, **attributes: str | float | None
) -> str:
    """Wrap drawn elements into an accessible picture.

    Args:
        children: elements written already.
        key: start of the identifiers inside, unique on the page.
        title: what it shows.
        description: what there is to see, in words.
        width: of the drawing, in CSS pixels.
        height: of the drawing.
        attributes: more of the outermost element.
    """
    return tag(
        "svg",
        tag("title", words(title), id=f"{key}-title"),
        tag("desc", words(description), id=f"{key}-desc"),
        *children,
        viewBox=f"0 0 {width} {height:.0f}",
        width=width,
        height=round(height),
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
        class_=f"drawing {'wide' if width == WIDE else 'narrow'}",
        **attributes,
    )


def nothing(*, key: str, title: str, width: int) -> str:
    """Say in place of a figure that there is nothing to draw."""
    text = label(width / 2, 30, "Nothing to draw: no values were recorded.", anchor="middle")
    return figure(text, key=key, title=title, description="No values were recorded.", width=width, height=48)
