"""The steps that train a network far past its last mistake, and that look for its training records in its weights."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from divulge.attacks.reconstruction import KKT, Candidates
from divulge.attacks.reconstruction.noise import weight_noise
from divulge.auditing.corpus import opened
from divulge.defenses import Defense
from divulge.errors import BadInputError
from divulge.models import Architecture
from divulge.models.layers import Standardize
from divulge.privacy.ledger import Ledger
from divulge.releases import Weights
from divulge.runs.step import Artifact, Context
from divulge.training import Privacy, Recipe, logits
from divulge.training.loop import loss_of
from divulge.training.margin import Descent, fit_to_margin
from divulge.training.noisy import NoisyDescent, fit_noisily


@dataclass(frozen=True)
class Descending:
    """Settings of a step that trains on the part `train` of a corpus and answers about the part `test`.

    Args:
        architecture: what is trained.
        descent: how; with noise, or without.
        seed: of the initial weights.
        defense: acts on the architecture alone.
    """

    architecture: Architecture
    descent: Descent | NoisyDescent
    seed: int
    defense: Defense | None = None


def descend(settings: Descending, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Train one network.

    Returns:
        Arrays and facts as of `divulge.auditing.train.train` for a single model; and of a noisy descent, as `noise`,
        the standard deviation of what all its noise together has added to each weight.
    """
    corpus = opened(inputs["data"], ("train", "test"))
    data, test = corpus.part("train"), corpus.part("test")
    descent, facts = settings.descent, {}
    model = fresh(settings.architecture, data.shape, data.num_classes, seed=settings.seed, defense=settings.defense)
    if isinstance(descent, NoisyDescent):
        ended = fit_noisily(model, data, descent, watch=lambda step: context.progress(step / descent.steps))
        facts = {"ledger": [ended.ledger.to_dict()], "noise": ended.noise, "steps": descent.steps}
    else:
        limit = descent.steps
        came = fit_to_margin(model, data, descent, watch=lambda step, loss: context.progress(step / limit))
        facts = {"steps": came.steps, "reached": came.reached}
    weights = {f"weight/{name}": value for name, value in model.state_dict().items()}
    return Artifact(
        {"logits": logits(model, test.inputs)[None], "labels": test.targets.numpy(), **weights},
        {"loss": [loss_of(model, data)], **facts},
    )


@dataclass(frozen=True)
class Extraction:
    """Settings of a step that attacks a trained network's weights.

    Args:
        architecture: of the network.
        shape: of a record.
        classes: how many.
        attack: what is tried.
        seed: of what it draws.
        defense: what acted on the architecture, if anything did.
        recipe: of ordinary private training, where the adversary knows its noise.
        knowing: whether the adversary knows the noise of private training.
    """

    architecture: Architecture
    shape: tuple[int, ...]
    classes: int
    attack: KKT
    seed: int
    defense: Defense | None = None
    recipe: Recipe | None = None
    knowing: bool = False


def extract(settings: Extraction, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Attack the weights that the step `target` left: the candidates of every search, and each search's loss."""
    model = released(
        settings.architecture, settings.shape, settings.classes, inputs["target"], defense=settings.defense
    )
    found = settings.attack.run(
        Weights(model, settings.shape, settings.classes),
        generator=torch.Generator().manual_seed(settings.seed),
        noise=_noise(settings, inputs["target"]) if settings.knowing else 0.0,
        watch=context.progress,
    )
    arrays = {name: getattr(found, name) for name in ("inputs", "targets", "multipliers", "run", "losses")}
    return Artifact(arrays, found.facts)


def _noise(settings: Extraction, target: Artifact) -> float:
    """What the noise of private training has added to each weight."""
    if "noise" in target.facts:
        return float(target.facts["noise"])
    if not isinstance(settings.defense, Privacy) or settings.recipe is None:
        raise BadInputError(
            f"extraction: expected a private training, whose noise an adversary may know, got {settings.defense}."
        )
    return weight_noise(settings.recipe, settings.defense, Ledger.from_dict(target.facts["ledger"][0]))


def released(
    architecture: Architecture,
    shape: tuple[int, ...],
    classes: int,
    target: Artifact,
    *,
    defense: Defense | None = None,
) -> nn.Module:
    """The network that a training step under `defense` left, with its weights, in evaluation mode."""
    model = fresh(architecture, shape, classes, seed=0, defense=defense)
    model.load_state_dict(
        {
            name.removeprefix("weight/"): torch.from_numpy(np.asarray(value))
            for name, value in target.arrays.items()
            if name.startswith("weight/")
        }
    )
    return model


def fresh(
    architecture: Architecture, shape: tuple[int, ...], classes: int, *, seed: int, defense: Defense | None = None
) -> nn.Module:
    """The same network with its first weights, in evaluation mode."""
    model = architecture.build(shape, classes, seed=seed)
    return (defense.architecture(model) if defense else model).eval()


def candidates(artifact: Artifact) -> Candidates:
    """What `extract` left."""
    arrays = {name: torch.from_numpy(np.asarray(value)) for name, value in artifact.arrays.items()}
    return Candidates(**arrays, facts=dict(artifact.facts))


def center(model: nn.Module, shape: tuple[int, ...]) -> torch.Tensor:
    """The mean training record, if the network's first layer takes it away; else zeros."""
    first = next(iter(model.children()), None)
    return first.mean if isinstance(first, Standardize) else torch.zeros(shape)
