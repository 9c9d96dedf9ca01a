"""Studies of overlearning: an attribute that a model was not made for, read off each of its layers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from divulge.attacks.attributes import Overlearning
from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.representations import INPUT, LABEL, Reading, read_attribute
from divulge.auditing.train import Training, train
from divulge.data import load, split
from divulge.defenses import DEFENSES, Defense
from divulge.errors import BadInputError
from divulge.metrics import Estimate, Finding, accuracy, macro_scores
from divulge.models import MODELS
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store
from divulge.studies.base import Row, Study, percent
from divulge.training import Recipe


@dataclass(frozen=True)
class Embedder:
    """One network whose layers are read.

    Args:
        row: its name in words.
        recipe: how it is trained.
        defense: what acts in training.
        published: the literature's numbers by metric; those on the attribute are of the last layer before the answer.
    """

    row: str
    recipe: Recipe
    defense: dict[str, Any] | None = None
    published: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class AttributeStudy(Study):
    """Probes on every layer of each network, beside what can be guessed without it.

    Four controls stand beside the layers: the most frequent value, the same probes on the same network with its first
    weights, on the records themselves, and on nothing but their class.

    Args:
        data: name of a data set in the catalog.
        attribute: what is read, one of its attributes.
        train: records that a network is trained on.
        known: records of the adversary, whose attribute it knows.
        test: records to guess.
        model: the architecture.
        embedders: the networks.
        attack: the probes.
        seed: of the parts and the networks.
    """

    name: ClassVar[str] = "attributes"

    data: str
    attribute: str
    train: int
    known: int
    test: int
    model: dict[str, Any]
    embedders: tuple[Embedder, ...]
    attack: Overlearning = field(default_factory=Overlearning)
    seed: int = 0

    def steps(self, store: Store, *, data_dir: Path | None) -> dict[str, Step]:
        """The data, the networks, their readings, and that of a network with its first weights."""
        records = load(self.data, data_dir=data_dir)
        if self.attribute not in records.attributes:
            raise BadInputError(
                f"{self.title}: no attribute {self.attribute!r}. There are: {', '.join(records.attributes) or 'none'}."
            )
        sizes = {"train": self.train, "known": self.known, "test": self.test}
        data = keep(Corpus(records, split(records, sizes, seed=self.seed).rows), store)
        architecture = MODELS.make(self.model, where=self.title)

        def control(defense: Defense | None) -> Step:
            # embedders whose networks begin alike have one control, whatever acts later
            building = defense if defense and type(defense).architecture is not Defense.architecture else None
            reading = Reading(architecture, self.attribute, self.attack, self.seed, control=True, defense=building)
            return Step(read_attribute, reading, {"data": data}, label="controls")

        steps = {"data": data, "control": control(None)}
        for one in self.embedders:
            defense = DEFENSES.make(one.defense, where=self.title) if one.defense else None
            training = Training(
                architecture=architecture,
                recipe=one.recipe,
                parts=("train",),
                answer=("train", "test"),
                seed=self.seed,
                defense=defense,
                validation="known" if one.recipe.patience else None,
            )
            target = Step(train, training, {"data": data}, label=one.row)
            reading = Reading(architecture, self.attribute, self.attack, self.seed, defense=defense)
            steps[f"{one.row}/target"] = target
            steps[f"{one.row}/control"] = control(defense)
            steps[f"{one.row}/read"] = Step(
                read_attribute, reading, {"data": data, "target": target}, label=f"{one.row}, layers"
            )
        return steps

    def rows(self, done: Mapping[str, Artifact]) -> list[Row]:
        """Each network's accuracy on its own task, then the attribute by layer."""
        control = done["control"]
        truth = np.asarray(control.arrays["truth"])
        majority = np.full_like(truth, np.bincount(truth).argmax())
        rows = _guessed("most frequent value", truth, majority, None, {})
        for name in (INPUT, LABEL):
            rows += _guessed(f"without the network, from the {name}", truth, _guess(control, name), majority, {})
        for one in self.embedders:
            target, read, blank = (done[f"{one.row}/{step}"] for step in ("target", "read", "control"))
            right = np.asarray(target.arrays["logits"])[0].argmax(axis=1) == target.arrays["labels"]
            fresh = right[~np.asarray(target.arrays["members"])[0]]
            task = Finding("test accuracy", *accuracy(np.ones(len(fresh), dtype=bool), fresh), n=len(fresh))
            rows.append(percent(task, row=one.row, published=one.published.get("test accuracy")))
            names = sorted(read.facts["probes"], key=_place)
            for name in names:
                row = f"{one.row}, layer {name} ({read.facts['probes'][name]})"
                published = one.published if name == names[-2:][0] else {}
                rows += _guessed(row, truth, _guess(read, name), _guess(blank, name), published)
        return rows


def _place(name: str) -> list[tuple[bool, int, str]]:
    """Orders layers as the network has them: numbers by value."""
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in name.split(".")]


def _guess(artifact: Artifact, name: str) -> np.ndarray:
    return np.asarray(artifact.arrays[f"guess/{name}"])


def _guessed(
    row: str, truth: np.ndarray, guess: np.ndarray, control: np.ndarray | None, published: Mapping[str, float]
) -> list[Row]:
    """Accuracy, macro recall (balanced accuracy) and macro F1 of guesses, each beside the control's."""
    found, other = _scores(truth, guess), None if control is None else _scores(truth, control)
    rows = []
    for metric, estimate in found.items():
        nothing = Finding(metric, *other[metric], n=len(truth)) if other else None
        finding = Finding(metric, *estimate, n=len(truth), control=nothing)
        rows.append(percent(finding, row=row, published=published.get(metric)))
    return rows


def _scores(truth: np.ndarray, guess: np.ndarray) -> dict[str, Estimate]:
    macro = macro_scores(truth, guess, resamples=200)
    return {
        "attribute accuracy": accuracy(truth, guess),
        "attribute macro recall": macro.recall,
        "attribute macro F1": macro.f1,
    }
