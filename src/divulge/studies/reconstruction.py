"""Studies of reconstruction from weights: training records that come back, beside held-out ones that cannot."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from divulge.attacks.reconstruction import KKT, pooled
from divulge.attacks.reconstruction.stationarity import margin_slopes
from divulge.auditing.corpus import Corpus, keep, opened
from divulge.auditing.extraction import Descending, Extraction, candidates, center, descend, extract, released
from divulge.auditing.train import Training, train
from divulge.data import Dataset, load
from divulge.defenses import DEFENSES, Defense
from divulge.defenses.dp_sgd import DpSgd
from divulge.errors import BadInputError
from divulge.metrics import Finding, accuracy
from divulge.metrics.nearest import matches, stretched
from divulge.models import MODELS
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store
from divulge.studies.base import Row, Sample, Study, chosen, percent
from divulge.studies.reconstruction_rows import Outcome, counts, good, likenesses, margins, promised
from divulge.studies.sheets import strip
from divulge.training import Recipe, logits
from divulge.training.margin import Descent
from divulge.training.noisy import NoisyDescent

SHOWN = 12
"""Records of a sheet: those that came back best."""


@dataclass(frozen=True)
class Target:
    """One way to train the network.

    Args:
        row: its name in words.
        descent: full-batch descent to almost no loss, if there is neither of the next two.
        noisy: noisy descent in its place, attacked by who does not know of the noise and by who knows how much it is.
        recipe: ordinary training in their place.
        defense: what acts in ordinary training, or on the architecture of a descent.
        model: settings of the architecture that are not the study's.
        train: training records of each class, if they are not as many as the study's.
        multipliers: of the attack: `free` where weight decay acts.
        published: the literature's numbers by metric.
    """

    row: str
    descent: Descent = field(default_factory=Descent)
    noisy: NoisyDescent | None = None
    recipe: Recipe | None = None
    defense: dict[str, Any] | None = None
    model: dict[str, Any] | None = None
    train: int | None = None
    multipliers: Literal["positive", "free"] = "positive"
    published: dict[str, float] = field(default_factory=dict)

    @property
    def adversaries(self) -> tuple[str | None, ...]:
        """Those who attack it: one, unless its training is private."""
        private = self.noisy is not None or (self.defense or {}).get("name") == DpSgd.name
        return ("blind", "adaptive") if private else (None,)


@dataclass(frozen=True)
class ReconstructionStudy(Study):
    """Every target attacked alike, and every count beside the same count among records that it never saw.

    Args:
        data: name of a data set in the catalog.
        classes: names of the set's classes that make up each class of the task.
        train: training records of each class: the set's first ones, without copies.
        held_out: of each class, those after them: what chance finds.
        test: further ones, for accuracy.
        model: the architecture.
        attack: the search; its `runs` are searched side by side. A target of more records gets as many more candidates.
        searches: in all, a multiple of that; a killed study loses at most one side-by-side search.
        kept: how many searches are pooled: those with the least loss of the attacker's.
        targets: the networks.
        only: rows to run; all if empty.
        seed: of initial weights and searches.
    """

    name: ClassVar[str] = "reconstruction"

    data: str
    classes: tuple[tuple[str, ...], ...]
    train: int
    held_out: int
    test: int
    model: dict[str, Any]
    targets: tuple[Target, ...]
    attack: KKT = field(default_factory=KKT)
    searches: int = 8
    kept: int = 8
    only: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.searches % self.attack.runs or self.kept < 1:
            raise BadInputError(
                f"{self.title}: expected searches in multiples of the {self.attack.runs} side by side, and one or more "
                f"of them kept, got {self.searches} and {self.kept}."
            )
        if self.attack.candidates < self.train:
            raise BadInputError(
                f"{self.title}: expected as many candidates of each class as training records or more, {self.train}, "
                f"got {self.attack.candidates}."
            )
        for target in self.targets:
            if target.noisy and target.recipe:
                raise BadInputError(f"{self.title}: row {target.row!r} has both a noisy descent and a recipe.")
            defense = self._defense(target)
            if defense and target.recipe is None and type(defense).train is not Defense.train:
                raise BadInputError(
                    f"{self.title}: row {target.row!r} has a defense that acts in ordinary training. Give a recipe."
                )
        chosen(self.targets, self.only, where=self.title)

    def steps(self, store: Store, *, data_dir: Path | None) -> dict[str, Step]:
        """The data of each target, its training, and its searches in groups."""
        steps: dict[str, Step] = {}
        records = self._records(data_dir)
        for target in self._targets():
            corpus = self._corpus(records, target.train or self.train)
            data = keep(corpus, store)
            architecture = MODELS.make(self.model | (target.model or {}), where=self.title)
            defense = self._defense(target)
            if target.recipe is None:
                descending = Descending(architecture, target.noisy or target.descent, self.seed, defense)
                trained = Step(descend, descending, {"data": data}, label=f"{target.row}, network")
            else:
                training = Training(
                    architecture=architecture,
                    recipe=target.recipe,
                    parts=("train",),
                    answer=("test",),
                    seed=self.seed,
                    defense=defense,
                    validation="held_out" if target.recipe.patience else None,
                )
                trained = Step(train, training, {"data": data}, label=f"{target.row}, network")
            steps |= {f"{target.row}/data": data, f"{target.row}/target": trained}
            each = self.attack.candidates * (target.train or self.train) // self.train
            attack = replace(self.attack, multipliers=target.multipliers, candidates=each)
            for adversary in target.adversaries:
                for group in range(self.searches // attack.runs):
                    extraction = Extraction(
                        architecture,
                        corpus.data.shape,
                        len(self.classes),
                        attack,
                        1000 * self.seed + group,
                        defense,
                        target.recipe,
                        knowing=adversary == "adaptive",
                    )
                    steps[f"{_searches(target, adversary)}{group:03d}"] = Step(
                        extract,
                        extraction,
                        {"target": trained},
                        label=f"{_named(target, adversary)}, searches {group * attack.runs + 1} to "
                        f"{(group + 1) * attack.runs}",
                    )
        return steps

    def rows(self, done: Mapping[str, Artifact]) -> list[Row]:
        """What came back of each target, and what its training promised."""
        return [row for target in self._targets() for row in self._table(target, done)]

    def samples(self, done: Mapping[str, Artifact]) -> list[Sample]:
        """The records that came back best, above what came back."""
        sheets = []
        for target in self._targets():
            for adversary in target.adversaries:
                outcome = self._outcome(target, adversary, done)
                best = outcome.real.ssim.argsort(descending=True)[:SHOWN]
                back = stretched(outcome.candidates[outcome.real.candidate[best]])
                sheets.append(Sample(f"{target.row}, originals", adversary, strip(outcome.records[best].numpy())))
                sheets.append(Sample(target.row, adversary, strip(back.numpy())))
        return sheets

    def _targets(self) -> list[Target]:
        return chosen(self.targets, self.only, where=self.title)

    def _defense(self, target: Target) -> Defense | None:
        return DEFENSES.make(target.defense, where=self.title) if target.defense else None

    def _records(self, data_dir: Path | None) -> Dataset:
        """The records of the task's classes, in the set's order, without copies."""
        data = load(self.data, data_dir=data_dir)
        number = torch.full((len(data.classes),), -1)
        for task, names in enumerate(self.classes):
            for name in names:
                if name not in data.classes:
                    raise BadInputError(f"{self.title}: no class {name!r}. There are: {', '.join(data.classes)}.")
                number[data.classes.index(name)] = task
        mine = data[number[data.targets] >= 0]
        first = np.unique(np.array(mine.hashes()), return_index=True)[1]
        mine = mine[np.sort(first)]
        names = tuple(" or ".join(group) for group in self.classes)
        return Dataset(mine.inputs, number[mine.targets], classes=names, name=data.name)

    def _corpus(self, records: Dataset, count: int) -> Corpus:
        """The first records of each class to train on, the next held out, and the next to test on."""
        sizes = {"train": count, "held_out": self.held_out, "test": self.test}
        parts: dict[str, list[np.ndarray]] = {name: [] for name in sizes}
        for task, name in enumerate(records.classes):
            rows = np.flatnonzero(records.targets.numpy() == task)
            if len(rows) < sum(sizes.values()):
                raise BadInputError(
                    f"{self.title}: expected {sum(sizes.values())} different records of {name!r}, got {len(rows)}."
                )
            ends = np.cumsum(list(sizes.values()))
            for part, end in zip(sizes, ends, strict=True):
                parts[part].append(rows[end - sizes[part] : end])
        return Corpus(records, {name: np.concatenate(rows) for name, rows in parts.items()})

    def _outcome(self, target: Target, adversary: str | None, done: Mapping[str, Artifact]) -> Outcome:
        corpus = opened(done[f"{target.row}/data"], ("train", "held_out"))
        records, held_out = corpus.part("train").inputs, corpus.part("held_out").inputs
        architecture = MODELS.make(self.model | (target.model or {}), where=self.title)
        shape = corpus.data.shape
        trained = done[f"{target.row}/target"]
        model = released(architecture, shape, len(self.classes), trained, defense=self._defense(target))
        prefix = _searches(target, adversary)
        groups = [candidates(done[name]) for name in sorted(done) if name.startswith(prefix)]
        middle = center(model, shape)
        mean = records.mean(dim=0)  # alike for every target, whatever its network tells of it
        pool = pooled(groups, searches=self.kept, center=middle).inputs
        alone = [pooled([group], searches=self.kept, center=middle).inputs for group in groups]
        answers = torch.from_numpy(logits(model, records))
        return Outcome(
            records,
            held_out,
            pool,
            matches(pool, records, held_out, center=mean),
            matches(pool, held_out, records, center=mean),
            [good(matches(one, records, held_out, center=mean)) for one in alone],
            (margin_slopes(answers, corpus.part("train").targets) * answers).sum(1),
        )

    def _table(self, target: Target, done: Mapping[str, Artifact]) -> list[Row]:
        rows = []
        for adversary in target.adversaries:
            outcome = self._outcome(target, adversary, done)
            told = [*counts(outcome), *likenesses(outcome), *margins(outcome)]
            rows += [
                replace(row, row=target.row, published=target.published.get(row.metric), adversary=adversary)
                for row in told
            ]
        trained, n = done[f"{target.row}/target"], len(outcome.records)
        right = np.asarray(trained.arrays["logits"])[0].argmax(axis=1) == trained.arrays["labels"]
        test = Finding("test accuracy", *accuracy(np.ones(len(right), dtype=bool), right), n=len(right))
        rows.append(percent(test, row=target.row, published=target.published.get("test accuracy")))
        rows += [replace(row, row=target.row) for row in promised(trained, n)]
        return rows


def _searches(target: Target, adversary: str | None) -> str:
    return f"{target.row}/{adversary or 'search'}/"


def _named(target: Target, adversary: str | None) -> str:
    return f"{target.row}, {adversary}" if adversary else target.row
