"""What a study of gradients combines: networks at a stage of their training, defenses, attacks and adversaries."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from divulge.auditing.gradients import Adversary
from divulge.training import Recipe

UNDEFENDED = "none"
"""The name of no defense."""


@dataclass(frozen=True)
class Network:
    """What the clients train.

    Args:
        model: the architecture.
        recipe: how it is trained, for the stages beyond the first weights.
    """

    model: dict[str, Any]
    recipe: Recipe | None = None


@dataclass(frozen=True)
class Table:
    """Attacks by defenses by adversaries, each combination once.

    Args:
        networks: by their names in the study.
        attacks: by theirs.
        defenses: by theirs; `none` is known.
        adversaries: what the attacker knows of a defense; without one there is one row.
        stages: the share of the training after which the gradients are shared; 0 for the first weights.
    """

    networks: tuple[str, ...]
    attacks: tuple[str, ...]
    defenses: tuple[str, ...] = (UNDEFENDED,)
    adversaries: tuple[Adversary, ...] = ("blind",)
    stages: tuple[float, ...] = (0.0,)


@dataclass(frozen=True)
class Cell:
    """One combination of a table, for one draw of weights after another."""

    network: str
    stage: float
    defense: str
    attack: str
    adversary: Adversary | None

    @property
    def row(self) -> str:
        """Its words, without the adversary."""
        guarded = "no defense" if self.defense == UNDEFENDED else self.defense
        return f"{self.attack}, {guarded}, {self.place}"

    @property
    def label(self) -> str:
        """Its words."""
        return f"{self.row}, {self.adversary}" if self.adversary else self.row

    @property
    def place(self) -> str:
        """The network and its stage, in words."""
        return f"{self.network}, {stage_words(self.stage)}"


def combined(tables: Iterable[Table]) -> list[Cell]:
    """The cells of some tables, each once."""
    found: dict[Cell, None] = {}
    for table in tables:
        for network in table.networks:
            for stage in table.stages:
                for defense in table.defenses:
                    adversaries = (None,) if defense == UNDEFENDED else table.adversaries
                    for attack in table.attacks:
                        found |= {Cell(network, stage, defense, attack, one): None for one in adversaries}
    return list(found)


def stage_words(stage: float) -> str:
    """A share of the training in words.

    Example:
        >>> stage_words(0), stage_words(0.01)
        ('untrained', 'after 1 % of training')
    """
    if stage in (0, 1):
        return "trained" if stage else "untrained"
    return f"after {100 * stage:g} % of training"


def beginning(recipe: Recipe, stage: float, records: int) -> tuple[Recipe, int]:
    """The recipe of a share of a training, and how many records it sees: below one epoch, a part of them."""
    seen = stage * recipe.epochs
    if seen < 1:
        return replace(recipe, epochs=1), max(recipe.batch_size, round(seen * records))
    return replace(recipe, epochs=round(seen)), records
