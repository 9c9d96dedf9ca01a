"""The facts of an audit: everything the report says, as plain data with a versioned schema.

A report is a verdict, one card per release that was attacked, and sections made of blocks. A new family of attacks
brings a new section out of the blocks below; the report draws any block it is given.

Where a field is called a unit, `%` says that the values are fractions: they are written times 100 with a percent sign.
Any other unit is written as it is. Every number is finite and every list has the length it should, or building the
block raises `BadInputError`.
"""

import dataclasses
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from divulge import settings
from divulge.errors import BadInputError
from divulge.metrics.finding import Finding

SCHEMA = "divulge.report/2"
READABLE = ("divulge.report/1", SCHEMA)
"""Versions that can be read; an older one lacks only fields that have defaults."""

BANDS = ("no evidence", "weak", "moderate", "strong", "exact")
"""The five bands of a verdict, from nothing found to records recovered exactly."""


def _finite(name: str, values: Iterable[Any]) -> None:
    """Raise unless every float of `values` is finite: bad input never becomes a number of the report."""
    for index, value in enumerate(values):
        if isinstance(value, float) and not math.isfinite(value):
            raise BadInputError(
                f"{name}: expected finite numbers, got {value} at place {index}. Leave out what could not be measured."
            )


def _same_length(name: str, **lists: Any) -> None:
    """Raise unless all lists are equally long."""
    if len({len(values) for values in lists.values()}) > 1:
        found = ", ".join(f"{key} {len(values)}" for key, values in lists.items())
        raise BadInputError(f"{name}: expected lists of one length, got {found}.")


@dataclass(frozen=True)
class Verdict:
    """The answer on the first screen.

    Args:
        band: index into `BANDS`.
        sentence: what an outsider can do, in plain words.
        confidence: how sure that is: interval, counts, shadow models, the control.
        advice: the one thing to do next.
    """

    band: int
    sentence: str
    confidence: str
    advice: str

    def __post_init__(self) -> None:
        if not 0 <= self.band < len(BANDS):
            raise BadInputError(f"verdict: expected a band from 0 to {len(BANDS) - 1}, got {self.band}.")


@dataclass(frozen=True)
class Card:
    """The strongest attack on one release, or why none ran.

    Args:
        release: `posteriors`, `representation`, `weights` or `gradients`.
        question: what was asked, such as `Who was in the training set?`.
        attack: name of the strongest attack; empty if none ran.
        finding: its number, with its control inside; None if none ran.
        worst: the value of `finding.metric` that would mean total exposure (1 for a rate or AUC).
        needed: what the adversary needed, label to text, such as `queries: 25,000`.
        sentence: the finding in plain words, or why nothing ran.
        unit: of the finding's numbers; `%` for a rate that is a fraction.
        band: of this release alone, index into `BANDS`; None if nothing ran.
        confidence: how sure that is, where a report has a verdict for each of several releases.
        advice: the one thing to do next about this release, likewise.
    """

    release: str
    question: str
    attack: str
    finding: Finding | None
    worst: float
    needed: dict[str, str]
    sentence: str
    unit: str = ""
    band: int | None = None
    confidence: str = ""
    advice: str = ""

    def __post_init__(self) -> None:
        if self.band is not None and not 0 <= self.band < len(BANDS):
            raise BadInputError(f"card {self.question!r}: expected a band from 0 to {len(BANDS) - 1}, got {self.band}.")
        numbers = [self.worst]
        for one in (self.finding, self.finding.control if self.finding else None):
            numbers += [one.value, one.low, one.high] if one else []
        _finite(f"card {self.question!r}", numbers)


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: Literal["text"] = "text"


@dataclass(frozen=True)
class Table:
    """Rows of cells; numbers are right-aligned. `note` says how to read it, such as `higher is worse`."""

    title: str
    columns: list[str]
    rows: list[list[str | float | int | None]]
    note: str = ""
    kind: Literal["table"] = "table"

    def __post_init__(self) -> None:
        for row in self.rows:
            _same_length(f"table {self.title!r}", columns=self.columns, row=row)
            _finite(f"table {self.title!r}", row)


@dataclass(frozen=True)
class Curve:
    """One line of a plot, with an optional band; `x` does not fall."""

    label: str
    x: list[float]
    y: list[float]
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    role: Literal["main", "other", "control", "chance", "bound"] = "other"

    def __post_init__(self) -> None:
        band = {"low": self.low, "high": self.high} if self.low or self.high else {}
        _same_length(f"curve {self.label!r}", x=self.x, y=self.y, **band)
        _finite(f"curve {self.label!r}", [*self.x, *self.y, *self.low, *self.high])


@dataclass(frozen=True)
class Plot:
    """Curves on linear or log-log axes; a `bound` curve shades the region above it, which no other may enter."""

    title: str
    x_label: str
    y_label: str
    curves: list[Curve]
    log: bool = False
    note: str = ""
    x_unit: str = ""
    y_unit: str = ""
    kind: Literal["plot"] = "plot"


@dataclass(frozen=True)
class Bars:
    """One horizontal bar with an interval per label, drawn from the line at `reference`, such as chance, or from zero.

    The axis is named by `measure`, else by a `unit` in words, else by the title.
    """

    title: str
    unit: str
    labels: list[str]
    values: list[float]
    low: list[float]
    high: list[float]
    counts: list[int]
    reference: float | None = None
    note: str = ""
    measure: str = ""
    kind: Literal["bars"] = "bars"

    def __post_init__(self) -> None:
        name = f"bars {self.title!r}"
        _same_length(name, labels=self.labels, values=self.values, low=self.low, high=self.high, counts=self.counts)
        _finite(name, [*self.values, *self.low, *self.high, self.reference])


