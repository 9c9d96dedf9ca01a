"""Studies of property inference: a group's share in a training set, told from the models trained on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from divulge.attacks import ATTACKS
from divulge.attacks.property import PropertyAttack
from divulge.attacks.property.black_box import BlackBox
from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.properties import Telling, tell
from divulge.auditing.worlds import Worlds, populate
from divulge.data import Dataset, concatenate, load, split
from divulge.data.catalog import named_set
from divulge.defenses import DEFENSES
from divulge.errors import BadInputError
from divulge.metrics import Finding, accuracy
from divulge.models import MODELS
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store
from divulge.settings import labelled
from divulge.studies.base import Row, Study, percent
from divulge.studies.table_attributes import without_columns
from divulge.training import Recipe

ADVERSARY, OWNER, ASKED = "adversary", "owner", "asked"


@dataclass(frozen=True)
class Population:
    """One kind of models whose training sets are told apart.

    Args:
        row: its name in words.
        model: the architecture.
        recipe: how it is trained, where not by the study's recipe.
        defense: what acts on training or answers; shadow models are trained under it and answer through it.
        shadows: the adversary's models, where not the study's number.
        targets: likewise.
        attacks: names of those that are tried; all of the study's if empty.
    """

    row: str
    model: dict[str, Any]
    recipe: Recipe | None = None
    defense: dict[str, Any] | None = None
    shadows: int | None = None
    targets: int | None = None
    attacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class PropertyStudy(Study):
    """How many unseen models are told apart by the share of a group in their training sets.

    The adversary's records, the owner's and those that models are asked about are disjoint. Columns are standardized by
    all of them together, which is taken to be public. Beside each number stands that of the same attack where every
    model of both sides has the first share and the labels mean nothing: a coin's.

    Args:
        data: name of a data set in the catalog; all of its parts are used.
        group: an attribute and its value.
        shares: of the group in the training sets.
        size: records of a training set.
        asked: share of the records that models are asked about; the others are halved between the two sides.
        shadows: the adversary's models.
        targets: models that are told apart.
        recipe: how models are trained.
        populations: kinds of models.
        attacks: what is tried.
        drop: columns that no model is given.
        options: how the data set is read, such as the size of its pictures.
        seed: of the parts, the training sets and the models.
    """

    name: ClassVar[str] = "properties"

    data: str
    group: tuple[str, str]
    shares: tuple[float, float]
    size: int
    asked: float
    shadows: int
    targets: int
    recipe: Recipe
    populations: tuple[Population, ...]
    attacks: tuple[dict[str, Any], ...]
    drop: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def steps(self, store: Store, *, data_dir: Path | None) -> dict[str, Step]:
        """The data, both sides' models of each kind, and every attack with its control."""
        records = self._records(data_dir)
        attribute, value = self.group
        names = records.attribute_classes.get(attribute, ())
        if value not in names:
            raise BadInputError(
                f"{self.title}: {attribute} has no value {value!r}. There are: {', '.join(names) or 'none'}."
            )
        share = (1 - self.asked) / 2
        rows = split(records, {ADVERSARY: share, OWNER: share, ASKED: self.asked}, seed=self.seed).rows
        data = keep(Corpus(records, rows), store)
        steps: dict[str, Step] = {}
        for one in self.populations:
            architecture = MODELS.make(one.model, where=self.title)
            defense = DEFENSES.make(one.defense, where=self.title) if one.defense else None
            trained = defense if defense and defense.in_training else None
            sides = {}
            for side, part, count, seed in (
                ("shadows", ADVERSARY, one.shadows or self.shadows, self.seed),
                ("targets", OWNER, one.targets or self.targets, self.seed + 1_000_000),
            ):
                worlds = Worlds(
                    architecture=architecture,
                    recipe=one.recipe or self.recipe,
                    part=part,
                    attribute=attribute,
                    value=names.index(value),
                    shares=self.shares,
                    size=self.size,
                    count=count,
                    seed=seed,
                    defense=trained,
                )
                sides[side] = Step(populate, worlds, {"data": data}, label=f"{count} {side}, {one.row}", cost=10.0)
            for attack in self._attacks(one):
                for control in (False, True):
                    telling = Telling(
                        architecture=architecture,
                        attack=attack,
                        part=ASKED,
                        attribute=attribute,
                        value=names.index(value),
                        control=control,
                        defense=defense,
                    )
                    label = f"{attack.name}, {one.row}{' (control)' if control else ''}"
                    name = _name(one, attack, control)
                    steps[name] = Step(tell, telling, {"data": data, **sides}, label=label)
        return steps

    def rows(self, done: Mapping[str, Artifact]) -> list[Row]:
        """How many models each attack tells apart, beside models that do not differ."""
        table = []
        for one in self.populations:
            for attack in self._attacks(one):
                found = done[_name(one, attack, False)]
                control = _scored(done[_name(one, attack, True)])
                finding = replace(_scored(found), control=control, adversary="adaptive" if one.defense else None)
                queries = found.facts["queries"]
                how = f"{queries:,} queries" if isinstance(attack, BlackBox) else "weights"
                count = one.shadows or self.shadows
                row = f"{one.row}: {_label(attack)}, {how}, {count:,} shadows"
                table.append(percent(finding, row=row, published=None))
        return table

    def _records(self, data_dir: Path | None) -> Dataset:
        """All parts together, tables without the dropped columns and standardized."""
        parts = named_set(self.data).counts
        records = concatenate([load(self.data, part=part, data_dir=data_dir, **self.options) for part in parts])
        if records.is_image:
            return records
        table = without_columns(records, self.drop)
        mean, deviation = table.inputs.mean(dim=0), table.inputs.std(dim=0, correction=0)
        scaled = (table.inputs - mean) / deviation.clamp_min(1e-6)
        return replace(table, inputs=scaled.clamp(-5, 5))

    def _attacks(self, population: Population) -> list[PropertyAttack]:
        made = [ATTACKS.make(spec, where=self.title) for spec in self.attacks]
        for attack in made:
            if not isinstance(attack, PropertyAttack):
                raise BadInputError(f"{self.title}: expected attacks on a property, got {attack.name!r}.")
        chosen = population.attacks or tuple(attack.name for attack in made)
        return [attack for attack in made if isinstance(attack, PropertyAttack) and attack.name in chosen]


def _scored(artifact: Artifact) -> Finding:
    truth, guess = np.asarray(artifact.arrays["has"]), np.asarray(artifact.arrays["scores"]) > 0
    return Finding("training sets told apart", *accuracy(truth, guess), n=len(truth))


def _name(population: Population, attack: PropertyAttack, control: bool) -> str:
    return f"{population.row}/{_label(attack)}/{'control' if control else 'real'}"


def _label(attack: PropertyAttack) -> str:
    return labelled(attack.name, attack)
