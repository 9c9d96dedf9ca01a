"""Studies of private training: how accurate a classifier is at an epsilon, beside what was published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.features import on_features
from divulge.auditing.train import Training, train
from divulge.data import concatenate, copies, load, split
from divulge.data.catalog import named_set
from divulge.defenses import DEFENSES
from divulge.metrics import Finding, over_repeats
from divulge.models import MODELS
from divulge.privacy import accounting
from divulge.privacy.ledger import Ledger
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store
from divulge.studies.base import Row, Study, chosen, percent
from divulge.training import Recipe

DELTA = 1e-5


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Args:
        row: its name in words.
        model: the architecture.
        recipe: how it is trained.
        defense: what protects it; `dp-sgd` with its settings, or none.
        published: the literature's test accuracy in per cent, if it has such a row.
        epochs: epochs after which accuracy and epsilon are told as well.
        seeds: how often it is trained; the study's number if None.
    """

    row: str
    model: dict[str, Any]
    recipe: Recipe
    defense: dict[str, Any] | None = None
    published: float | None = None
    epochs: tuple[int, ...] = ()
    seeds: int | None = None


@dataclass(frozen=True)
class PrivateStudy(Study):
    """Test accuracy of each case over several seeds, and the epsilon that its ledger comes to.

    Args:
        data: name of a data set in the catalog.
        test: its part that accuracy is measured on; of a set without that part, a random fifth of the records.
        seed: of that fifth.
        cases: the rows.
        seeds: how often each is trained.
        only: rows to run; all if empty.
    """

    name: ClassVar[str] = "private"

    data: str
    test: str
    cases: tuple[Case, ...]
    seeds: int = 3
    only: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        chosen(self.cases, self.only, where=self.title)

    def steps(self, store: Store, *, data_dir: Path | None) -> dict[str, Step]:
        """The graph: data, features, and each case once a seed."""
        corpus = self._corpus(data_dir)
        data = keep(corpus, store)
        steps = {"data": data}
        for case in self._cases():
            learner, records = on_features(MODELS.make(case.model, where=self.title), data, shape=corpus.data.shape)
            training = Training(
                architecture=learner,
                recipe=case.recipe,
                parts=("train",),
                answer=("seen", "fresh") if "seen" in corpus.parts else ("fresh",),
                seed=0,
                defense=DEFENSES.make(case.defense, where=self.title) if case.defense else None,
                epochs=case.epochs,
            )
            for seed in range(self._seeds(case)):
                label = f"{case.row}, seed {seed + 1} of {self._seeds(case)}"
                steps[f"{case.row}/{seed}"] = Step(train, replace(training, seed=seed), {"data": records}, label=label)
        return steps

    def rows(self, done: Mapping[str, Artifact]) -> list[Row]:
        """Accuracy with its spread, and what was spent, case by case."""
        seen = len(done["data"].arrays["part/seen"]) if "part/seen" in done["data"].arrays else 0
        return [row for case in self._cases() for row in self._table(case, done, seen)]

    def _cases(self) -> list[Case]:
        return chosen(self.cases, self.only, where=self.title)

    def _seeds(self, case: Case) -> int:
        return min(self.seeds, case.seeds or self.seeds)

    def _corpus(self, data_dir: Path | None) -> Corpus:
        """Training records, and test records apart by whether a training record is their exact copy."""
        private = load(self.data, data_dir=data_dir)
        if self.test not in named_set(self.data).counts:
            return Corpus(private, split(private, {"train": 0.8, "fresh": 0.2}, seed=self.seed).rows)
        held_out = load(self.data, part=self.test, data_dir=data_dir)
        known = copies(held_out, of=private)
        rows = {"train": np.arange(len(private)), "fresh": len(private) + np.flatnonzero(~known)}
        if known.any():
            rows["seen"] = len(private) + np.flatnonzero(known)
        return Corpus(concatenate([private, held_out]), rows)

    def _table(self, case: Case, done: Mapping[str, Artifact], seen: int) -> list[Row]:
        repeats = [done[f"{case.row}/{seed}"] for seed in range(self._seeds(case))]
        labels = np.asarray(repeats[0].arrays["labels"])
        chance = _majority(labels)
        right = _right(repeats, "logits")
        rows = [_accuracy(case.row, "test accuracy", right, chance, published=case.published)]
        if seen:
            fresh = _majority(labels[seen:])
            rows.append(_accuracy(case.row, "test accuracy without copies of training records", right[:, seen:], fresh))
        if len(repeats) > 1:
            shares = 100 * right.mean(axis=1)
            spread = float(shares.max() - shares.min())
            rows.append(_plain(case.row, "accuracy, best seed less worst", "%", spread, n=len(repeats)))
        for epoch in case.epochs:
            if epoch != case.recipe.epochs:
                then = _right(repeats, f"logits@{epoch}")
                rows.append(_accuracy(f"{case.row}, epoch {epoch}", "test accuracy", then, chance))
        if "ledger" in repeats[0].facts:
            rows += _spent(case, [Ledger.from_dict(one.facts["ledger"][0]) for one in repeats])
        return rows


def _right(repeats: list[Artifact], name: str) -> np.ndarray:
    """Which records each repeat got right, bool `(repeats, n)`."""
    return np.stack([np.asarray(one.arrays[name])[0].argmax(axis=1) == one.arrays["labels"] for one in repeats])


def _majority(labels: np.ndarray) -> Finding:
    """The share of the most frequent class: what is right without looking."""
    return Finding("majority", *over_repeats((labels == np.bincount(labels).argmax())[None]), n=len(labels))


def _accuracy(row: str, metric: str, right: np.ndarray, chance: Finding, *, published: float | None = None) -> Row:
    finding = Finding(metric, *over_repeats(right), n=right.shape[1], control=chance)
    return percent(finding, row=row, published=published)


def _spent(case: Case, ledgers: Sequence[Ledger]) -> list[Row]:
    """Epsilon at the end and after each epoch that is told, by the default accountant and by that of 2017.

    All repeats spend the same; what any of their ledgers must tell its reader is told beside the number.
    """
    ledger, rows = ledgers[0], []
    caveats = " ".join(dict.fromkeys(caveat for one in ledgers for caveat in one.caveats))
    beside = f" ({caveats})" if caveats else ""
    for epoch in (*case.epochs, case.recipe.epochs):
        phases = [replace(phase, steps=phase.steps * epoch // case.recipe.epochs) for phase in ledger.phases]
        then = replace(ledger, phases=tuple(phases))
        row = case.row if epoch == case.recipe.epochs else f"{case.row}, epoch {epoch}"
        spent = accounting.epsilon(then, delta=DELTA).epsilon
        rows.append(_plain(row, f"epsilon of each model{beside}", "1", spent, n=ledger.records))
    older = accounting.epsilon(ledger, delta=DELTA, accountant="rdp-2017").epsilon
    noise = ledger.phases[0].noise_multiplier
    return [
        *rows,
        _plain(case.row, f"epsilon of each model by the accountant of 2017{beside}", "1", older, n=ledger.records),
        _plain(case.row, "noise multiplier", "1", noise, n=ledger.records),
    ]


def _plain(row: str, metric: str, unit: str, value: float, *, n: int) -> Row:
    return Row(row, metric, unit, None, value, None, None, n, None, None)
