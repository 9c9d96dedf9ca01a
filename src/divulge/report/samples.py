"""A study of reconstructions as one picture: what was private, and what each attack made of what was released."""

import base64
import struct
from importlib.resources import files

from divulge.report import svg, words
from divulge.report.promises import Figure
from divulge.studies import Results
from divulge.studies.base import Sample

NAMES = 300
"""Pixels for the names of the lines."""
GAP, LINE = 8, 16.0
"""Between two lines of pictures, and from one line of text to the next."""


def figure(results: Results) -> Figure | None:
    """Draw the samples of a study; None where it has none."""
    if not results.samples:
        return None
    scale = min((svg.WIDE - NAMES - GAP) / _size(one)[0] for one in results.samples)
    parts, told, y = [], [], float(GAP)
    for one in results.samples:
        width, height = (scale * side for side in _size(one))
        named, score = svg.wrap(one.row, NAMES - 2 * GAP), _score(one, results)
        told.append(f"{one.row}: {score}" if score else one.row)
        lines = [*((line, "label") for line in named), *([(score, "tick")] if score else [])]
        for number, (line, kind) in enumerate(lines):
            place = y + height / 2 + 4 + LINE * (number - (len(lines) - 1) / 2)
            parts.append(svg.label(GAP, place, line, kind=kind))
        parts.append(
            svg.tag(
                "image", href=f"data:image/png;base64,{one.png}", x=NAMES, y=y, width=width, height=height,
                style="image-rendering: pixelated",
            )
        )  # fmt: skip
        y += max(height, LINE * len(lines)) + GAP
    title = "Private pictures, and what attacks made of what was released"
    description = ". ".join(told) + "."
    drawn = svg.figure(
        svg.tag("style", files("divulge.report").joinpath("figure.css").read_text(encoding="utf-8")),
        svg.tag("rect", width=svg.WIDE, height=y, class_="paper"),
        *parts,
        key="f",
        title=title,
        description=description,
        width=svg.WIDE,
        height=y,
        xmlns="http://www.w3.org/2000/svg",
    )
    return Figure(drawn + "\n", f"{title}. {description}")


def _score(one: Sample, results: Results) -> str:
    """Who attacked, and how well over all victims."""
    values = {(row.row, row.metric, row.adversary): row.value for row in results.rows}
    median = values.get((one.row, "median PSNR", one.adversary))
    known = [one.adversary, None if median is None else f"median {words.number(median)} dB"]
    return ", ".join(filter(None, known))


def _size(one: Sample) -> tuple[int, int]:
    """Width and height, from the head of the PNG."""
    return struct.unpack(">II", base64.b64decode(one.png[:32])[16:24])
