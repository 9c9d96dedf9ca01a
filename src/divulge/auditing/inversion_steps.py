"""The steps that draw what a person's classifier takes for each class, and what an untrained copy does."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import nn

from divulge.attacks.inversion import BlackBoxInversion, Inversions, LatentInversion, MIFace
from divulge.attacks.knowledge import Knowledge
from divulge.auditing.corpus import Corpus, opened
from divulge.auditing.gradients.audit_steps import Carried
from divulge.auditing.subject import POPULATION, PRIVATE
from divulge.data import Dataset
from divulge.defenses import Defense
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.releases import FLOOR, Posteriors, Weights
from divulge.runs.step import Artifact, Context
from divulge.training import logits

LEAST_PUBLIC = 20
"""Fewest public records that the directions of a search are learned from."""
MOST_PUBLIC = 1_000
MOST_ENTRIES = 50_000_000
"""Entries of records that are held against drawings at once, at most."""
BLENDS = 8
"""Records that lie between classes, on which a model that answers labels alone is told from others."""


def held_out(corpus: Corpus, *, seed: int) -> tuple[Dataset, Dataset]:
    """Records that the model never saw, in two disjoint parts: what the adversary has, and what names drawings.

    Args:
        corpus: with the part `nonmembers` and, where there is one, `population`, which is the adversary's.
        seed: of the draw where one part must be divided.
    """
    rng, others = np.random.default_rng(seed), corpus.part(PRIVATE[1])
    if POPULATION in corpus.parts:
        public = corpus.part(POPULATION)
    else:
        order = rng.permutation(len(others))
        public, others = others[np.sort(order[: len(others) // 3])], others[np.sort(order[len(others) // 3 :])]
    size = int(np.prod(corpus.data.shape))
    public = public[: min(MOST_PUBLIC, MOST_ENTRIES // size)]
    return public, others[np.sort(rng.permutation(len(others))[: max(MOST_ENTRIES // size, 1)])]


def dimensions(public: int) -> int | None:
    """Principal components to search in, None where there are too few public records to learn any."""
    return min(BlackBoxInversion().dimensions or 0, public // 2) if public >= LEAST_PUBLIC else None


OnWeights = MIFace | LatentInversion
"""Attacks that take the weights."""


@dataclass(frozen=True)
class Asking:
    """Settings of a step that draws classes by asking.

    Args:
        identity: stands for the model in a run's keys.
        attack: what is tried; where the model turns out to answer labels alone, its form for those.
        classes: which are drawn.
        seed: of draws.
        defense: that the adversary knows of, if any.
        release: the access to it.
    """

    identity: str
    attack: BlackBoxInversion
    classes: tuple[int, ...]
    seed: int
    defense: Defense | None
    release: Posteriors = field(compare=False)


@dataclass(frozen=True)
class Looking:
    """Settings of a step that draws classes with the weights in hand, or asks a module that was never trained.

    Args:
        identity: stands for the model in a run's keys.
        attack: what is tried.
        classes: which are drawn.
        seed: of draws.
        defense: that the adversary knows of, if any.
        untrained: whether `model` makes an untrained copy, which has nobody to show.
        model: the network, or what makes a copy of it.
    """

    identity: str
    attack: OnWeights | BlackBoxInversion
    classes: tuple[int, ...]
    seed: int
    defense: Defense | None
    untrained: bool
    model: Carried | Callable[[], nn.Module] = field(compare=False)


def ask(settings: Asking, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Draw by asking; arrays and facts as `look` gives them, and the fact `answers`."""
    corpus, release = _opened(inputs["data"]), settings.release
    public, _ = held_out(corpus, seed=settings.seed)
    before, started = release.queries, time.perf_counter()
    try:
        answers: Literal["posteriors", "labels"] = "posteriors"
        if labels_alone(release, corpus, seed=settings.seed):
            answers = "labels"
        found = replace(settings.attack, answers=answers).run(
            release,
            shape=corpus.data.shape,
            classes=settings.classes,
            knowledge=Knowledge(data=public, defense=settings.defense),
            generator=torch.Generator().manual_seed(settings.seed),
        )
    except (BadInputError, RuntimeError, ArithmeticError) as error:  # a person's model may be out of its reach
        return Artifact({}, {"refused": str(error) or type(error).__name__, "answers": answers})
    return _kept(found, time.perf_counter() - started, asked=release.queries - before, answers=answers)


def look(settings: Looking, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Draw with the network at hand.

    Returns:
        Arrays `inputs`, `targets` and `confidence` of `Inversions`; the facts `seconds` and `asked`, how many records
        the model was asked about. Of an attack that cannot be run on this network, no arrays and the fact `refused`.
    """
    corpus = _opened(inputs["data"])
    public, _ = held_out(corpus, seed=settings.seed)
    if isinstance(settings.model, Carried):
        model = settings.model.module
    else:
        with seeded(settings.seed):
            model = settings.model()
    started = time.perf_counter()
    try:
        found = _drawn(model, corpus.data, settings, Knowledge(data=public, defense=settings.defense))
    except (BadInputError, RuntimeError, ArithmeticError) as error:  # a person's network may be out of its reach
        return Artifact({}, {"refused": str(error) or type(error).__name__})
    return _kept(found, time.perf_counter() - started, asked=found.queries * len(settings.classes))


def _drawn(model: nn.Module, like: Dataset, settings: Looking, knowledge: Knowledge) -> Inversions:
    """The attack on the release that it works on."""
    generator, attack = torch.Generator().manual_seed(settings.seed), settings.attack
    shape, classes = like.shape, like.num_classes
    if not isinstance(attack, BlackBoxInversion):
        release = Weights(model, shape, classes)
        return attack.run(release, classes=settings.classes, knowledge=knowledge, generator=generator)
    answers = Posteriors(lambda records: logits(model, records), classes=classes, logits=True)
    return attack.run(answers, shape=shape, classes=settings.classes, knowledge=knowledge, generator=generator)


def labels_alone(release: Posteriors, corpus: Corpus, *, seed: int) -> bool:
    """Whether a model answers with labels and nothing else, by records that are half of one and half of another."""
    others = corpus.part(PRIVATE[1])
    rows = np.random.default_rng(seed).permutation(len(others))[: 2 * BLENDS]
    first, second = (others.inputs[part] for part in np.array_split(rows[: len(rows) // 2 * 2], 2))
    told = release.logits((first + second) / 2)
    rest = np.sort(told - told.max(axis=1, keepdims=True), axis=1)[:, :-1]
    return bool((rest <= np.log(FLOOR)).all())


def _opened(data: Artifact) -> Corpus:
    parts = [*PRIVATE, *([POPULATION] if f"part/{POPULATION}" in data.arrays else [])]
    return opened(data, parts)


def _kept(found: Inversions, seconds: float, **facts: int | str) -> Artifact:
    arrays = {name: getattr(found, name) for name in ("inputs", "targets", "confidence")}
    return Artifact(arrays, {"seconds": seconds, **facts})
