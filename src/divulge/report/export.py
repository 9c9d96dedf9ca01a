"""Per-record risk as CSV that a spreadsheet cannot be tricked into running."""

import csv
import io
from typing import Any

from divulge.report.words import clean

_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def to_csv(records: dict[str, list[Any]], *, limit: int | None = None) -> tuple[str, int]:
    r"""Write `records` as CSV, the highest `score` first, and say how many rows it holds.

    Text that a spreadsheet would take for a formula is prefixed with an apostrophe; numbers stay numbers.

    Args:
        records: column to values, equally long.
        limit: stop before more than so many characters.

    Example:
        >>> to_csv({"record": ["=1+1", "b"], "score": [0.25, 0.5]})
        ("record,score\r\nb,0.5\r\n'=1+1,0.25\r\n", 2)
    """
    rows = list(zip(*records.values(), strict=True))
    if "score" in records:
        place = list(records).index("score")
        rows.sort(key=lambda row: row[place], reverse=True)
    text = _line(records)
    count = 0
    parts = [text]
    used = len(text)
    for row in rows:
        text = _line(row)
        used += len(text)
        if limit is not None and used > limit:
            break
        parts.append(text)
        count += 1
    return "".join(parts), count


def _line(cells: Any) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow([_cell(cell) for cell in cells])
    return out.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = clean(value)
    return f"'{text}" if text.lstrip(" \ufeff\u00a0").startswith(_FORMULA) else text
