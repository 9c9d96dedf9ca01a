"""Who tells a group's share in a training set from the model: every attack, and a call for one's own records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from divulge.attacks.knowledge import Knowledge
from divulge.attacks.property import (
    ChosenQueries,
    GroupLoss,
    NearestWorld,
    PropertyAttack,
    PropertyGuesses,
    SortedWeights,
)
from divulge.attacks.property.black_box import BlackBox
from divulge.auditing.corpus import opened
from divulge.auditing.extraction import fresh
from divulge.auditing.worlds import trained_worlds
from divulge.data import Dataset
from divulge.defenses import Defense
from divulge.errors import BadInputError
from divulge.metrics import Finding, accuracy
from divulge.models import Architecture
from divulge.releases import Posteriors, Weights
from divulge.runs.step import Artifact, Context
from divulge.training import Recipe, logits


@dataclass(frozen=True)
class Telling:
    """Settings of a step that tells the worlds of targets by shadow models.

    Args:
        architecture: of the models.
        attack: how.
        part: of the corpus, whose records are asked about.
        attribute: see `Worlds`.
        value: likewise.
        control: whether all models of both sides are of one world, with labels that mean nothing.
        defense: what acted on the architecture, if anything did, and on answers.
    """

    architecture: Architecture
    attack: PropertyAttack
    part: str
    attribute: str
    value: int
    control: bool = False
    defense: Defense | None = None


def tell(settings: Telling, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Tell the worlds of the models that the step `targets` left, by those of the step `shadows`.

    Returns:
        Arrays `scores` float64 and `has` bool, `(targets,)`; the fact `queries`.
    """
    data = opened(inputs["data"], (settings.part,)).data
    group = data.attributes[settings.attribute].numpy() == settings.value
    sides = []
    for name in ("shadows", "targets"):
        models, has = restored(settings, inputs[name], data.num_classes)
        if settings.control:
            models = [model for model, marked in zip(models, has, strict=True) if not marked]
            has = np.arange(len(models)) % 2 == 1
        sides.append((models, has))
    (shadows, marked), (targets, truth) = sides
    found = told(settings.attack, shadows, marked, targets, data=data, group=group, defense=settings.defense)
    return Artifact({"scores": found.scores, "has": truth}, {"queries": found.queries, **found.facts})


def restored(settings: Telling, artifact: Artifact, classes: int) -> tuple[list[nn.Module], np.ndarray]:
    """The models of a step of `populate`, and which have the property."""
    has = np.asarray(artifact.arrays["has"])
    weights = {
        name.removeprefix("weight/"): torch.from_numpy(np.asarray(value))
        for name, value in artifact.arrays.items()
        if name.startswith("weight/")
    }
    models = []
    for number in range(len(has)):
        model = fresh(settings.architecture, tuple(artifact.facts["shape"]), classes, seed=0, defense=settings.defense)
        model.load_state_dict({name: value[number] for name, value in weights.items()})
        models.append(model)
    return models, has


def told(
    attack: PropertyAttack,
    shadows: Sequence[nn.Module],
    has: np.ndarray,
    targets: Sequence[nn.Module],
    *,
    data: Dataset,
    group: np.ndarray,
    defense: Defense | None = None,
) -> PropertyGuesses:
    """Give an attack the release that it works on: answers, as the defense coarsens them, or weights."""
    if not isinstance(attack, BlackBox):
        published = [[Weights(model, data.shape, data.num_classes) for model in side] for side in (shadows, targets)]
        return attack.run(published[0], has, published[1])  # type: ignore[attr-defined]
    asked = [[_asked(model, data.num_classes, defense) for model in side] for side in (shadows, targets)]
    further = {"group": group} if isinstance(attack, GroupLoss) else {}
    return attack.run(asked[0], has, asked[1], knowledge=Knowledge(data=data), **further)  # type: ignore[attr-defined]


def _asked(model: nn.Module, classes: int, defense: Defense | None) -> Posteriors:
    if defense is None or not defense.in_response:
        return Posteriors(lambda records: logits(model, records), classes=classes, logits=True, batch_size=1 << 20)

    def answer(records: Tensor) -> np.ndarray:
        return defense.respond(torch.from_numpy(logits(model, records)).double().softmax(dim=1).numpy())

    return Posteriors(answer, classes=classes, batch_size=1 << 20)


