"""Studies of attribute inference on tables: what a model adds to what the other columns tell by themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from divulge.auditing.attributes import IMPUTATION
from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.table_targets import MEMBERS, OTHERS, PARTS, Grown, Guessing, guess_table
from divulge.auditing.train import Training, train
from divulge.data import Dataset, load, split
from divulge.defenses import DEFENSES, Defense
from divulge.errors import BadInputError
from divulge.metrics import Estimate, Finding, clopper_pearson
from divulge.metrics.certainty import TOP, certain, over_models, precision_gain, score_attribute
from divulge.models import MODELS
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store
from divulge.studies.base import Row, Study, percent
from divulge.training import Recipe

GAIN = "precision above imputation"


@dataclass(frozen=True)
class TableTarget:
    """One model under attack.

    Args:
        row: its name in words.
        model: the architecture of a network; None for a tree.
        recipe: how a network is trained.
        grown: the tree or forest; None for a network.
        defense: what acts on it.
        hide: whether the attribute is left out of its inputs.
        known: whole records of the adversary's own, where not the study's number.
    """

    row: str
    model: dict[str, Any] | None = None
    recipe: Recipe = field(default_factory=Recipe)
    grown: Grown | None = None
    defense: dict[str, Any] | None = None
    hide: bool = False
    known: int | None = None


@dataclass(frozen=True)
class TableAttributeStudy(Study):
    """Every attack that fits on each model, beside imputation, on its members and on others.

    Args:
        data: name of a table in the catalog.
        attribute: what is guessed.
        value: the value that precision at the most certain records is about.
        train: records that a model is trained on.
        held_out: as many others to guess about.
        known: whole records of the adversary's own.
        targets: the models.
        drop: columns that no model has and no adversary knows, since they say the same again.
        units: what columns of large numbers are divided by, known to everyone.
        repeats: models of each kind, each on parts of its own.
        seed: of the parts and the models.
    """

    name: ClassVar[str] = "table-attributes"

    data: str
    attribute: str
    value: str
    train: int
    held_out: int
    known: int
    targets: tuple[TableTarget, ...]
    drop: tuple[str, ...] = ()
    units: dict[str, float] = field(default_factory=dict)
    repeats: int = 1
    seed: int = 0

    def steps(self, store: Store, *, data_dir: Path | None) -> dict[str, Step]:
        """For each repeat the data, with and without the attribute, the networks, and the guesses."""
        records = in_units(without_columns(load(self.data, data_dir=data_dir), self.drop), self.units)
        if self.attribute not in records.attributes:
            raise BadInputError(
                f"{self.title}: no attribute {self.attribute!r}. There are: {', '.join(records.attributes) or 'none'}."
            )
        values = records.attribute_classes.get(self.attribute, ())
        if self.value not in values:
            raise BadInputError(
                f"{self.title}: {self.attribute} has no value {self.value!r}. There are: {', '.join(values)}."
            )
        hidden = without_columns(records, (self.attribute,))
        sizes = dict(zip(PARTS, (self.train, self.held_out, self.known), strict=True))
        steps: dict[str, Step] = {}
        for repeat in range(self.repeats):
            seed = self.seed + 1000 * repeat
            rows = split(records, sizes, seed=seed).rows
            kept = {hide: keep(Corpus(hidden if hide else records, rows), store) for hide in (False, True)}
            networks: dict[Any, Step] = {}
            for one in self.targets:
                data, defense = kept[one.hide], self._defense(one)
                inputs = {"data": data}
                architecture = MODELS.make(one.model, where=self.title) if one.model else None
                if architecture is not None:
                    training = Training(
                        architecture=architecture,
                        recipe=one.recipe,
                        parts=PARTS[:1],
                        answer=PARTS[1:2],
                        seed=seed,
                        defense=defense if defense and defense.in_training else None,
                        validation=PARTS[2] if one.recipe.patience else None,
                    )
                    step = Step(train, training, inputs, label=one.row)
                    inputs = {**inputs, "target": networks.setdefault(step.key, step)}
                settings = Guessing(
                    attribute=self.attribute,
                    known=one.known or self.known,
                    seed=seed,
                    architecture=architecture,
                    grown=one.grown,
                    defense=defense,
                )
                steps[f"{repeat}/{one.row}"] = Step(guess_table, settings, inputs, label=f"attributes, {one.row}")
        return steps

    def rows(self, done: Mapping[str, Artifact]) -> list[Row]:
        """Each model's accuracy, then each attack beside imputation."""
        table: list[Row] = []
        for one in self.targets:
            parts = [done[f"{repeat}/{one.row}"] for repeat in range(self.repeats)]
            for group, told in ((MEMBERS, "train accuracy"), (OTHERS, "test accuracy")):
                n = len(parts[0].arrays[f"truth/{group}"])
                shares = [_share(part.facts["accuracy"][group], n) for part in parts]
                table.append(percent(Finding(told, *over_models(shares), n=n), row=one.row, published=None))
            prefix = f"guess/{MEMBERS}/"
            for name in parts[0].arrays:
                if name.startswith(prefix):
                    table += self._attack(one, name.removeprefix(prefix), parts)
        return table

    def _attack(self, target: TableTarget, attack: str, parts: list[Artifact]) -> list[Row]:
        """Precision on members and on others, what it has over imputation, and the usual scores on members."""
        rows, adversary = [], self._adversary(target, attack)
        for group in (MEMBERS, OTHERS):
            each = [self._scored(part, group, attack) for part in parts]
            for metric in each[0]:
                if group == OTHERS and metric != f"precision at top {TOP[-1]}":
                    continue
                estimate = over_models([Estimate(one[metric].value, one[metric].low, one[metric].high) for one in each])
                controls = [one[metric].control for one in each]
                known = [one.value for one in controls if one is not None]
                n = each[0][metric].n * (len(parts) if metric.startswith("precision") else 1)
                mean = float(np.mean(known)) if known else 0.0
                control = Finding(metric, mean, mean, mean, n=n) if known else None
                finding = Finding(metric, *estimate, n=n, control=control, adversary=adversary)
                rows.append(percent(finding, row=f"{target.row}: {attack}, {group}", published=None))
        if attack != IMPUTATION:
            gain = over_models([self._gain(part, attack) for part in parts], least=-1.0)
            finding = Finding(f"{GAIN} at top {TOP[-1]}", *gain, n=TOP[-1] * len(parts), adversary=adversary)
            nothing = over_models([self._gain(part, attack, group=OTHERS) for part in parts], least=-1.0)
            control = Finding(finding.metric, *nothing, n=finding.n)
            row = f"{target.row}: {attack}, {MEMBERS} (control: {OTHERS})"
            rows.append(percent(replace(finding, control=control), row=row, published=None))
        return rows

    def _scored(self, part: Artifact, group: str, attack: str) -> dict[str, Finding]:
        truth = np.asarray(part.arrays[f"truth/{group}"])
        control = None if attack == IMPUTATION else _guess(part, group, IMPUTATION)
        found = score_attribute(truth, _guess(part, group, attack), control=control, value=self._value(part))
        return {one.metric: one for one in found}

    def _gain(self, part: Artifact, attack: str, *, group: str = MEMBERS) -> Estimate:
        truth, value = np.asarray(part.arrays[f"truth/{group}"]), self._value(part)
        mine, theirs = (certain(truth, _guess(part, group, name), value=value) for name in (attack, IMPUTATION))
        return precision_gain(*mine, *theirs, k=TOP[-1], seed=self.seed)

    def _value(self, part: Artifact) -> int:
        return list(part.facts["values"]).index(self.value)

    def _defense(self, target: TableTarget) -> Defense | None:
        return DEFENSES.make(target.defense, where=self.title) if target.defense else None

    def _adversary(self, target: TableTarget, attack: str) -> str | None:
        """Adaptive is who picks the attack that a defense leaves room for, blind who does as without one."""
        defense = self._defense(target)
        if attack == IMPUTATION or (defense is None and not target.hide):
            return None
        fits = attack == "labels" if defense and defense.in_response else target.hide and "neurons" in attack
        return "adaptive" if fits else "blind"


