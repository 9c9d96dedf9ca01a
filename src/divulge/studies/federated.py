"""Studies of federated averaging under defenses of the shared gradient: accuracy, and how fast it comes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.federate import Federating, federate
from divulge.data import load, split
from divulge.defenses import DEFENSES
from divulge.errors import BadInputError
from divulge.metrics import Estimate, over_repeats
from divulge.models import MODELS
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store
from divulge.studies.base import Row, Study
from divulge.training.federated import Comparison, Federation, compare

UNDEFENDED = "none"


@dataclass(frozen=True)
class Case:
    """A federation on a data set.

    Args:
        row: its name in words.
        data: name of a data set in the catalog.
        model: the architecture.
        federation: who holds what, and how they train.
    """

    row: str
    data: str
    model: dict[str, Any]
    federation: Federation


@dataclass(frozen=True)
class FederatedStudy(Study):
    """Federated averaging with and without each defense: same clients, same weights to begin with, same order.

    Args:
        cases: the federations.
        records: training records that the clients hold together.
        check: further records that accuracy is measured on.
        defenses: settings of defenses, by a name for the rows.
        rounds: rounds after which accuracy is told, besides the end.
        seeds: how often each is trained.
        only: cases to run; all if empty.
        seed: of the records drawn.
    """

    name: ClassVar[str] = "federated"

    cases: tuple[Case, ...]
    records: int
    check: int
    defenses: dict[str, dict[str, Any]] = field(default_factory=dict)
    rounds: tuple[int, ...] = ()
    seeds: int = 1
    only: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        known = [case.row for case in self.cases]
        for row in self.only:
            if row not in known:
                raise BadInputError(f"{self.title}: no case {row!r}. There are: {', '.join(known)}.")

    def steps(self, store: Store, *, data_dir: Path | None) -> dict[str, Step]:
        """Data, and each federation once a defense and a seed."""
        steps: dict[str, Step] = {}
        for case in self._cases():
            source = load(case.data, data_dir=data_dir)
            parts = split(source, {"clients": self.records, "check": self.check}, seed=self.seed)
            rows = np.concatenate(list(parts.rows.values()))
            own = {"clients": np.arange(self.records), "check": np.arange(self.records, len(rows))}
            data = steps[f"{case.row}/data"] = keep(Corpus(source[rows], own), store)
            for name, spec in self._defenses():
                for seed in range(self.seeds):
                    settings = Federating(
                        MODELS.make(case.model, where=self.title),
                        case.federation,
                        parts=("clients",),
                        evaluation=("check",),
                        seed=seed,
                        defense=DEFENSES.make(spec, where=self.title) if spec else None,
                    )
                    steps[f"{case.row}/{name}/{seed}"] = Step(
                        federate,
                        settings,
                        {"data": data},
                        label=f"{case.row}, {name}, seed {seed + 1} of {self.seeds}",
                        cost=case.federation.rounds * (3.0 if spec else 1.0),
                    )
        return steps

    def rows(self, done: Mapping[str, Artifact]) -> list[Row]:
        """Accuracy on the way and at the end, and each defense beside none."""
        return [row for case in self._cases() for row in self._table(case, done)]

    def _cases(self) -> list[Case]:
        return [case for case in self.cases if not self.only or case.row in self.only]

    def _defenses(self) -> list[tuple[str, dict[str, Any] | None]]:
        return [(UNDEFENDED, None), *self.defenses.items()]

    def _table(self, case: Case, done: Mapping[str, Artifact]) -> Iterator[Row]:
        data = done[f"{case.row}/data"].arrays
        labels = np.asarray(data["targets"])[np.asarray(data["part/check"])]
        chance = 100 * float(np.bincount(labels).max() / self.check)
        curves = {
            name: [np.asarray(done[f"{case.row}/{name}/{seed}"].arrays["accuracy"]) for seed in range(self.seeds)]
            for name, _ in self._defenses()
        }
        for name, found in curves.items():
            row = f"{case.row}, {'no defense' if name == UNDEFENDED else name}"
            for number in (*self.rounds, case.federation.rounds):
                if number <= case.federation.rounds:
                    estimate = self._accuracy([curve[number - 1] for curve in found])
                    metric = f"test accuracy after {number} rounds"
                    yield Row(row, metric, "%", None, *estimate, self.check, chance, None)
            if name != UNDEFENDED:
                pairs = zip(found, curves[UNDEFENDED], strict=True)
                yield from self._compared(row, [compare(defended, plain) for defended, plain in pairs])

    def _accuracy(self, shares: list[float]) -> Estimate:
        """The mean over seeds in per cent, each on the same records."""
        right = np.rint(np.array(shares) * self.check)
        estimate = over_repeats(np.arange(self.check) < right[:, None])
        return Estimate(*(100 * end for end in estimate))

    def _compared(self, row: str, found: list[Comparison]) -> Iterator[Row]:
        """Means over seeds: what the defense costs at the end, and in rounds on the way."""
        told = {
            ("accuracy lost over the last tenth", "%"): [100 * one.lost for one in found],
            ("rounds to an accuracy, times those without", "x"): [one.slowdown for one in found],
            ("exponent of the rounds, 1 for the same rate", "1"): [one.exponent for one in found],
        }
        for (metric, unit), values in told.items():
            if np.isfinite(values).all():
                yield Row(row, metric, unit, None, float(np.mean(values)), *_span(values), self.check, None, None)


def _span(values: list[float]) -> tuple[float | None, float | None]:
    """A 95 % interval of the mean over seeds, by Student's t; none for a single seed."""
    from scipy.special import stdtrit

    if len(values) < 2:
        return None, None
    half = float(stdtrit(len(values) - 1, 0.975)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return float(np.mean(values)) - half, float(np.mean(values)) + half
