"""Models of two worlds, whose training sets differ in the share of a group."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from divulge.auditing.corpus import opened
from divulge.data import Dataset
from divulge.defenses import Defense
from divulge.errors import BadInputError
from divulge.models import Architecture
from divulge.runs.step import Artifact, Context
from divulge.training import Recipe, fit_stacked, stackable

TOGETHER = 100
"""Models that are trained in one stack; more are no faster, and take more memory."""


@dataclass(frozen=True)
class Worlds:
    """Settings of a step that trains models whose training sets hold one of two shares of a group.

    Args:
        architecture: of every model.
        recipe: how each is trained.
        part: of the corpus that the training sets are drawn from.
        attribute: of the corpus, whose value marks the group.
        value: its number.
        shares: of the group in the training sets of the two worlds; the second is the property.
        size: records of a training set.
        count: models, every second one with the property.
        seed: of the sets and the models.
        defense: acts on architecture and training.
    """

    architecture: Architecture
    recipe: Recipe
    part: str
    attribute: str
    value: int
    shares: tuple[float, float]
    size: int
    count: int
    seed: int
    defense: Defense | None = None


def populate(settings: Worlds, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Train the models of both worlds.

    Returns:
        Arrays `weight/...` with a row for each model, and `has` bool `(models,)`; the fact `shape` of a record.

    Raises:
        BadInputError: shares that are no shares or leave no difference, or too few records of the group or of others.
    """
    data = opened(inputs["data"], (settings.part,)).data
    group = data.attributes[settings.attribute].numpy() == settings.value
    models, has = trained_worlds(
        settings.architecture,
        data,
        group,
        recipe=settings.recipe,
        shares=settings.shares,
        size=settings.size,
        count=settings.count,
        seed=settings.seed,
        defense=settings.defense,
        watch=context.progress,
    )
    states = [model.state_dict() for model in models]
    arrays: dict[str, Any] = {f"weight/{name}": torch.stack([state[name] for state in states]) for name in states[0]}
    return Artifact({**arrays, "has": has}, {"shape": list(data.shape)})


def trained_worlds(
    architecture: Architecture,
    data: Dataset,
    group: np.ndarray,
    *,
    recipe: Recipe,
    shares: tuple[float, float],
    size: int,
    count: int,
    seed: int,
    defense: Defense | None = None,
    watch: Callable[[float], None] = lambda done: None,
) -> tuple[list[nn.Module], np.ndarray]:
    """Models trained on random sets of `size` records, every second with the second share of the group.

    Returns:
        The models in evaluation mode, and which have the property, bool `(count,)`.

    Raises:
        BadInputError: see `populate`.
    """
    has = np.arange(count) % 2 == 1
    members = sets(group, has, shares=shares, size=size, seed=seed)
    made = [architecture.build(data.shape, data.num_classes, seed=seed + number) for number in range(count)]
    if defense is None and stackable(made[0], recipe):
        models: list[nn.Module] = []
        for start in range(0, count, TOGETHER):
            part = slice(start, start + TOGETHER)

            def told(epoch: int, start: int = start) -> None:
                watch(min(1.0, (start + TOGETHER * epoch / recipe.epochs) / count))

            models += fit_stacked(made[part], data, members[part], recipe, seed=seed + start, watch=told)
        return models, has
    under = defense or Defense()
    for number, mask in enumerate(members):
        made[number] = under.architecture(made[number])
        under.train(made[number], data[mask], recipe, seed=seed + number)
        watch((number + 1) / count)
    return made, has


def sets(group: np.ndarray, has: np.ndarray, *, shares: tuple[float, float], size: int, seed: int) -> np.ndarray:
    """Which records each model is trained on, bool `(models, n)`, drawn without replacement.

    Args:
        group: bool `(n,)`.
        has: which models get the second share, bool `(models,)`.
        shares: of the group in a set.
        size: of a set.
        seed: of the draws.

    Raises:
        BadInputError: see `populate`.
    """
    if not all(0 <= share <= 1 for share in shares) or round(size * shares[0]) == round(size * shares[1]):
        raise BadInputError(
            f"property: expected two different shares from 0 to 1, in sets of {size} records, got {shares[0]} and "
            f"{shares[1]}."
        )
    inside, outside = np.flatnonzero(group), np.flatnonzero(~group)
    needed = round(size * max(shares)), size - round(size * min(shares))
    if len(inside) < needed[0] or len(outside) < needed[1]:
        raise BadInputError(
            f"property: sets of {size} records with shares {shares[0]} and {shares[1]} take {needed[0]:,} records of "
            f"the group and {needed[1]:,} others, and there are {len(inside):,} and {len(outside):,}. Make the sets "
            "smaller."
        )
    rng = np.random.default_rng(seed)
    members = np.zeros((len(has), len(group)), dtype=bool)
    for row, property_holds in zip(members, has, strict=True):
        count = round(size * shares[int(property_holds)])
        row[rng.choice(inside, count, replace=False)] = True
        row[rng.choice(outside, size - count, replace=False)] = True
    return members