@dataclass(frozen=True, eq=False)
class PropertyAudit:
    """A group's share under attack, scored.

    Args:
        shares: of the two worlds.
        findings: of the attack that tells most targets apart, beside models of one world, with an interval that is wide
            enough for having picked it among all.
        rows: every number as a mapping with `attack`, `access` (`posteriors` or `weights`), `queries`, `metric`,
            `value`, `low`, `high`, `n` and `control`.
        strongest: that attack.
    """

    shares: tuple[float, float]
    findings: list[Finding]
    rows: list[dict[str, Any]]
    strongest: str


def property_findings(
    architecture: Architecture,
    data: Dataset,
    group: np.ndarray,
    *,
    recipe: Recipe,
    shares: tuple[float, float] = (0.3, 0.5),
    size: int = 1000,
    shadows: int = 200,
    targets: int = 100,
    attacks: Sequence[PropertyAttack] = (ChosenQueries(), GroupLoss(), NearestWorld(), SortedWeights()),
    seed: int = 0,
    watch: Callable[[float], None] = lambda done: None,
) -> PropertyAudit:
    """How often the share of a group in a training set can be told from a model trained as described.

    Records are parted in three: the adversary's, whose shadow models learn the difference; the owner's, whose targets
    are told; and some that all models are asked about. No record stands in two parts.

    Args:
        architecture: of the models; `divulge.auditing.train.Fresh` wraps one that divulge did not define.
        data: records of the kind.
        group: which of them belong to the group, bool `(n,)`.
        recipe: how a model is trained.
        shares: of the group in the two worlds.
        size: records of a training set.
        shadows: models of the adversary.
        targets: models that are told apart.
        attacks: what is tried; those on weights take fully connected networks.
        seed: of all that is drawn.
        watch: told how much is done, 0 to 1.

    Raises:
        BadInputError: too few records of the group or of others, shares that do not differ, or fewer than eight shadow
            models or four targets, half of which serve as controls.
    """
    if group.shape != (len(data),) or group.dtype != bool:
        raise BadInputError(
            f"property: expected group as bool ({len(data)},), got {group.dtype} of shape {group.shape}."
        )
    if shadows < 8 or targets < 4:
        raise BadInputError(f"property: expected 8 shadow models and 4 targets or more, got {shadows} and {targets}.")
    order = np.random.default_rng(seed).permutation(len(data))
    asked, mine, theirs = np.split(order, [len(data) // 10, len(data) // 10 + (len(data) - len(data) // 10) // 2])
    whole, sides = shadows + targets, []
    for own, count, first in ((mine, shadows, 0), (theirs, targets, shadows)):

        def done(share: float, first: int = first, count: int = count) -> None:
            watch((first + share * count) / whole)

        sides.append(
            trained_worlds(
                architecture,
                data[own],
                group[own],
                recipe=recipe,
                shares=shares,
                size=size,
                count=count,
                seed=seed + first,
                watch=done,
            )
        )
    (known, has), (released, truth) = sides
    null = [[model for model, marked in zip(models, flags, strict=True) if not marked] for models, flags in sides]
    labels = [np.arange(len(models)) % 2 == 1 for models in null]
    rows: list[dict[str, Any]] = []
    best: Finding | None = None
    strongest = ""
    for attack in attacks:
        found = told(attack, known, has, released, data=data[asked], group=group[asked])
        nothing = told(attack, null[0], labels[0], null[1], data=data[asked], group=group[asked])
        control = Finding("worlds told", *accuracy(labels[1], nothing.has), n=len(labels[1]))
        finding = Finding("worlds told", *accuracy(truth, found.has), n=len(truth), control=control)
        rows.append(
            {
                "attack": attack.name,
                "access": "posteriors" if isinstance(attack, BlackBox) else "weights",
                "queries": found.queries,
                "metric": finding.metric,
                "value": finding.value,
                "low": finding.low,
                "high": finding.high,
                "n": finding.n,
                "control": control.value,
            }
        )
        if best is None or finding.value > best.value:
            picked = accuracy(truth, found.has, confidence=1 - 0.05 / len(attacks))
            best, strongest = replace(finding, low=picked.low, high=picked.high), attack.name
    return PropertyAudit(shares, [best] if best else [], rows, strongest)
