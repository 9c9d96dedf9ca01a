"""The report as one HTML page: self-contained, offline, readable without its script."""

import base64
import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from divulge.auditing.facts import BANDS, Bars, Facts, Histogram, Plot, Scatter, Table
from divulge.errors import BadInputError
from divulge.report import alternatives, bars, export, marks, plot, scatter, svg, words

EMBEDDED = 200_000
"""The page carries at most so many characters of CSV, the most exposed records first."""

HEADING = 12
"""Letters above a picture that fit into one line."""

_PNG = "data:image/png;base64,"
_THUMB = 96


def render(facts: Facts) -> str:
    """Write the page.

    Raises:
        BadInputError: a picture that is no PNG data URI.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("divulge", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else words.clean(value),
    )
    style, script = (Markup(files("divulge.report").joinpath(name).read_text(encoding="utf-8").strip())
                     for name in ("style.css", "script.js"))  # fmt: skip
    environment.globals.update(
        bands=BANDS, words=words, cells=cells, numeric=numeric, picture=picture, legend=legend, most=bars.MOST,
        both=lambda draw, *args, key: Markup(_both(draw, *args, key=key)),
        draw_band=marks.bands, draw_dot=marks.dot, drawing=drawing, alternative=alternatives.table,
        front=scatter.front, tall=lambda block: any(len(tile.heading) > HEADING for tile in block.tiles),
    )  # fmt: skip
    return environment.get_template("page.html").render(
        facts=facts,
        style=style,
        script=script,
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
        several=sum(card.band is not None for card in facts.cards) > 1,
        download=download(facts.records),
        exporter=next((index for index, section in enumerate(facts.sections) if section.exports), None),
    )


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def _both(draw: Callable[..., str], *args: Any, key: str) -> str:
    """Draw a figure twice, for a column of text and for a phone; the style sheet shows one of the two."""
    return draw(*args, key=f"{key}-w", width=svg.WIDE) + draw(*args, key=f"{key}-n", width=svg.NARROW)


def drawing(block: Any, *, key: str, width: int) -> str:
    """Draw any block that is a figure."""
    return _DRAW[type(block)](block, key=key, width=width)


_DRAW: dict[type, Callable[..., str]] = {
    Plot: plot.draw,
    Bars: bars.draw,
    Histogram: bars.histogram,
    Scatter: scatter.draw,
}


def legend(block: Any) -> list[tuple[str, str]]:
    """What the lines and shapes of a figure mean: pairs of a style class and a text."""
    if isinstance(block, Plot):
        kinds = [plot.style(block, index) for index in range(len(block.curves))]
        return [
            ("area forbidden" if kind == "bound" else f"line {kind}", curve.label)
            for kind, curve in zip(kinds, block.curves, strict=True)
        ]
    if isinstance(block, Histogram):
        return [(f"area group-{index % 4}", name) for index, name in enumerate(block.groups)]
    if isinstance(block, Scatter):
        shapes = [(f"shape shape-{i % scatter.SHAPES}", f"{name} adversary") for i, name in
                  enumerate(scatter.adversaries(block))]  # fmt: skip
        return [*shapes, *([("line front", "Pareto front")] if len(scatter.front(block)) > 1 else [])]
    return []


@dataclass(frozen=True)
class Picture:
    """A checked data URI with the size of its picture and the size to show it in."""

    source: str
    width: int
    height: int


def picture(source: str) -> Picture:
    """Check that `source` is a PNG data URI and nothing else.

    Raises:
        BadInputError: another scheme or type, broken base64, or bytes that are no PNG.
    """
    head = b""
    if source.startswith(_PNG):
        try:
            head = base64.b64decode(source[len(_PNG) :], validate=True)[:24]
        except ValueError:
            head = b""
    if not head.startswith(b"\x89PNG\r\n\x1a\n") or len(head) < 24:
        raise BadInputError(
            f"picture of a gallery: expected '{_PNG}' and the bytes of a PNG, got {words.clean(source[:40])!r}. "
            "Encode pictures as PNG."
        )
    width, height = struct.unpack(">II", head[16:24])
    scale = _THUMB / max(width, height, 1)
    return Picture(source, max(1, round(width * scale)), max(1, round(height * scale)))


def numeric(table: Table) -> list[bool]:
    """Which columns of a table hold numbers, so that all of it stands to the right."""
    columns = [[row[index] for row in table.rows] for index in range(len(table.columns))]
    return [
        any(value is not None for value in column) and not any(isinstance(value, str) for value in column)
        for column in columns
    ]


def cells(table: Table) -> Iterator[list[tuple[str, str, float | None]]]:
    """The rows of a table as cells: `number`, `text` or `none`, what is written, and the value to sort by."""
    written: list[list[str]] = []
    for index in range(len(table.columns)):
        column = [row[index] for row in table.rows]
        floats = iter(words.column([value for value in column if isinstance(value, float)]))
        written.append([next(floats) if isinstance(value, float) else _cell(value) for value in column])
    right = numeric(table)
    for number, row in enumerate(table.rows):
        kinds = [
            ("none number" if right[place] else "none", None)
            if value is None
            else ("text", None)
            if isinstance(value, str)
            else ("number", float(value))
            for place, value in enumerate(row)
        ]
        yield [(kind, written[place][number], value) for place, (kind, value) in enumerate(kinds)]


def _cell(value: str | int | None) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:,}".replace("-", "−")


@dataclass(frozen=True)
class Download:
    """The records that the page carries as CSV, and how many of how many they are."""

    uri: str
    rows: int
    total: int


def download(records: dict[str, list[Any]]) -> Download | None:
    """The most exposed records as a data URI; None where there are none."""
    total = len(next(iter(records.values()), []))
    if not total:
        return None
    text, rows = export.to_csv(records, limit=EMBEDDED)
    coded = base64.b64encode(text.encode("utf-8-sig")).decode()
    return Download(f"data:text/csv;charset=utf-8;base64,{coded}", rows, total)
