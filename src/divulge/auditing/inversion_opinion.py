"""The step that asks a pretrained face model whom drawings show."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from divulge.auditing.corpus import opened
from divulge.metrics.face_model import embeddings
from divulge.metrics.recognition import named
from divulge.runs.step import Artifact, Context


@dataclass(frozen=True)
class Opinion:
    """Settings of the steps that ask the pretrained face model; they have none."""


def look(settings: Opinion, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Where the model puts the held-out photographs, which name drawings, and each person's mean photograph.

    Returns:
        Arrays `photographs` `(n, 128)`, `people` `(n,)` and `means` `(classes, 128)`.
    """
    corpus = opened(inputs["data"], ("train", "held_out"))
    train, held_out = corpus.part("train"), corpus.part("held_out")
    means = torch.stack([train.inputs[train.targets == person].mean(dim=0) for person in range(train.num_classes)])
    photographs = embeddings(held_out.inputs, watch=context.progress)
    return Artifact({"photographs": photographs, "people": held_out.targets, "means": embeddings(means)})


def judge(settings: Opinion, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Name the drawings of the step `drawn`, or the mean photographs if there is none, by those of the step `looked`.

    Returns:
        Array `rank` of the right person among all, 0 for named first, in the order of the drawings.
    """
    looked = {name: torch.from_numpy(np.asarray(value)) for name, value in inputs["looked"].arrays.items()}
    if "drawn" in inputs:
        drawn = embeddings(torch.from_numpy(np.asarray(inputs["drawn"].arrays["inputs"])), watch=context.progress)
        targets = torch.from_numpy(np.asarray(inputs["drawn"].arrays["targets"]))
    else:
        drawn, targets = looked["means"], torch.arange(len(looked["means"]))
    alike = -torch.cdist(drawn, looked["photographs"])
    return Artifact({"rank": named(alike, targets, looked["people"]).rank})
