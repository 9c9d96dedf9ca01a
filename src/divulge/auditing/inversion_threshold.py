"""The step that looks for the noise of private training at which drawings are no longer recognized."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from divulge.attacks.inversion import MIFace
from divulge.auditing.corpus import opened
from divulge.auditing.inversion import invert
from divulge.defenses.dp_sgd import DpSgd
from divulge.metrics.recognition import recognize
from divulge.models import Architecture
from divulge.runs.step import Artifact, Context
from divulge.training import Recipe


@dataclass(frozen=True)
class Bisection:
    """Settings of a step that halves a range of noise multipliers.

    Args:
        architecture: what is trained.
        recipe: how.
        defense: private training, whose noise multiplier is replaced.
        attack: what draws.
        low: a noise multiplier at which drawings are recognized.
        high: one at which they are not.
        rounds: halvings of the logarithm.
        seed: of first weights; the noise is drawn anew for each training.
    """

    architecture: Architecture
    recipe: Recipe
    defense: DpSgd
    attack: MIFace
    low: float
    high: float
    rounds: int
    seed: int


def bisect(settings: Bisection, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Train and attack at ever closer noise multipliers around that at which no more are named than by chance.

    Returns:
        Arrays `noise` `(rounds,)`, in order, and `named` of the same length, how many people each drawing set named;
        facts with the noise multiplier that is left as `threshold`, and the `ledger` of training at it.
    """
    corpus = opened(inputs["data"], ("train", "held_out"))
    data, held_out = corpus.part("train"), corpus.part("held_out")
    people = torch.arange(data.num_classes)
    most = by_chance(data.num_classes)
    low, high = math.log(settings.low), math.log(settings.high)
    tried: list[tuple[float, int]] = []
    ledger: dict[str, Any] = {}
    for number in range(settings.rounds):
        middle = (low + high) / 2
        defense = replace(settings.defense, epsilon=None, noise_multiplier=math.exp(middle))
        model = defense.architecture(settings.architecture.build(data.shape, data.num_classes, seed=settings.seed))
        trained = defense.train(model, data, settings.recipe, seed=settings.seed)
        drawn = invert(model.eval(), data.shape, data.num_classes, settings.attack, seed=settings.seed)
        right = int((recognize(drawn.inputs, people, held_out.inputs, held_out.targets).rank == 0).sum())
        tried.append((math.exp(middle), right))
        low, high = (middle, high) if right > most else (low, middle)
        assert trained.ledger is not None
        ledger = trained.ledger.to_dict()
        context.progress((number + 1) / settings.rounds)
    noise, named = zip(*tried, strict=True)
    facts = {"threshold": math.exp((low + high) / 2), "ledger": ledger}
    return Artifact({"noise": np.array(noise), "named": np.array(named)}, facts)


def by_chance(people: int) -> int:
    """How many of so many people are named by guessing, at most, in 95 of 100 trials.

    Example:
        >>> by_chance(40)
        3
    """
    from scipy.stats import binom

    return int(binom.ppf(0.95, people, 1 / people))
