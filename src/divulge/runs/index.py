"""A table of what a run folder holds: a cache of the folders' `step.json`, brought up to date whenever it is asked."""

import json
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

COLUMNS = "key TEXT PRIMARY KEY, stamp INTEGER, function TEXT, label TEXT, created TEXT, record TEXT"


@dataclass(frozen=True)
class Record:
    """What is known about a stored step.

    Args:
        key: of the step.
        function: `module:name` of what computed it.
        version: of that function.
        label: what the step was called.
        settings: as plain JSON values.
        inputs: input name to key.
        seconds: how long it took.
        created: when it was stored, UTC, ISO 8601.
        machine: where it was computed.
        divulge: version of divulge that computed it.
    """

    key: str
    function: str
    version: int
    label: str
    settings: Any
    inputs: Mapping[str, str]
    seconds: float
    created: str
    machine: Mapping[str, Any]
    divulge: str


def query(path: Path, objects: Path, *, function: str | None, label: str | None) -> list[Record]:
    """The records of all results under `objects`, oldest first, through the index at `path`.

    A missing or corrupt index is built again; where it cannot be written, the table is made in memory.
    """
    try:
        return _query(str(path), objects, function, label)
    except sqlite3.OperationalError:  # a folder mounted read-only, or whose file system SQLite cannot lock
        return _query(":memory:", objects, function, label)
    except sqlite3.DatabaseError:
        for file in (path, *path.parent.glob(f"{path.name}-*")):
            file.unlink(missing_ok=True)
        return _query(str(path), objects, function, label)


def _query(path: str, objects: Path, function: str | None, label: str | None) -> list[Record]:
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as table:
        table.execute("PRAGMA journal_mode=WAL")
        table.execute("BEGIN IMMEDIATE")
        table.execute(f"CREATE TABLE IF NOT EXISTS steps ({COLUMNS})")
        _update(table, objects)
        table.execute("COMMIT")
        rows = table.execute(
            "SELECT record FROM steps WHERE (?1 IS NULL OR function = ?1) AND (?2 IS NULL OR label = ?2) "
            "ORDER BY created, key",
            (function, label),
        ).fetchall()
    names = [field.name for field in fields(Record)]
    return [Record(**{name: written[name] for name in names}) for written in (json.loads(row[0]) for row in rows)]


def _update(table: sqlite3.Connection, objects: Path) -> None:
    known = dict(table.execute("SELECT key, stamp FROM steps"))
    with os.scandir(objects) as entries:
        present = {entry.name: entry.stat().st_mtime_ns for entry in entries}
    for key in known.keys() - present.keys():
        table.execute("DELETE FROM steps WHERE key = ?", (key,))
    for key, stamp in present.items():
        if known.get(key) == stamp:
            continue
        try:
            record = json.loads((objects / key / "step.json").read_text())
            row = (key, stamp, record["function"], record["label"], record["created"], json.dumps(record))
        except (OSError, ValueError, KeyError):  # damaged: set aside and computed again when a run needs it
            continue
        table.execute("INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, ?, ?)", row)
