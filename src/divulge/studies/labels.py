"""Studies of label recovery: which labels were in a batch, by closed forms and by a search."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from divulge.attacks import ATTACKS
from divulge.attacks.gradients.base import GradientAttack
from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.gradients import Attempt, Inversion, choose, invert
from divulge.auditing.gradients.labels import Reading, read_labels
from divulge.data import load
from divulge.errors import BadInputError
from divulge.metrics import Estimate, bootstrap, clopper_pearson
from divulge.models import MODELS
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store
from divulge.studies.base import Row, Study

RULES = {"bias": "sign of the bias gradient", "weight": "row sums of the weight gradient (iDLG)"}


@dataclass(frozen=True)
class Case:
    """A data set and a network.

    Args:
        row: its name in words.
        data: name of a data set in the catalog.
        model: the architecture, with its first weights.
        part: the part of the data whose labels are read.
        searched: whether the search is tried too.
        published: the literature's label accuracies in per cent: of `bias`, `weight` or `search`.
    """

    row: str
    data: str
    model: dict[str, Any]
    part: str = "test"
    searched: bool = True
    published: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelStudy(Study):
    """How often the labels read off the last layer's gradients are right.

    Args:
        cases: where.
        search: a gradient attack that searches for the label with the image.
        victims: records whose labels are read by closed forms.
        searched: how many of them are searched for.
        batches: batch sizes above one, whose labels are counted by the bias gradient.
        seed: of everything drawn.
    """

    name: ClassVar[str] = "labels"

    cases: tuple[Case, ...]
    search: dict[str, Any]
    victims: int
    searched: int
    batches: tuple[int, ...] = ()
    seed: int = 0

    def steps(self, store: Store, *, data_dir: Path | None) -> dict[str, Step]:
        """Data, closed forms and searches, case by case."""
        attack = ATTACKS.make(self.search, where=self.title)
        if not isinstance(attack, GradientAttack):
            raise BadInputError(f"{self.title}: expected a gradient attack, got {self.search['name']!r}.")
        steps: dict[str, Step] = {}
        for case in self.cases:
            source = load(case.data, part=case.part, data_dir=data_dir)
            chosen = choose(source, count=self.victims, seed=self.seed)
            searched = slice(self.searched)
            rows = np.concatenate([chosen.rows, chosen.others[searched]])
            parts = {
                "all": np.arange(self.victims),
                "victims": np.arange(self.victims)[searched],
                "others": np.arange(self.victims, len(rows)),
            }
            data = keep(Corpus(source[rows], parts), store)
            architecture = MODELS.make(case.model, where=self.title)
            reading = Reading(architecture, "all", batches=self.batches, weights=self.seed)
            steps[f"{case.row}/rules"] = Step(read_labels, reading, {"data": data}, label=f"{case.row}, labels")
            if case.searched:
                one = Inversion(architecture, Attempt(attack, seed=self.seed), "victims", "others", weights=self.seed)
                label = f"{case.row}, {self.search['name']}"
                steps[f"{case.row}/search"] = Step(invert, one, {"data": data}, label=label, cost=self.searched)
        return steps

    def rows(self, done: Mapping[str, Artifact]) -> list[Row]:
        """Each rule beside its published accuracy, the search, and larger batches."""
        return [row for case in self.cases for row in self._table(case, done)]

    def _table(self, case: Case, done: Mapping[str, Artifact]) -> Iterator[Row]:
        told = done[f"{case.row}/rules"].arrays
        shares = np.bincount(np.asarray(told["targets"])) / self.victims
        for rule, words in RULES.items():
            right = np.asarray(told[rule])
            low, high = clopper_pearson(right.sum(), len(right))
            estimate = Estimate(float(right.mean()), float(low), float(high))
            yield _row(f"{words}, {case.row}", estimate, len(right), shares.max(), case.published.get(rule))
        for batch in self.batches:
            right = np.asarray(told[f"counts/{batch}"])
            estimate = bootstrap(np.mean, right, seed=self.seed)
            chance = _common(shares, batch, seed=self.seed)
            yield _row(f"counts by the bias gradient, batches of {batch}, {case.row}", estimate, len(right), chance)
        if case.searched:
            found = done[f"{case.row}/search"].arrays
            right = np.asarray(found["score/label accuracy"])
            low, high = clopper_pearson(right.sum(), len(right))
            estimate = Estimate(float(right.mean()), float(low), float(high))
            control = float(np.mean(found["control/label accuracy"]))
            words = f"{self.search['name']}, label searched for with the image, {case.row}"
            yield _row(words, estimate, len(right), control, case.published.get("search"))


def _common(shares: np.ndarray, batch: int, *, seed: int) -> float:
    """The share of labels that two unrelated batches have in common."""
    one, other = np.random.default_rng(seed).multinomial(batch, shares, size=(2, 1000))
    return float(np.minimum(one, other).sum(axis=1).mean() / batch)


def _row(row: str, share: Estimate, n: int, control: float, published: float | None = None) -> Row:
    value, low, high = (100 * end for end in share)
    return Row(row, "label accuracy", "%", published, value, low, high, n, 100 * float(control), None)
