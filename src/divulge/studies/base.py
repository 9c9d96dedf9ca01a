"""What a study is: a table of the literature, what to run for it, and its numbers beside ours."""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from divulge import settings
from divulge.errors import BadInputError
from divulge.metrics import Finding
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store


@dataclass(frozen=True)
class Row:
    """One number of a table.

    Args:
        row: what was run, in words.
        metric: what was measured.
        unit: `%`, `1` for rates in 0 to 1, or another unit.
        published: the literature's number in that unit; None where it reports none.
        value: ours.
        low: lower end of its 95 % interval; None for a number that is no estimate.
        high: upper end.
        n: how many records stand behind it.
        control: the same where there is nothing to find.
        adversary: `blind`, `adaptive`, `oracle`, or None where no defense is involved.
    """

    row: str
    metric: str
    unit: str
    published: float | None
    value: float
    low: float | None
    high: float | None
    n: int
    control: float | None
    adversary: str | None


@dataclass(frozen=True)
class Sample:
    """One line of a sheet of pictures: the same victims in each.

    Args:
        row: the row that it belongs to, in its words.
        adversary: as in that row.
        png: the pictures side by side, base64.
    """

    row: str
    adversary: str | None
    png: str


@dataclass(frozen=True)
class Results:
    """A finished study, as committed under `results/`.

    Args:
        study: its name.
        scale: the size it was run at.
        command: what to type to repeat it.
        commit: the code's version, if known.
        machine: what it ran on.
        seconds: computing time of its steps together, as each took when it was run.
        rows: the numbers.
        samples: pictures, where the study has some.
    """

    study: str
    scale: str
    command: str
    commit: str | None
    machine: dict[str, Any]
    seconds: float
    rows: list[Row] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def write(self, folder: Path) -> Path:
        """Write `<study>.<scale>.json` into `folder` in one move and return its path."""
        path = folder / f"{self.study}.{self.scale}.json"
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".json.tmp")
        values = asdict(self)
        if not self.samples:
            del values["samples"]
        draft.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        draft.replace(path)
        return path

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Read what `write` wrote.

        Raises:
            BadInputError: no JSON, or fields that are missing or unknown.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadInputError(f"{path}: expected the JSON of a study's results, but {error}.") from None
        return settings.build(cls, values, where=str(path))


@dataclass(frozen=True)
class Study:
    """Base of every kind of study; a TOML file under `studies/` names its kind and holds its settings.

    Args:
        title: one line for lists.
        source: where the published numbers come from.
    """

    name: ClassVar[str] = ""

    title: str
    source: str

    @abstractmethod
    def steps(self, store: Store, *, data_dir: Path | None) -> dict[str, Step]:
        """The steps whose results the rows need, by names of the study's own."""

    @abstractmethod
    def rows(self, done: Mapping[str, Artifact]) -> list[Row]:
        """The table, from the results of `steps` by the same names."""

    def samples(self, done: Mapping[str, Artifact]) -> list[Sample]:
        """Pictures that go with the table; none unless a kind of study has some."""
        return []


class Named(Protocol):
    """What has a row of its own in a table."""

    @property
    def row(self) -> str:
        """Its name in words."""


N = TypeVar("N", bound=Named)


def chosen(rows: Sequence[N], only: Sequence[str], *, where: str) -> list[N]:
    """Those of `rows` whose names stand in `only`, in their own order; all if it is empty.

    Raises:
        BadInputError: a name that no row has.
    """
    known = [one.row for one in rows]
    for name in only:
        if name not in known:
            raise BadInputError(f"{where}: no row {name!r}. There are: {', '.join(known)}.")
    return [one for one in rows if not only or one.row in only]


def percent(finding: Finding, *, row: str, published: float | None, metric: str | None = None) -> Row:
    """A table row in per cent out of a finding on the scale 0 to 1."""
    return Row(
        row=row,
        metric=metric or finding.metric,
        unit="%",
        published=published,
        value=100 * finding.value,
        low=100 * finding.low,
        high=100 * finding.high,
        n=finding.n,
        control=None if finding.control is None else 100 * finding.control.value,
        adversary=finding.adversary,
    )
