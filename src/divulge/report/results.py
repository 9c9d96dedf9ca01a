"""Results of studies: a table for the terminal and the reproduction page of the documentation."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from divulge.errors import BadInputError
from divulge.studies import Results, Row

if TYPE_CHECKING:
    from rich.table import Table


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


def reproduction_page(found: Sequence[Results]) -> str:
    """The page of the documentation that shows the results, in Markdown."""
    lines = [
        "# Reproduced studies",
        "",
        "Written by `divulge results --page docs/reproduction.md` from the files under `results/`; no number is typed "
        "by hand.",
        "",
    ]
    for one in found:
        machine = f"{one.machine.get('cpu', 'unknown processor')}, {one.machine.get('cores', '?')} cores"
        lines += [
            f"## {one.study}, {one.scale} scale",
            "",
            f"`{one.command}`, commit `{(one.commit or 'unknown')[:12]}`, {machine}, {one.seconds / 60:.0f} minutes of "
            "computing.",
            "",
            "| what was run | metric | adversary | published | ours | 95 % interval | control | n |",
            "|---|---|---|---:|---:|---:|---:|---:|",
        ]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(row)) + " |" for row in one.rows]
        lines.append("")
    return "\n".join(lines)


def _cells(row: Row) -> list[str]:
    unit = " %" if row.unit == "%" else ""
    interval = "" if row.low is None or row.high is None or row.low == row.high else f"{row.low:.2f} to {row.high:.2f}"
    return [
        row.row,
        row.metric,
        row.adversary or "",
        "not reported" if row.published is None else f"{row.published:g}{unit}",
        f"{row.value:.2f}{unit}",
        interval,
        "" if row.control is None else f"{row.control:.2f}",
        f"{row.n:,}",
    ]
