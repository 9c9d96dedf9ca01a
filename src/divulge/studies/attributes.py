"""Studies of overlearning: an attribute that a model was not made for, read off each of its layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from divulge.attacks.attributes import Decensoring, Overlearning, Repurposing
from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.overlearned import (
    Clearing,
    Learning,
    Reading,
    clear,
    embedding,
    learn_attribute,
    read_attribute,
)
from divulge.auditing.representations import ACCURACY, BALANCED, INPUT, LABEL, MACRO_F1, MAJORITY, scored
from divulge.auditing.train import Training, train
from divulge.data import load, split
from divulge.defenses import DEFENSES, Defense
from divulge.errors import BadInputError
from divulge.metrics import Finding, accuracy
from divulge.models import MODELS
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store
from divulge.studies.base import Row, Study, percent
from divulge.training import Recipe

USUAL = (ACCURACY, BALANCED, MACRO_F1)
"""Metrics of every row; the others are told of the layer that is released alone."""


@dataclass(frozen=True)
class Embedder:
    """One network whose layers are read.

    Args:
        row: its name in words.
        recipe: how it is trained.
        defense: what acts in training.
        published: the literature's numbers by metric; those on the attribute are of the released layer.
        layers: those that are read; all that can be told if empty.
        release: the layer whose output leaves the building, one of them; that before the answer if none are named.
        attack: the probes, if they are not the study's.
        adversaries: whether it is held against adversaries who know that it is defended: who look at its other layers,
            map the released one to that of a network of their own, and fine-tune the network.
    """

    row: str
    recipe: Recipe
    defense: dict[str, Any] | None = None
    published: dict[str, float] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    release: str | None = None
    attack: Overlearning | None = None
    adversaries: bool = False

    def __post_init__(self) -> None:
        if self.layers and self.release not in self.layers:
            raise BadInputError(
                f"{self.row}: expected the released layer among those that are read, {', '.join(self.layers)}, got "
                f"{self.release}. Set release to one of them."
            )


@dataclass(frozen=True)
class AttributeStudy(Study):
    """Probes on the layers of each network, beside what can be guessed without it.

    Controls stand beside the layers: the most frequent value, the same probes on the same network with its first
    weights, on the records themselves, and on nothing but their class, and the same network trained for the attribute
    on the adversary's records.

    Args:
        data: a data set in the catalog, or a path to one.
        attribute: what is read, one of its attributes.
        train: records that a network is trained on.
        known: records of the adversary, whose attribute it knows.
        test: records to guess.
        model: the architecture.
        embedders: the networks.
        attack: the probes.
        own: how the adversary trains the same network for the attribute.
        decensoring: how it maps a released layer to that of its own network; `attack` reads what comes out.
        repurposing: how it fine-tunes a released network.
        few: records that it fine-tunes on.
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
    own: Repurposing = field(default_factory=Repurposing)
    decensoring: Decensoring = field(default_factory=Decensoring)
    repurposing: Repurposing = field(default_factory=Repurposing)
    few: int = 500
    seed: int = 0

    def steps(self, store: Store, *, data_dir: Path | None) -> dict[str, Step]:
        """The data, the networks, their readings, that of a network with its first weights, and the adversary's own."""
        # other attributes are no part of what a defense is given
        records = load(self.data, data_dir=data_dir, attributes=(self.attribute,))
        sizes = {"train": self.train, "known": self.known, "test": self.test}
        data = keep(Corpus(records, split(records, sizes, seed=self.seed).rows), store)
        architecture = MODELS.make(self.model, where=self.title)
        plain = architecture.build(records.shape, records.num_classes, seed=self.seed)

        def control(one: Embedder | None, defense: Defense | None) -> Step:
            # networks that begin alike have one control, whatever acts later
            reading = Reading(architecture, self.attribute, self.attack, self.seed, control=True)
            if one and defense and repr(defense.architecture(plain)) != repr(plain):
                reading = replace(reading, attack=one.attack or self.attack, defense=defense, names=one.layers)
            return Step(read_attribute, reading, {"data": data}, label="controls")

        def learning(label: str, attack: Repurposing, records: int | None, target: Step | None, **more: Any) -> Step:
            settings = Learning(
                architecture, self.attribute, attack, records, self.seed, control=target is None, **more
            )
            return Step(learn_attribute, settings, {"data": data} | ({"target": target} if target else {}), label=label)

        auxiliary = learning("the adversary's own network", self.own, None, None)
        steps = {"data": data, "control": control(None, None), "own": auxiliary}
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
            attack = one.attack or self.attack
            reading = Reading(architecture, self.attribute, attack, self.seed, defense=defense, names=one.layers)
            steps[f"{one.row}/target"] = target
            steps[f"{one.row}/control"] = control(one, defense)
            steps[f"{one.row}/read"] = Step(
                read_attribute, reading, {"data": data, "target": target}, label=f"{one.row}, layers"
            )
            if one.adversaries:
                mapping = replace(self.decensoring, probe=attack)
                clearing = Clearing(architecture, self.attribute, mapping, one.release, defense)
                steps[f"{one.row}/cleared"] = Step(
                    clear,
                    clearing,
                    {"data": data, "target": target, "auxiliary": auxiliary},
                    label=f"{one.row}, de-censored",
                )
                label = f"{one.row}, re-purposed"
                steps[f"{one.row}/tuned"] = learning(label, self.repurposing, self.few, target, defense=defense)
                steps["scratch"] = learning("from scratch", self.repurposing, self.few, None)
        return steps

    def rows(self, done: Mapping[str, Artifact]) -> list[Row]:
        """What is guessed without a network, then each network's own task and the attribute by layer."""
        control = done["control"]
        truth, names = np.asarray(control.arrays["truth"]), control.facts["values"]
        most = np.full_like(truth, control.facts["most"])
        nothing = scored(truth, most, most, names=names)
        rows = _told(MAJORITY, nothing, USUAL)
        for source in (LABEL, INPUT):
            rows += _told(f"without the network, from the {source}", _found(control, source, nothing), USUAL)
        rows += _told("without the network, the same one trained for it", _found(done["own"], "", nothing))
        for one in self.embedders:
            rows += self._embedder(one, done)
        return rows

    def _embedder(self, one: Embedder, done: Mapping[str, Artifact]) -> list[Row]:
        """One network's rows: its own task, its layers, and its adversaries."""
        target, read, blank = (done[f"{one.row}/{step}"] for step in ("target", "read", "control"))
        right = np.asarray(target.arrays["logits"])[0].argmax(axis=1) == target.arrays["labels"]
        fresh = right[~np.asarray(target.arrays["members"])[0]]
        task = Finding("test accuracy", *accuracy(np.ones(len(fresh), dtype=bool), fresh), n=len(fresh))
        rows = [percent(task, row=one.row, published=one.published.get("test accuracy"))]
        released = one.release or embedding(tuple(read.facts["kinds"]))
        known, expected = one.adversaries, read.facts["expected"]
        for name, kind in read.facts["kinds"].items():
            out = name == released
            adversary = None if not known else "blind" if out else "adaptive"
            findings = _found(read, name, _found(blank, name, {}), adversary)
            told = f"{one.row}, layer {name} ({kind}; {read.facts['probes'][name]})"
            rows += _told(told, findings, tuple(findings) if out else USUAL, one.published if out else {})
        best = max(expected, key=lambda name: expected[name])
        if known:
            findings = _found(read, best, _found(blank, best, {}), "adaptive")
            rows += _told(f"{one.row}, the layer that promises most ({best})", findings, USUAL)
            cleared, tuned, scratch = (done[name] for name in (f"{one.row}/cleared", f"{one.row}/tuned", "scratch"))
            without = _found(blank, released, {})
            rows += _told(f"{one.row}, de-censored", _found(cleared, "", without, "adaptive"), USUAL)
            told = f"{one.row}, re-purposed with {tuned.facts['records']:,} records (control: from scratch)"
            rows += _told(told, _found(tuned, "", _found(scratch, "", {}), "adaptive"), USUAL)
        return rows


def _found(
    artifact: Artifact, source: str, control: Mapping[str, Finding], adversary: str | None = None
) -> dict[str, Finding]:
    """Findings on the guesses that a step made from a source, or on its only ones."""
    guess, even = (np.asarray(artifact.arrays[f"{what}/{source}" if source else what]) for what in ("guess", "even"))
    truth, names = np.asarray(artifact.arrays["truth"]), artifact.facts["values"]
    return scored(truth, guess, even, names=names, control=control, adversary=adversary)


def _told(
    row: str, findings: Mapping[str, Finding], metrics: Sequence[str] = (), published: Mapping[str, float] | None = None
) -> list[Row]:
    """Rows of some metrics, or of all."""
    published = published or {}
    return [percent(findings[one], row=row, published=published.get(one)) for one in metrics or findings]
