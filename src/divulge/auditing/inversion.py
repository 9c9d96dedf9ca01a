"""The step that draws what a trained classifier takes for each class."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from divulge.attacks.inversion import BlackBoxInversion, Inversions, LatentInversion, MIFace
from divulge.attacks.inversion.black_box import LabelsAloneError
from divulge.attacks.knowledge import Knowledge
from divulge.auditing.corpus import opened
from divulge.auditing.extraction import fresh, released
from divulge.data import Dataset
from divulge.defenses import Defense
from divulge.models import Architecture
from divulge.releases import Posteriors, Weights
from divulge.runs.step import Artifact, Context
from divulge.training import logits

Inverter = MIFace | BlackBoxInversion | LatentInversion
PUBLIC = "public"
"""The part of a corpus that holds public records of the same kind."""


@dataclass(frozen=True)
class Drawing:
    """Settings of a step that inverts a trained network.

    Args:
        architecture: of the network.
        attack: what is tried.
        seed: of what it draws.
        defense: what acts on the architecture, and on answers where the attack asks.
        adaptive: whether the adversary knows the defense.
        control: whether the network has its first weights, and so nobody to show.
    """

    architecture: Architecture
    attack: Inverter
    seed: int
    defense: Defense | None = None
    adaptive: bool = False
    control: bool = False


def draw(settings: Drawing, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Invert the network of the step `target` on the kind of records of the step `data`.

    Returns:
        Arrays `inputs`, `targets` and `confidence` of `Inversions`; facts with `queries` and the attack's own.
    """
    parts = ("train", PUBLIC) if f"part/{PUBLIC}" in inputs["data"].arrays else ("train",)
    corpus = opened(inputs["data"], parts)
    shape, classes = corpus.data.shape, corpus.data.num_classes
    if settings.control:
        model = fresh(settings.architecture, shape, classes, seed=settings.seed, defense=settings.defense)
    else:
        model = released(settings.architecture, shape, classes, inputs["target"], defense=settings.defense)
    public = corpus.part(PUBLIC) if PUBLIC in parts else None
    found = invert(
        model,
        shape,
        classes,
        settings.attack,
        seed=settings.seed,
        public=public,
        defense=settings.defense,
        adaptive=settings.adaptive,
    )
    facts: dict[str, Any] = {**found.facts, "queries": found.queries}
    return Artifact({name: getattr(found, name) for name in ("inputs", "targets", "confidence")}, facts)


def invert(
    model: nn.Module,
    shape: tuple[int, ...],
    classes: int,
    attack: Inverter,
    *,
    seed: int,
    public: Dataset | None = None,
    defense: Defense | None = None,
    adaptive: bool = False,
) -> Inversions:
    """Give the attack the release that it works on: the weights, or answers as the defense coarsens them.

    An attack that needs posteriors where only labels are told goes on with those, as anybody would who sees them.
    """
    knowledge = Knowledge(data=public, defense=defense if adaptive else None)
    generator = torch.Generator().manual_seed(seed)
    if not isinstance(attack, BlackBoxInversion):
        return attack.run(Weights(model, shape, classes), knowledge=knowledge, generator=generator)

    def answer(records: Tensor) -> np.ndarray:
        posteriors = torch.from_numpy(logits(model, records)).double().softmax(dim=1).numpy()
        return defense.respond(posteriors) if defense else posteriors

    release = Posteriors(answer, classes=classes)
    try:
        return attack.run(release, shape=shape, knowledge=knowledge, generator=generator)
    except LabelsAloneError:
        spent = -(-release.queries // classes)
        attack = replace(attack, answers="labels", queries=attack.queries - spent)
        found = attack.run(release, shape=shape, knowledge=knowledge, generator=generator)
        return replace(found, queries=found.queries + spent)
