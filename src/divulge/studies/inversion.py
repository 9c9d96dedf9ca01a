"""Studies of model inversion: what a classifier shows of each person, and whether others would name the person."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import interpolate

from divulge.attacks import ATTACKS
from divulge.attacks.inversion import BlackBoxInversion, MIFace
from divulge.auditing.corpus import Corpus, keep, opened
from divulge.auditing.inversion import PUBLIC, Drawing, draw
from divulge.auditing.train import Training, train
from divulge.data import Dataset, load, split
from divulge.defenses import DEFENSES
from divulge.errors import BadInputError
from divulge.metrics import Estimate, Finding, accuracy, bootstrap
from divulge.metrics.images import ssim
from divulge.metrics.recognition import Recognition, recognize
from divulge.models import MODELS
from divulge.privacy import accounting
from divulge.privacy.ledger import Ledger
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store
from divulge.studies.base import Row, Sample, Study, chosen, percent
from divulge.studies.sheets import strip
from divulge.training import Recipe

DELTA = 1e-5
COARSE = (*(1 + step / 10 for step in range(1, 100)), *range(12, 64))
"""The Renyi orders that tools of 2020 looked at by default: too few below 1.1, where large epsilons are decided."""
SHOWN = 6
"""People of a sheet: the first."""


@dataclass(frozen=True)
class Classifier:
    """One classifier that is attacked.

    Args:
        row: its name in words.
        model: the architecture.
        recipe: how it is trained.
        defense: acts in training or on answers.
        published: the literature's numbers by metric.
    """

    row: str
    model: dict[str, Any]
    recipe: Recipe
    defense: dict[str, Any] | None = None
    published: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class InversionStudy(Study):
    """Each classifier inverted for every person by each attack, the drawings named by photographs it never saw.

    Beside each number stands the same attack on a network with its first weights; beside all, the mean photograph of
    each person, which is the most that drawing a class could show.

    Args:
        data: name of a data set in the catalog, whose classes are people.
        train: share of each person's photographs to train on; the rest tests the classifier and names the drawings.
        classifiers: what is attacked.
        attacks: what is tried, each with a name for its row as `as`.
        public: name of a set of public records of the same kind, for attacks that search among such; empty for none.
        public_count: how many of its first.
        only: classifiers to run; all if empty.
        sheet: those whose drawings are shown; all if empty.
        seeds: how often each classifier is trained and attacked; drawings of all are named together.
        seed: of the split.
    """

    name: ClassVar[str] = "inversion"

    data: str
    classifiers: tuple[Classifier, ...]
    attacks: tuple[dict[str, Any], ...]
    train: float = 0.7
    public: str = ""
    public_count: int = 2000
    only: tuple[str, ...] = ()
    sheet: tuple[str, ...] = ()
    seeds: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        chosen(self.classifiers, self.only, where=self.title)
        chosen(self.classifiers, self.sheet, where=self.title)

    def steps(self, store: Store, *, data_dir: Path | None) -> dict[str, Step]:
        """The data, each classifier, and each attack on it and on its first weights."""
        data = keep(self._corpus(data_dir), store)
        steps = {"data": data}
        for one in self._classifiers():
            architecture = MODELS.make(one.model, where=self.title)
            defense = DEFENSES.make(one.defense, where=self.title) if one.defense else None
            for seed in range(self.seeds):
                training = Training(
                    architecture, one.recipe, ("train",), ("train", "held_out"), seed=seed, defense=defense
                )
                target = Step(train, training, {"data": data}, label=f"{one.row}, seed {seed + 1} of {self.seeds}")
                steps[f"{one.row}/target/{seed}"] = target
                for spec in self.attacks:
                    attack = self._attack(spec)
                    for control in (False, True):
                        drawing = Drawing(architecture, attack, seed, defense, control)
                        name = f"{one.row}/{_called(spec)}/{'control' if control else 'real'}/{seed}"
                        inputs = {"data": data} if control else {"data": data, "target": target}
                        steps[name] = Step(draw, drawing, inputs, label=name.replace("/", ", "))
        return steps

    def rows(self, done: Mapping[str, Artifact]) -> list[Row]:
        """How well each classifier works, and what it shows."""
        corpus = opened(done["data"], ("train", "held_out"))
        means = _means(corpus.part("train"))
        named = self._named(means[None], corpus.part("held_out"))
        rows = [_recognized("mean photograph of each person", named, count, None) for count in (1, 5)]
        for one in self._classifiers():
            rows += self._accuracies(one, done)
            for spec in self.attacks:
                rows += self._shown(one, _called(spec), done, corpus, means)
        return rows

    def samples(self, done: Mapping[str, Artifact]) -> list[Sample]:
        """Photographs of some people, and below them what the first attack draws of each classifier."""
        train = opened(done["data"], ("train",)).part("train")
        first = torch.stack(
            [train.inputs[train.targets == person][0] for person in range(min(SHOWN, train.num_classes))]
        )
        sheets = [Sample("photographs", None, strip(first.numpy()))]
        attack = _called(self.attacks[0])
        for one in self._classifiers():
            if not self.sheet or one.row in self.sheet:
                drawn = np.asarray(done[f"{one.row}/{attack}/real/0"].arrays["inputs"])[:SHOWN]
                sheets.append(Sample(f"{one.row}, {attack}", None, strip(drawn.clip(0, 1))))
        return sheets

    def _classifiers(self) -> list[Classifier]:
        return chosen(self.classifiers, self.only, where=self.title)

    def _attack(self, spec: Mapping[str, Any]) -> MIFace | BlackBoxInversion:
        made = ATTACKS.make({key: value for key, value in spec.items() if key != "as"}, where=self.title)
        if not isinstance(made, (MIFace, BlackBoxInversion)):
            raise BadInputError(f"{self.title}: expected model inversions, got {spec['name']!r}.")
        return made

    def _corpus(self, data_dir: Path | None) -> Corpus:
        people = load(self.data, data_dir=data_dir)
        sizes = {"train": self.train, "held_out": 1 - self.train}
        rows = dict(split(people, sizes, seed=self.seed, stratify=True).rows)
        for part in sizes:
            if len(people.targets[rows[part]].unique()) < people.num_classes:
                raise BadInputError(
                    f"{self.title}: expected records of every class both in training and held out, but a share of "
                    f"{self.train} to train on leaves some class without."
                )
        if not self.public:
            return Corpus(people, rows)
        others = load(self.public, data_dir=data_dir)[: self.public_count]
        height, width = people.shape[1:]
        resized = interpolate(others.inputs, (height, width), mode="bilinear", antialias=True).clamp(0, 1)
        rows[PUBLIC] = len(people) + np.arange(len(others))
        # public records carry no class of the task; they stand under the first and are never asked for it
        labels = torch.cat([people.targets, torch.zeros(len(others), dtype=torch.long)])
        return Corpus(
            Dataset(torch.cat([people.inputs, resized]), labels, classes=people.classes, name=people.name), rows
        )

    def _accuracies(self, one: Classifier, done: Mapping[str, Artifact]) -> list[Row]:
        trained = [done[f"{one.row}/target/{seed}"] for seed in range(self.seeds)]
        inside = np.concatenate([np.asarray(target.arrays["members"])[0] for target in trained])
        right = np.concatenate(
            [np.asarray(target.arrays["logits"])[0].argmax(axis=1) == target.arrays["labels"] for target in trained]
        )
        rows = []
        for metric, mask in (("training accuracy", inside), ("validation accuracy", ~inside)):
            estimate = accuracy(np.ones(int(mask.sum()), dtype=bool), right[mask])
            finding = Finding(metric, *estimate, n=int(mask.sum()))
            rows.append(percent(finding, row=one.row, published=one.published.get(metric)))
        if "ledger" in trained[0].facts:
            ledger = Ledger.from_dict(trained[0].facts["ledger"][0])
            exact = accounting.epsilon(ledger, delta=DELTA).epsilon
            older = accounting.epsilon(ledger, delta=DELTA, accountant="rdp-2017", orders=COARSE).epsilon
            for metric, spent in {"epsilon": exact, "epsilon as of 2020": older}.items():
                published = one.published.get(metric)
                rows.append(Row(one.row, metric, "1", published, spent, None, None, ledger.records, None, None))
        return rows

    def _shown(
        self, one: Classifier, attack: str, done: Mapping[str, Artifact], corpus: Corpus, means: torch.Tensor
    ) -> list[Row]:
        held_out = corpus.part("held_out")
        drawn, nothing = (
            torch.stack(
                [
                    torch.from_numpy(np.asarray(done[f"{one.row}/{attack}/{kind}/{seed}"].arrays["inputs"]))
                    for seed in range(self.seeds)
                ]
            )
            for kind in ("real", "control")
        )
        named, chance = self._named(drawn, held_out), self._named(nothing, held_out)
        row = f"{one.row}, {attack}"
        rows = [_recognized(row, named, count, chance, published=one.published) for count in (1, 5)]
        alike, other = (
            ssim(images.flatten(0, 1), means.repeat(self.seeds, 1, 1, 1)).view(self.seeds, -1).mean(dim=0).numpy()
            for images in (drawn, nothing)
        )
        mean = bootstrap(np.mean, alike, seed=0)  # over people; the networks of one person are no new victims
        return [
            *rows,
            Row(row, "SSIM with the mean photograph", "1", None, *mean, len(alike), float(other.mean()), None),
        ]

    def _named(self, drawn: torch.Tensor, held_out: Dataset) -> Recognition:
        """Drawings `(seeds, people, *shape)` named by the photographs that were held out."""
        people = torch.arange(drawn.shape[1]).repeat(len(drawn))
        return recognize(drawn.flatten(0, 1), people, held_out.inputs, held_out.targets)


def _means(train: Dataset) -> torch.Tensor:
    return torch.stack([train.inputs[train.targets == person].mean(dim=0) for person in range(train.num_classes)])


def _called(spec: Mapping[str, Any]) -> str:
    return spec.get("as", spec["name"])


def _recognized(
    row: str,
    named: Recognition,
    count: int,
    control: Recognition | None,
    *,
    published: Mapping[str, float] | None = None,
) -> Row:
    metric = f"recognized, top {count}"
    estimate = named.top(count)
    guessed = named.chance(count)
    nothing = control.top(count) if control else Estimate(guessed, guessed, guessed)
    chance = Finding(metric, *nothing, n=named.people)
    finding = Finding(metric, *estimate, n=named.people, control=chance)
    return percent(finding, row=row, published=(published or {}).get(metric))
