"""Studies of model inversion: what a classifier shows of each person, and whether others would name the person."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import interpolate

from divulge.attacks import ATTACKS
from divulge.attacks.inversion import MIFace
from divulge.auditing.corpus import Corpus, keep, opened
from divulge.auditing.inversion import PUBLIC, Drawing, Inverter, draw
from divulge.auditing.inversion_opinion import Opinion, judge, look
from divulge.auditing.inversion_threshold import Bisection, bisect
from divulge.auditing.train import Training, train
from divulge.data import Dataset, load, split
from divulge.defenses import DEFENSES, Defense
from divulge.defenses.dp_sgd import DpSgd
from divulge.errors import BadInputError
from divulge.metrics import face_model
from divulge.models import MODELS
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store
from divulge.settings import build
from divulge.studies.base import Row, Sample, Study, chosen
from divulge.studies.inversion_rows import Photographs, accuracies, threshold_rows
from divulge.studies.sheets import strip
from divulge.training import Recipe

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
class Attempt:
    """How an attack of a study is used; its own settings stand beside these.

    Args:
        row: its name in words, in a study's file `as`.
        attack: what is tried.
        on: classifiers that it is tried on; all if empty.
        seeds: networks of each classifier that it is tried on, at most; none for all.
        adaptive: whether it is tried once more with knowledge of the defense.
        opinion: whether the pretrained face model is asked whom its drawings show, where it is installed.
    """

    row: str
    attack: Inverter
    on: tuple[str, ...] = ()
    seeds: int | None = None
    adaptive: bool = True
    opinion: bool = False


@dataclass(frozen=True)
class Threshold:
    """Private training whose noise is searched for the least that leaves nobody recognized more than by chance.

    Args:
        row: its name in words.
        model: the architecture.
        recipe: how it is trained.
        defense: private training, all but its noise.
        attack: what draws.
        low: a noise multiplier at which drawings are recognized.
        high: one at which they are not.
        rounds: halvings of its logarithm.
        seeds: independent searches.
    """

    row: str
    model: dict[str, Any]
    recipe: Recipe
    defense: dict[str, Any]
    attack: dict[str, Any]
    low: float
    high: float
    rounds: int = 7
    seeds: int = 5


@dataclass(frozen=True)
class InversionStudy(Study):
    """Each classifier inverted for every person by each attack, the drawings named by photographs it never saw.

    Beside each number stands the same attack on a network with its first weights; beside all, the mean photograph of
    each person, which is the most that drawing a class could show, and that of another person. Where a defense acts,
    the adversary is blind to it or knows it. Where the extra `recognizer` is installed, a pretrained face model names
    drawings as well.

    Args:
        data: name of a data set in the catalog, whose classes are people.
        train: share of each person's photographs to train on; the rest tests the classifier and names the drawings.
        classifiers: what is attacked.
        attacks: what is tried; see `Attempt`.
        thresholds: private trainings whose noise is searched.
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
    thresholds: tuple[Threshold, ...] = ()
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
        for attempt in self._attempts():
            chosen(self.classifiers, attempt.on, where=self.title)

    def steps(self, store: Store, *, data_dir: Path | None) -> dict[str, Step]:
        """The data, each classifier, each attack on it and on its first weights, and each search for a noise."""
        data = keep(self._corpus(data_dir), store)
        steps = {"data": data}
        drawings: dict[str, Step] = {}
        asked: list[str] = []
        for one in self._classifiers():
            architecture, defense = MODELS.make(one.model, where=self.title), self._defense(one)
            for seed in range(self.seeds):
                training = Training(
                    architecture, one.recipe, ("train",), ("train", "held_out"), seed=seed, defense=defense
                )
                label = f"{one.row}, seed {seed + 1} of {self.seeds}"
                steps[f"{one.row}/target/{seed}"] = Step(train, training, {"data": data}, label=label)
            for attempt, adversary in self._tries(one):
                for seed in range(self._repeats(attempt)):
                    drawing = Drawing(architecture, attempt.attack, seed, defense, adversary == "adaptive")
                    real = {"data": data, "target": steps[f"{one.row}/target/{seed}"]}
                    place = _place(one, attempt, adversary)
                    for kind, settings, inputs in (
                        ("real", drawing, real),
                        ("control", replace(drawing, control=True), {"data": data}),
                    ):
                        name = f"{place}/{kind}/{seed}"
                        drawings[name] = Step(draw, settings, inputs, label=name.replace("/", ", "))
                        asked += [name] if attempt.opinion else []
        steps |= drawings
        if asked and face_model.installed():
            looked = Step(look, Opinion(), {"data": data}, label="face model, photographs")
            steps["opinion/means"] = Step(judge, Opinion(), {"looked": looked}, label="face model, mean photographs")
            for name in asked:
                inputs = {"looked": looked, "drawn": drawings[name]}
                steps[f"opinion/{name}"] = Step(judge, Opinion(), inputs, label=f"face model, {drawings[name].label}")
        for threshold in self.thresholds:
            for seed in range(threshold.seeds):
                label = f"{threshold.row}, search {seed + 1} of {threshold.seeds}"
                search = self._bisection(threshold, seed)
                steps[f"{threshold.row}/threshold/{seed}"] = Step(bisect, search, {"data": data}, label=label)
        return steps

    def rows(self, done: Mapping[str, Artifact]) -> list[Row]:
        """How well each classifier works, what it shows, and from which noise on it shows nobody."""
        corpus = opened(done["data"], ("train", "held_out"))
        photographs = Photographs.of(corpus)
        rows = photographs.rows(done.get("opinion/means"))
        for one in self._classifiers():
            trained = [done[f"{one.row}/target/{seed}"] for seed in range(self.seeds)]
            rows += accuracies(one.row, trained, one.published, each=photographs.each)
            for attempt, adversary in self._tries(one):
                place = _place(one, attempt, adversary)
                seeds = range(self._repeats(attempt))
                drawn, nothing = ([done[f"{place}/{kind}/{seed}"] for seed in seeds] for kind in ("real", "control"))
                judged = [done[name] for seed in seeds if (name := f"opinion/{place}/real/{seed}") in done]
                chance = [done[name] for seed in seeds if (name := f"opinion/{place}/control/{seed}") in done]
                row = f"{one.row}, {attempt.row}"
                rows += photographs.shown(row, drawn, nothing, published=one.published, adversary=adversary)
                if judged:
                    rows += photographs.judged(row, judged, chance, adversary=adversary)
        for threshold in self.thresholds:
            found = [done[f"{threshold.row}/threshold/{seed}"] for seed in range(threshold.seeds)]
            rows += threshold_rows(threshold.row, found, people=len(photographs.means), each=photographs.each)
        return rows

    def samples(self, done: Mapping[str, Artifact]) -> list[Sample]:
        """Photographs of some people, and below them what the first attack draws of each classifier."""
        train = opened(done["data"], ("train",)).part("train")
        first = torch.stack(
            [train.inputs[train.targets == person][0] for person in range(min(SHOWN, train.num_classes))]
        )
        sheets = [Sample("photographs", None, strip(first.numpy()))]
        for one in self._classifiers():
            tries = self._tries(one) if not self.sheet or one.row in self.sheet else []
            for attempt, adversary in tries:
                if attempt.row == tries[0][0].row:
                    drawn = np.asarray(done[f"{_place(one, attempt, adversary)}/real/0"].arrays["inputs"])[:SHOWN]
                    sheets.append(Sample(f"{one.row}, {attempt.row}", adversary, strip(drawn.clip(0, 1))))
        return sheets

    def _classifiers(self) -> list[Classifier]:
        return chosen(self.classifiers, self.only, where=self.title)

    def _attempts(self) -> list[Attempt]:
        return [self._attempt(spec) for spec in self.attacks]

    def _attempt(self, spec: Mapping[str, Any]) -> Attempt:
        """An entry of `attacks`: the attack's settings, and those of `Attempt` beside them."""
        own = {key: spec[key] for key in ("on", "seeds", "adaptive", "opinion") if key in spec}
        rest = {key: value for key, value in spec.items() if key not in ("as", *own)}
        made = ATTACKS.make(rest, where=self.title)
        if not isinstance(made, Inverter):
            raise BadInputError(f"{self.title}: expected model inversions, got {spec['name']!r}.")
        return build(Attempt, {"row": spec.get("as", spec["name"]), "attack": made, **own}, where=self.title)

    def _tries(self, one: Classifier) -> list[tuple[Attempt, str | None]]:
        """The attacks on a classifier, each with what the adversary knows; None where nothing defends."""
        tries: list[tuple[Attempt, str | None]] = []
        for attempt in self._attempts():
            if attempt.on and one.row not in attempt.on:
                continue
            if one.defense is None:
                tries.append((attempt, None))
            else:
                tries += [(attempt, who) for who in ("blind", "adaptive") if attempt.adaptive or who == "blind"]
        return tries

    def _repeats(self, attempt: Attempt) -> int:
        return self.seeds if attempt.seeds is None else min(attempt.seeds, self.seeds)

    def _defense(self, one: Classifier) -> Defense | None:
        return DEFENSES.make(one.defense, where=self.title) if one.defense else None

    def _bisection(self, threshold: Threshold, seed: int) -> Bisection:
        defense = DEFENSES.make({**threshold.defense, "noise_multiplier": threshold.low}, where=self.title)
        attack = ATTACKS.make(threshold.attack, where=self.title)
        if not isinstance(defense, DpSgd) or not isinstance(attack, MIFace):
            raise BadInputError(
                f"{self.title}: expected dp-sgd and mi-face to search a noise with, got {threshold.defense} and "
                f"{threshold.attack}."
            )
        architecture = MODELS.make(threshold.model, where=self.title)
        return Bisection(
            architecture, threshold.recipe, defense, attack, threshold.low, threshold.high, threshold.rounds, seed
        )

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


def _place(one: Classifier, attempt: Attempt, adversary: str | None) -> str:
    return f"{one.row}/{attempt.row}/{adversary or 'undefended'}"
