"""The step of a run that attacks the gradients of some victims, on a fresh or a trained network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from divulge.auditing.corpus import opened
from divulge.auditing.gradients.attempt import Attempt, attempt
from divulge.data import Dataset
from divulge.models import Architecture
from divulge.runs.step import Artifact, Context


@dataclass(frozen=True)
class Inversion:
    """Settings of a step that attacks the gradients of the victims in a corpus.

    Args:
        architecture: of the clients' model.
        attempt: attack, defense and adversary.
        victims: the part of the corpus whose records are shared.
        others: the part to hold the reconstructions against, in the order of the victims.
        batch: records that each client has.
        weights: seed of the model's first weights, where no model was trained.
    """

    architecture: Architecture
    attempt: Attempt
    victims: str
    others: str
    batch: int = 1
    weights: int = 0


def invert(settings: Inversion, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Attack the victims of the corpus `data`, on the weights of the step `model` where that is among the inputs.

    Returns:
        Arrays `score/...` and `control/...` float64 `(victims,)`, see `Outcome`; `matching`, `found`; `originals` and
        `reconstructions` float16 `(victims, batch, *shape)`, clamped to `[0, 1]`. Facts: `exact`, `seconds`, and those
        of the attack.
    """
    corpus = opened(inputs["data"], (settings.victims, settings.others))
    victims, others = corpus.part(settings.victims), corpus.part(settings.others)
    model = network(settings, victims, inputs.get("model"))
    outcome = attempt(model, victims, settings.attempt, batch=settings.batch, others=others)
    arrays: dict[str, Any] = {f"score/{name}": values for name, values in outcome.scores.items()}
    arrays |= {f"control/{name}": values for name, values in outcome.control.items()}
    arrays |= {"matching": outcome.matching, "found": outcome.found}
    truth = victims.inputs.unflatten(0, (-1, settings.batch))
    for name, records in (("originals", truth), ("reconstructions", outcome.reconstructions)):
        arrays[name] = records.clamp(0, 1).half()
    return Artifact(arrays, {"exact": outcome.exact, "seconds": outcome.seconds, **outcome.facts})


def network(settings: Inversion, like: Dataset, trained: Artifact | None) -> nn.Module:
    """The clients' model, in evaluation mode, on the accelerator if there is one."""
    model = settings.architecture.build(like.shape, like.num_classes, seed=settings.weights)
    if settings.attempt.defense.in_training:
        model = settings.attempt.defense.architecture(model)
    if trained is not None:
        weights = {
            name.removeprefix("weight/"): torch.from_numpy(np.array(values))
            for name, values in trained.arrays.items()
            if name.startswith("weight/")
        }
        model.load_state_dict(weights)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