@dataclass(frozen=True)
class Histogram:
    """Counts of several groups in shared bins; `edges` has one more entry than each list of counts."""

    title: str
    x_label: str
    edges: list[float]
    groups: dict[str, list[int]]
    note: str = ""
    x_unit: str = ""
    kind: Literal["histogram"] = "histogram"

    def __post_init__(self) -> None:
        name = f"histogram {self.title!r}"
        _finite(name, self.edges)
        for group, counts in self.groups.items():
            _same_length(name, **{"bins between edges": self.edges[1:], group: counts})
        if any(right <= left for left, right in zip(self.edges, self.edges[1:], strict=False)):
            raise BadInputError(f"{name}: expected rising edges, got {self.edges[:6]} and so on.")


@dataclass(frozen=True)
class Tile:
    """One picture of a gallery, or a row of a table in its stead.

    Args:
        caption: what stands below it.
        images: PNG data URIs from top to bottom, such as original, reconstruction, nearest held-out image.
        text: shown where there is no picture.
        heading: what stands above it, such as its place among all.
    """

    caption: str
    images: list[str] = field(default_factory=list)
    text: str = ""
    heading: str = ""


@dataclass(frozen=True)
class Gallery:
    """A sheet of tiles; `rows` names the images of each tile from top to bottom."""

    title: str
    rows: list[str]
    tiles: list[Tile]
    note: str = ""
    kind: Literal["gallery"] = "gallery"

    def __post_init__(self) -> None:
        for tile in self.tiles:
            if len(tile.images) > len(self.rows):
                raise BadInputError(
                    f"gallery {self.title!r}: expected at most {len(self.rows)} images a tile, one for each named row, "
                    f"got {len(tile.images)}."
                )


@dataclass(frozen=True)
class Point:
    """One point of a trade-off: a defense (`series`) under one adversary (`label`), with intervals on both axes."""

    series: str
    label: str
    x: float
    x_low: float
    x_high: float
    y: float
    y_low: float
    y_high: float

    def __post_init__(self) -> None:
        numbers = [self.x, self.x_low, self.x_high, self.y, self.y_low, self.y_high]
        _finite(f"point {self.series!r}, {self.label!r}", numbers)


@dataclass(frozen=True)
class Scatter:
    """Trade-off points, those of one series joined; `chosen` names the recommended series.

    `x` is what the model is good for, higher is better; `y` is what it gives away, higher is worse. The front runs
    through the series that no other beats on both, each judged by its worst adversary.
    """

    title: str
    x_label: str
    y_label: str
    points: list[Point]
    chosen: str = ""
    note: str = ""
    x_unit: str = ""
    y_unit: str = ""
    kind: Literal["scatter"] = "scatter"


Block = Text | Table | Plot | Bars | Histogram | Gallery | Scatter
BLOCKS: dict[str, type] = {
    "text": Text,
    "table": Table,
    "plot": Plot,
    "bars": Bars,
    "histogram": Histogram,
    "gallery": Gallery,
    "scatter": Scatter,
}


@dataclass(frozen=True)
class Section:
    """A part of the report under one heading; `answers` is the question it answers.

    `exports` offers the records as CSV below its blocks.
    """

    title: str
    answers: str
    blocks: list[Block]
    exports: bool = False


@dataclass(frozen=True)
class Facts:
    """All that a report says.

    Args:
        title: name of the model.
        date: day of the audit, ISO 8601.
        released: what was released, in words.
        verdict: the answer.
        cards: one per question asked of a release.
        sections: the picture, who is exposed, defenses, and so on, in reading order.
        settings: every setting, seed, version and count, label to text.
        assumptions: what was taken for granted.
        not_tested: what this audit does not say.
        references: the sources of the methods.
        command: the exact command to repeat it.
        records: per-record risk for export: columns `record`, `class`, `score`, `member` and others, each a list.
        promise: what a privacy ledger promises beside what was measured, in a line; empty without a ledger.
        schema: version of this layout.
    """

    title: str
    date: str
    released: str
    verdict: Verdict
    cards: list[Card]
    sections: list[Section]
    settings: dict[str, str]
    assumptions: list[str]
    not_tested: list[str]
    references: list[str]
    command: str
    records: dict[str, list[Any]] = field(default_factory=dict)
    promise: str = ""
    schema: str = SCHEMA

    def __post_init__(self) -> None:
        _same_length("records", **self.records)
        for column, values in self.records.items():
            _finite(f"records, column {column!r}", values)

    def to_json(self) -> str:
        """The content of `report.json`."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False, allow_nan=False)

    @classmethod
    def read(cls, path: Path) -> "Facts":
        """Read a `report.json`.

        Raises:
            BadInputError: no JSON, or another schema version.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadInputError(f"{path}: expected a report.json, but {error}.") from None
        if not isinstance(values, dict) or values.get("schema") not in READABLE:
            found = values.get("schema") if isinstance(values, dict) else type(values).__name__
            raise BadInputError(
                f"{path}: expected schema {SCHEMA!r}, got {found!r}. Run the audit again with this version."
            )
        return settings.build(cls, values, where=str(path))
