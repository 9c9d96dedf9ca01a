"""The step that trains by federated averaging, and measures the accuracy after each round."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from divulge.auditing.corpus import opened
from divulge.defenses import Defense
from divulge.models import Architecture
from divulge.runs.step import Artifact, Context
from divulge.training.federated import Behind, Capture, Federation, fit_federated
from divulge.training.federated.capture import read, written


@dataclass(frozen=True)
class Federating:
    """Settings of a step that trains on some parts of a corpus by federated averaging.

    Args:
        architecture: what is trained.
        federation: how.
        parts: whose records the clients hold together.
        evaluation: whose records the accuracy is measured on after each round.
        seed: of initial weights, partition, clients of each round, order of records and whatever a defense draws.
        defense: acts on the architecture and on what a client shares.
        snapshots: rounds after which the weights are kept; 0 is before the first. The last weights always are.
        capture: rounds whose records are kept.
    """

    architecture: Architecture
    federation: Federation
    parts: tuple[str, ...]
    evaluation: tuple[str, ...]
    seed: int
    defense: Defense | None = None
    snapshots: tuple[int, ...] = ()
    capture: tuple[int, ...] = ()


def federate(settings: Federating, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Train one model by federated averaging.

    Returns:
        Arrays `accuracy`, `loss`, `moved` and `dropped` `(rounds,)`, `weight/...` after the last round,
        `weight@R/...` after each of `settings.snapshots`, and what `captured` reads; facts on the clients.
    """
    corpus = opened(inputs["data"], (*settings.parts, *settings.evaluation))
    data, evaluation = corpus.part(*settings.parts), corpus.part(*settings.evaluation)
    federation, defense = settings.federation, settings.defense or Defense()
    model = defense.architecture(settings.architecture.build(data.shape, data.num_classes, seed=settings.seed))
    snapshots: dict[str, Any] = {}

    def watch(number: int) -> None:
        context.progress(number / federation.rounds)
        if number in settings.snapshots:
            held = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
            snapshots.update({f"weight@{number}/{name}": value for name, value in held.items()})

    watch(0)
    trained = fit_federated(
        model,
        data,
        federation,
        seed=settings.seed,
        share=defense.share if defense.in_sharing else None,
        evaluation=evaluation,
        capture=settings.capture,
        watch=watch,
    )
    tensors, told = written(trained.captures)
    history = trained.history
    arrays: dict[str, Any] = {
        "accuracy": trained.accuracy,
        "loss": np.array([one.loss for one in history]),
        "moved": np.array([one.moved for one in history]),
        "dropped": np.array([len(one.dropped) for one in history]),
        **{f"weight/{name}": value for name, value in model.state_dict().items()},
        **snapshots,
        **{f"capture/{name}": value for name, value in tensors.items()},
        **{
            f"behind/{one.round}/{one.client}": secret.rows
            for one, secret in zip(trained.captures, trained.behind, strict=True)
        },
    }
    facts = {
        "evaluated": len(evaluation),
        "records": [len(rows) for rows in trained.clients],
        "classes": [len(set(data.targets[rows].tolist())) for rows in trained.clients],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "captures": told,
    }
    return Artifact(arrays, facts)


def captured(artifact: Artifact) -> list[tuple[Capture, Behind]]:
    """What `federate` captured, with the rows behind it among the records of its `parts`.

    What a defense drew is not kept.
    """
    tensors = {
        name.removeprefix("capture/"): value for name, value in artifact.arrays.items() if name.startswith("capture/")
    }
    captures = read(tensors, artifact.facts["captures"])
    return [(one, Behind(np.asarray(artifact.arrays[f"behind/{one.round}/{one.client}"]))) for one in captures]
