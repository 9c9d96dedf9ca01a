"""Running a study: from its TOML file to rows with the published number beside ours."""

import difflib
import tomllib
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from divulge.errors import BadInputError
from divulge.registry import Registry
from divulge.runs.engines import Engine
from divulge.runs.graph import execute, plan
from divulge.runs.progress import Progress
from divulge.runs.provenance import commit, machine
from divulge.runs.step import Step
from divulge.runs.store import Store
from divulge.studies.base import Results, Study

KINDS: Registry[Study] = Registry("studies", "divulge.studies", Study)


def listed() -> dict[str, str]:
    """Names of the studies that ship with divulge, to their titles."""
    return {name: tomllib.loads(file.read_text(encoding="utf-8"))["title"] for name, file in _files().items()}


def open_study(name: str, *, scale: str) -> Study:
    """The study called `name`, or in the TOML file at that path, at one of its scales.

    Raises:
        BadInputError: no such study or scale, or a TOML file with unknown or wrong settings.
    """
    values = _read(name)
    scales: Mapping[str, Any] = values.pop("scale", {})
    if scale not in scales:
        raise BadInputError(f"{name}: expected a scale out of {', '.join(scales) or 'none'}, got {scale!r}.")
    kind = values.pop("kind", None)
    return KINDS.make({"name": kind, **values, **scales[scale]}, where=name)


def planned(study: Study, store: Store, *, data_dir: Path | None) -> tuple[dict[str, Step], int]:
    """The study's steps by its own names, and how many steps of the graph are still to be computed."""
    steps = study.steps(store, data_dir=data_dir)
    return steps, sum(not done for _, done in plan(list(steps.values()), store))


def run_study(
    name: str,
    *,
    scale: str,
    store: Store,
    engine: Engine,
    data_dir: Path | None = None,
    progress: Progress | None = None,
) -> Results:
    """Run what is not yet in the store and make the table.

    Raises:
        BadInputError: see `open_study`.
        MissingDataError: the study's data set is not on this machine.
    """
    study = open_study(name, scale=scale)
    steps = study.steps(store, data_dir=data_dir)
    done = execute(list(steps.values()), store, engine=engine, progress=progress)
    keys = {step.key for step in steps.values()}
    found = {own: done[step.key] for own, step in steps.items()}
    return Results(
        study=Path(name).stem,
        scale=scale,
        command=f"divulge run {name} --scale {scale}",
        commit=commit(),
        machine=machine(),
        seconds=round(sum(record.seconds for record in store.steps() if record.key in keys), 1),
        rows=study.rows(found),
        samples=study.samples(found),
    )


def _files() -> dict[str, Traversable]:
    folder = resources.files("divulge.studies")
    return {Path(f.name).stem: f for f in sorted(folder.iterdir(), key=lambda f: f.name) if f.name.endswith(".toml")}


def _read(name: str) -> dict[str, Any]:
    files = _files()
    if name in files:
        text = files[name].read_text(encoding="utf-8")
    elif name.endswith(".toml"):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except OSError as error:
            raise BadInputError(f"{name}: expected a study's TOML file, but {error.strerror}.") from None
    else:
        near = difflib.get_close_matches(name, files, n=1, cutoff=0.3)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        raise BadInputError(f"no study called {name!r}{hint}. Known: {', '.join(files)}; or give a .toml file.")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(f"{name}: no valid TOML: {error}.") from None
