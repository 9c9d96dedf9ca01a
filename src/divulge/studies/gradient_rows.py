"""The rows of a study of gradients: how well each attack did, and defenses and adversaries on the same victims."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from divulge.auditing.gradients import Adversary
from divulge.auditing.gradients.scoring import MOST, WINDOW
from divulge.metrics import bootstrap
from divulge.runs.step import Artifact
from divulge.studies.base import Row
from divulge.studies.gradient_cells import UNDEFENDED, Cell


@dataclass(frozen=True)
class Ratio:
    """How much larger the error under some defenses is than under others, on the same victims.

    Args:
        of: defenses.
        over: as many, each to be compared with the one in the same place.
        published: the literature's largest such ratio.
    """

    of: tuple[str, ...]
    over: tuple[str, ...]
    published: float | None = None


@dataclass(frozen=True)
class Published:
    """One number of the literature.

    Args:
        row: the row's words in our table.
        metric: its metric.
        value: the number, in the metric's unit.
        adversary: the row's adversary.
    """

    row: str
    metric: str
    value: float
    adversary: Adversary | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """What the attack of one cell came to.

    Args:
        scores: float64 `(victims,)` by metric.
        control: those against other records.
        seconds: how long the attack took for all victims.
    """

    scores: Mapping[str, np.ndarray]
    control: Mapping[str, np.ndarray]
    seconds: float

    @classmethod
    def of(cls, parts: Sequence[Artifact]) -> "Result":
        """The results of steps `invert`, one after another."""

        def joined(kind: str) -> dict[str, np.ndarray]:
            names = [name.removeprefix(kind) for name in parts[0].arrays if name.startswith(kind)]
            return {name: np.concatenate([np.asarray(part.arrays[kind + name]) for part in parts]) for name in names}

        return cls(joined("score/"), joined("control/"), sum(part.facts["seconds"] for part in parts))

    @property
    def victims(self) -> int:
        """How many."""
        return len(self.scores["mse"])


ALIKE = 0.6
"""An SSIM at which the literature on PRECODE counts a reconstruction as a success."""


def _alike(values: np.ndarray) -> float:
    return float((values >= ALIKE).mean())


def _worst_tenth(values: np.ndarray) -> float:
    return float(np.quantile(values, 0.1))


METRICS: tuple[tuple[str, str, Callable[[np.ndarray], float], str], ...] = (
    ("MSE", "mse", np.mean, "1"),
    ("median MSE in network units", "network mse", np.median, "1"),
    ("PSNR", "psnr", np.mean, "dB"),
    ("median PSNR", "psnr", np.median, "dB"),
    ("PSNR that nine of ten victims exceed", "psnr", _worst_tenth, "dB"),
    (f"SSIM (window {WINDOW})", "ssim", np.mean, "1"),
    (f"median SSIM (window {WINDOW})", "ssim", np.median, "1"),
    (f"share of victims with an SSIM of {ALIKE} or more", "ssim", _alike, "1"),
    ("MSE of the restored noise", "noise mse", np.mean, "1"),
    ("label accuracy", "label accuracy", np.mean, "%"),
)
"""What a row is called, the score of each victim that it sums up, how, and its unit."""


def scored(results: Mapping[Cell, Result], published: Sequence[Published], *, seed: int) -> Iterator[Row]:
    """How well each attack did and, once a defense, how far it moved the gradient.

    Args:
        results: by what was run.
        published: numbers to put beside them.
        seed: of the intervals.
    """
    known = {(one.row, one.metric, one.adversary): one.value for one in published}
    moved: set[tuple[str, str]] = set()
    for cell, result in results.items():
        n = result.victims
        if cell.adversary and (cell.defense, cell.place) not in moved:
            moved.add((cell.defense, cell.place))
            change = bootstrap(np.mean, 100 * result.scores["distortion"], seed=seed)
            yield Row(f"{cell.defense}, {cell.place}", "change of the gradient", "%", None, *change, n, None, None)
        for metric, score, statistic, unit in METRICS:
            if score in result.scores:
                scale = 100 if unit == "%" else 1
                estimate = bootstrap(statistic, scale * result.scores[score], seed=seed)
                control = scale * float(statistic(result.control[score])) if score in result.control else None
                number = known.get((cell.row, metric, cell.adversary))
                yield Row(cell.row, metric, unit, number, *estimate, n, control, cell.adversary)
        blind = results.get(replace(cell, adversary="blind"))
        if blind and cell.adversary not in (None, "blind"):
            gain = bootstrap(np.mean, result.scores["psnr"] - blind.scores["psnr"], seed=seed)
            yield Row(cell.row, "PSNR beyond blind", "dB", None, *gain, n, None, cell.adversary)
        yield Row(cell.row, "seconds a victim", "s", None, result.seconds / n, None, None, n, None, cell.adversary)


def compared(ratio: Ratio, results: Mapping[Cell, Result], *, seed: int) -> Iterator[Row]:
    """The errors under some defenses over those under others, attack by attack, and the largest of each attack."""
    found: dict[tuple[str, str, Adversary | None], list[Row]] = {}
    for of, over in zip(ratio.of, ratio.over, strict=True):
        for cell, result in results.items():
            base = results.get(replace(cell, defense=over, adversary=None if over == UNDEFENDED else cell.adversary))
            if cell.defense == of and base:
                errors = [one.scores["mse"].clip(10 ** (-MOST / 10)) for one in (result, base)]
                estimate = bootstrap(_quotient, *errors, seed=seed)
                words = f"{cell.attack}, {of} over {over}, {cell.place}"
                made = Row(words, "MSE ratio", "x", None, *estimate, result.victims, None, cell.adversary)
                found.setdefault((cell.attack, cell.place, cell.adversary), []).append(made)
                yield made
    for (*_, adversary), rows in found.items():
        if len(rows) > 1:
            largest = max(rows, key=lambda one: one.value)
            published = ratio.published if adversary == "blind" else None
            yield replace(largest, metric="largest MSE ratio", published=published)


def _quotient(errors: np.ndarray, base: np.ndarray) -> float:
    return float(errors.mean() / base.mean())
