"""Studies of gradient inversion: attacks against defenses on the same victims, while a network learns."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from divulge.attacks import ATTACKS
from divulge.attacks.gradients.base import GradientAttack
from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.gradients import Attempt, Inversion, choose, invert
from divulge.auditing.train import Training, train
from divulge.data import concatenate, copies, load, split
from divulge.defenses import DEFENSES, Defense
from divulge.errors import BadInputError
from divulge.metrics import bootstrap
from divulge.models import MODELS
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store
from divulge.studies.base import Row, Sample, Study
from divulge.studies.gradient_cells import UNDEFENDED, Cell, Network, Table, beginning, combined, stage_words
from divulge.studies.gradient_rows import Published, Ratio, Result, compared, scored
from divulge.studies.sheets import strip
from divulge.training import Recipe

CHECKED = 1000
"""Held-out records that a trained network's accuracy is told on."""


@dataclass(frozen=True)
class GradientStudy(Study):
    """Clients share the gradient of a private batch under a defense, and attackers rebuild it.

    All cells of a network and stage have the same victims, the same weights and, for searches, the same starts.

    Args:
        data: name of a data set in the catalog.
        networks: what the clients train, by a name for the rows.
        attacks: settings of gradient attacks, by a name for the rows.
        tables: what is combined.
        victims: how many clients.
        defenses: settings of defenses, by a name for the rows.
        part: the part of the data whose records are attacked.
        batch: records that each client has.
        training: whether the clients' model is in training mode.
        draws: how many sets of first weights; the victims are dealt out to them.
        records: how many of the data set's training records a network is trained on; all if None.
        ratios: comparisons between defenses.
        published: numbers of the literature.
        pictures: how many victims the sheet of samples shows.
        sheet: the rows that it shows.
        seed: of everything drawn.
    """

    name: ClassVar[str] = "gradients"

    data: str
    networks: dict[str, Network]
    attacks: dict[str, dict[str, Any]]
    tables: tuple[Table, ...]
    victims: int
    defenses: dict[str, dict[str, Any]] = field(default_factory=dict)
    part: str = "test"
    batch: int = 1
    training: bool = False
    draws: int = 1
    records: int | None = None
    ratios: tuple[Ratio, ...] = ()
    published: tuple[Published, ...] = ()
    pictures: int = 6
    sheet: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        known = {
            "network": tuple(self.networks),
            "attack": tuple(self.attacks),
            "defense": (UNDEFENDED, *self.defenses),
        }
        for table in self.tables:
            used = {"network": table.networks, "attack": table.attacks, "defense": table.defenses}
            for kind, name in ((kind, name) for kind, names in used.items() for name in names):
                if name not in known[kind]:
                    raise BadInputError(f"{self.title}: no {kind} {name!r}. There are: {', '.join(known[kind])}.")
            for name in table.networks:
                if max(table.stages) > 0 and self.networks[name].recipe is None:
                    raise BadInputError(f"{self.title}: network {name!r} has no recipe to be trained by.")
            if not all(0 <= stage <= 1 for stage in table.stages):
                raise BadInputError(f"{self.title}: expected stages from 0 to 1, got {table.stages}.")
        if self.draws < 1 or self.victims % self.draws:
            raise BadInputError(
                f"{self.title}: expected victims that {self.draws} draws of weights share evenly, got {self.victims}."
            )

    def cells(self) -> list[Cell]:
        """What is run, each once."""
        return combined(self.tables)

    def steps(self, store: Store, *, data_dir: Path | None) -> dict[str, Step]:
        """The graph: victims, trained networks, attacks."""
        cells = self.cells()
        clients = keep(self._clients(data_dir), store)
        trained = self._trained({self._training(cell) for cell in cells if cell.stage}, store, data_dir)
        steps = dict(trained)
        for cell in cells:
            for draw in range(self.draws):
                inputs = {"data": clients}
                if cell.stage:
                    inputs["model"] = trained[_model(*self._training(cell), draw)]
                spec = self.attacks[cell.attack]
                cost = spec.get("steps", 1) * spec.get("restarts", 1)
                steps[_name(cell, draw)] = Step(
                    invert, self._inversion(cell, draw), inputs, label=cell.label, cost=float(cost)
                )
        return steps

    def rows(self, done: Mapping[str, Artifact]) -> list[Row]:
        """How well each attack did, what knowing the defense was worth to it, and the defenses side by side."""
        results = {cell: Result.of([done[_name(cell, draw)] for draw in range(self.draws)]) for cell in self.cells()}
        ratios = (row for ratio in self.ratios for row in compared(ratio, results, seed=self.seed))
        return [*self._accuracies(done), *scored(results, self.published, seed=self.seed), *ratios]

    def samples(self, done: Mapping[str, Artifact]) -> list[Sample]:
        """The originals, and what the attacks of the sheet's rows made of them."""
        shown = [cell for cell in self.cells() if cell.row in self.sheet]
        if not shown:
            return []

        def pictures(cell: Cell, kind: str) -> str:
            hands = [np.asarray(done[_name(cell, draw)].arrays[kind]) for draw in range(self.draws)]
            return strip(np.concatenate(hands)[: self.pictures, 0])

        found = [Sample(cell.row, cell.adversary, pictures(cell, "reconstructions")) for cell in shown]
        return [Sample("originals", None, pictures(shown[0], "originals")), *found]

    def _clients(self, data_dir: Path | None) -> Corpus:
        """The victims and the records that their reconstructions are held against, dealt out to the draws."""
        source = load(self.data, part=self.part, data_dir=data_dir)
        chosen = choose(source, count=self.victims, batch=self.batch, seed=self.seed)
        rows = np.concatenate([chosen.rows, chosen.others])
        hands = np.split(np.arange(len(rows)), 2 * self.draws)
        names = [f"{kind}/{draw}" for kind in ("victims", "others") for draw in range(self.draws)]
        return Corpus(source[rows], dict(zip(names, hands, strict=True)))

    def _training(self, cell: Cell) -> tuple[str, float, str]:
        """Network, stage, and the defense that its training knows of: one that acts on it, or none."""
        spec = self.defenses.get(cell.defense)
        acts = spec is not None and DEFENSES.make(spec, where=self.title).in_training
        return cell.network, cell.stage, cell.defense if acts else UNDEFENDED

    def _trained(self, wanted: set[tuple[str, float, str]], store: Store, data_dir: Path | None) -> dict[str, Step]:
        """The networks after a share of their training, by name."""
        if not wanted:
            return {}
        training = load(self.data, data_dir=data_dir)
        count = self.records or len(training)
        rows: dict[str, np.ndarray] = {}
        if self.part == "train":
            check = min(CHECKED, count // 5)
            parts = split(training, {"train": count - check, "check": check}, seed=self.seed)
            source, pool, rows["check"] = training, parts.rows["train"], parts.rows["check"]
        else:
            held_out = load(self.data, part=self.part, data_dir=data_dir)
            fresh = np.flatnonzero(~copies(held_out, of=training))[:CHECKED]
            source = concatenate([training, held_out])
            pool, rows["check"] = (
                np.random.default_rng(self.seed).permutation(len(training))[:count],
                len(training) + fresh,
            )
        settings: dict[str, Training] = {}
        for network, stage, defense in sorted(wanted):
            recipe, take = beginning(self._recipe(network), stage, len(pool))
            rows[f"first {take}"] = pool[:take]
            for draw in range(self.draws):
                settings[_model(network, stage, defense, draw)] = Training(
                    MODELS.make(self.networks[network].model, where=self.title),
                    recipe,
                    parts=(f"first {take}",),
                    answer=("check",),
                    seed=self.seed + draw,
                    defense=None if defense == UNDEFENDED else DEFENSES.make(self.defenses[defense], where=self.title),
                )
        data = keep(Corpus(source, rows), store)
        return {
            name: Step(train, one, {"data": data}, label=f"{name}, training", cost=one.recipe.epochs)
            for name, one in settings.items()
        }

    def _recipe(self, network: str) -> Recipe:
        recipe = self.networks[network].recipe
        if recipe is None:
            raise BadInputError(f"{self.title}: network {network!r} has no recipe to be trained by.")
        return recipe

    def _inversion(self, cell: Cell, draw: int) -> Inversion:
        attack = ATTACKS.make(self.attacks[cell.attack], where=self.title)
        if not isinstance(attack, GradientAttack):
            raise BadInputError(f"{self.title}: expected gradient attacks, got {self.attacks[cell.attack]['name']!r}.")
        spec = self.defenses.get(cell.defense)
        one = Attempt(
            attack,
            DEFENSES.make(spec, where=self.title) if spec else Defense(),
            cell.adversary or "blind",
            training=self.training,
            seed=self.seed + draw,
        )
        return Inversion(
            MODELS.make(self.networks[cell.network].model, where=self.title),
            one,
            victims=f"victims/{draw}",
            others=f"others/{draw}",
            batch=self.batch,
            weights=self.seed + draw,
        )

    def _accuracies(self, done: Mapping[str, Artifact]) -> Iterator[Row]:
        for network, stage, defense in sorted({self._training(cell) for cell in self.cells() if cell.stage}):
            parts = [done[_model(network, stage, defense, draw)] for draw in range(self.draws)]
            labels = np.asarray(parts[0].arrays["labels"])
            right = np.concatenate([np.asarray(part.arrays["logits"]).argmax(axis=2) == labels for part in parts])
            estimate = bootstrap(np.mean, 100.0 * right.mean(axis=0), seed=self.seed)
            chance = 100 * float((labels == np.bincount(labels).argmax()).mean())
            under = "" if defense == UNDEFENDED else f"{defense}, "
            row = f"{under}{network}, {stage_words(stage)}"
            yield Row(row, "test accuracy", "%", None, *estimate, len(labels), chance, None)


def _model(network: str, stage: float, defense: str, draw: int) -> str:
    under = "" if defense == UNDEFENDED else f" under {defense}"
    return f"{network}{under}, {stage_words(stage)}, weights {draw}"


def _name(cell: Cell, draw: int) -> str:
    return f"{cell.label}/{draw}"
