"""`python -m benchmarks`: measure, print a table, write `results.json`."""

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.inversion import inversions
from benchmarks.lira import lira
from benchmarks.measure import Row
from benchmarks.private import private_steps
from benchmarks.reconstruction import reconstruction
from benchmarks.scoring import scoring
from benchmarks.searches import searches
from benchmarks.shadows import mlp_shadows
from benchmarks.soteria import soteria_scores
from benchmarks.training import cifar_cnn, mnist_cnn

RESULTS = Path(__file__).parent / "results.json"
BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "cifar-cnn": cifar_cnn,
    "mnist-cnn": mnist_cnn,
    "private-steps": private_steps,
    "mlp-shadows": mlp_shadows,
    "scoring": scoring,
    "lira": lira,
    "soteria": soteria_scores,
    "searches": searches,
    "inversion": inversions,
    "reconstruction": reconstruction,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=BENCHMARKS, help="one benchmark; the rows of the others stay as they are")
    only = parser.parse_args().only
    rows = {name: found for name, found in _earlier().items() if only is not None}
    for name in [only] if only else BENCHMARKS:
        rows[name] = [dataclasses.asdict(row) for row in BENCHMARKS[name]()]
        Console().print(_table(rows[name]))
    RESULTS.write_text(json.dumps({name: rows[name] for name in BENCHMARKS if name in rows}, indent=2) + "\n")


def _earlier() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table()
    table.add_column("benchmark", max_width=44)
    for name in ("ours", "other", "ratio [low, high]", "target", "met", "AUC ours / other"):
        table.add_column(name)
    table.add_column("note", max_width=44)
    for row in rows:
        ratio = "-"
        if row["ratio"] is not None:
            low, high = row["ratio_range"]
            ratio = f"{row['ratio']:.2f} [{low:.2f}, {high:.2f}]"
        aucs = "-" if row["ours_auc"] is None else f"{row['ours_auc']:.3f} / {row['other_auc']:.3f}"
        met = {None: "-", True: "yes", False: "no"}[row["met"]]
        times = [_duration(row[side]) for side in ("ours_seconds", "other_seconds")]
        table.add_row(row["benchmark"], *times, ratio, row["target"] or "-", met, aucs, row["note"])
    return table


def _duration(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


if __name__ == "__main__":
    main()
