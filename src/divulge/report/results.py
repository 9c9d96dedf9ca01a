"""Results of studies: a table for the terminal and the reproduction page of the documentation."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from divulge.errors import BadInputError
from divulge.report import promises, samples, words
from divulge.report.promises import Figure
from divulge.studies import Results, Row, Study, open_study
from divulge.studies.gradients import GradientStudy
from divulge.studies.inversion import InversionStudy
from divulge.studies.promises import PromiseStudy
from divulge.studies.reconstruction import ReconstructionStudy

if TYPE_CHECKING:
    from rich.table import Table

FIGURES: Mapping[str, Callable[[Results], Figure | None]] = {
    GradientStudy.name: samples.figure,
    InversionStudy.name: samples.figure,
    ReconstructionStudy.name: samples.figure,
    PromiseStudy.name: promises.figure,
}
"""What draws the results of a study, by the study's kind; the others are tables only."""

UNFOLDED = 12
"""How many numbers beside the published ones a reader sees without unfolding them."""


def read_all(folder: Path) -> list[Results]:
    """Every study's results in a folder, by file name.

    Raises:
        BadInputError: no results there, or a damaged file.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise BadInputError(
            f"{folder}: expected results of studies (*.json), found none. Make some with `divulge run`."
        )
    return [Results.read(file) for file in files]


def table(results: Results) -> "Table":
    """The study's rows for a terminal, the published number beside ours."""
    from rich.markup import escape
    from rich.table import Table

    made = Table(title=escape(f"{results.study}, {results.scale} scale"), box=None, padding=(0, 2, 0, 0))
    for column in ("what was run", "metric", "adversary"):
        made.add_column(column)
    for column in ("published", "ours", "95 % interval", "control", "n"):
        made.add_column(column, justify="right")
    for row in results.rows:
        made.add_row(*(escape(cell) for cell in _cells(row)))
    return made


def figure(results: Results) -> Figure | None:
    """The study's picture; None where its kind has none, or it is no longer known."""
    study = _study(results)
    return None if study is None or study.name not in FIGURES else FIGURES[study.name](results)


def _study(results: Results) -> Study | None:
    """The study as it is today; None where it is no longer known, or was somebody's own file."""
    try:
        return open_study(results.study, scale=results.scale)
    except BadInputError:
        return None


def write_page(found: Sequence[Results], page: Path) -> None:
    """Write the reproduction page, and its figures into the folder `figures` beside it."""
    for one in found:
        if drawn := figure(one):
            path = page.parent / _place(one)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(drawn.svg, encoding="utf-8")
    page.write_text(reproduction_page(found), encoding="utf-8")


def _place(results: Results) -> str:
    """Where a study's figure lies, as seen from the page."""
    return f"figures/{results.study}.{results.scale}.svg"


def reproduction_page(found: Sequence[Results]) -> str:
    """The page of the documentation that shows the results, in Markdown: what was published first, the rest folded."""
    lines = [
        "# Reproduced studies",
        "",
        "Written by `divulge results --page docs/reproduction.md` from the files under `results/`; no number is typed "
        "by hand.",
        "",
        "| study | scale | numbers | of them published before | minutes of computing |",
        "|---|---|---:|---:|---:|",
    ]
    for one in found:
        known = sum(row.published is not None for row in one.rows)
        lines.append(
            f"| [{one.study}](#{one.study}-{one.scale}-scale) | {one.scale} | {len(one.rows):,} | {known:,} "
            f"| {one.seconds / 60:.0f} |"
        )
    lines.append("")
    for one in found:
        machine = f"{one.machine.get('cpu', 'unknown processor')}, {one.machine.get('cores', '?')} cores"
        study = _study(one)
        lines += [
            f"## {one.study}, {one.scale} scale",
            "",
            *([] if study is None else [f"{study.title}. Source: {study.source}.", ""]),
            f"`{one.command}`, commit `{(one.commit or 'unknown')[:12]}`, {machine}, {one.seconds / 60:.0f} minutes of "
            "computing.",
            "",
            *([f"![{drawn.alternative}]({_place(one)})", ""] if (drawn := figure(one)) else []),
        ]
        beside = [row for row in one.rows if row.published is not None]
        if beside and len(beside) < len(one.rows):
            lines += [*_rows(beside), ""]
        if len(one.rows) - len(beside) > UNFOLDED:
            lines += ["<details>", f"<summary>All {len(one.rows):,} numbers</summary>", ""]
            lines += [*_rows(one.rows), "", "</details>", ""]
        elif len(beside) < len(one.rows) and beside:
            lines += ["And what the publication does not report:", ""]
            lines += [*_rows([row for row in one.rows if row.published is None]), ""]
        else:
            lines += [*_rows(one.rows), ""]
    return "\n".join(lines)


def _rows(rows: Sequence[Row]) -> list[str]:
    return [
        "| what was run | metric | adversary | published | ours | 95 % interval | control | n |",
        "|---|---|---|---:|---:|---:|---:|---:|",
        *("| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(row)) + " |" for row in rows),
    ]


def _cells(row: Row) -> list[str]:
    unit = "" if row.unit == "1" else f" {row.unit}"
    ends = None if row.low is None or row.high is None or row.low == row.high else (row.low, row.high)
    return [
        row.row,
        row.metric,
        row.adversary or "",
        "not reported" if row.published is None else f"{row.published:g}{unit}",
        f"{_number(row.value)}{unit}",
        "" if ends is None else " to ".join(map(_number, ends)),
        "" if row.control is None else _number(row.control),
        f"{row.n:,}",
    ]


def _number(value: float) -> str:
    """Two decimals, or three digits of what they would hide."""
    return f"{value:.2f}" if abs(value) >= 0.1 or not value else words.number(value)