def without_columns(data: Dataset, names: tuple[str, ...]) -> Dataset:
    """The table without some columns, each with all that it was encoded to.

    Raises:
        BadInputError: no such column.
    """
    of = [feature.split("=")[0] for feature in data.features]
    for name in names:
        if name not in of:
            raise BadInputError(
                f"no column {name!r} to leave out. There are: {', '.join(dict.fromkeys(of)) or 'none'}."
            )
    kept = [place for place, name in enumerate(of) if name not in names]
    return replace(data, inputs=data.inputs[:, kept], features=tuple(data.features[place] for place in kept))


def in_units(data: Dataset, units: Mapping[str, float]) -> Dataset:
    """The table with some columns divided by a number each.

    Raises:
        BadInputError: no such column, or a unit that is not positive.
    """
    inputs = data.inputs.clone()
    for name, unit in units.items():
        if name not in data.features or not unit > 0:
            raise BadInputError(f"units: expected a column and a positive number, got {name!r} and {unit}.")
        inputs[:, data.features.index(name)] /= unit
    return replace(data, inputs=inputs)


def _share(value: float, n: int) -> Estimate:
    low, high = clopper_pearson(round(value * n), n)
    return Estimate(value, float(low), float(high))


def _guess(part: Artifact, group: str, attack: str) -> np.ndarray:
    return np.asarray(part.arrays[f"guess/{group}/{attack}"], dtype=np.float64)
