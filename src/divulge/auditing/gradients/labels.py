"""The step that reads labels off the last layer's gradients by each closed form, and scores them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from divulge.attacks.gradients.labels import label_by_bias, label_by_weight, label_counts
from divulge.auditing.corpus import opened
from divulge.data import Dataset
from divulge.models import Architecture
from divulge.releases import share
from divulge.runs.step import Artifact, Context

NOISE = 256
"""Records of noise that stand for the public ones, where the mean answer of the model is asked."""


@dataclass(frozen=True)
class Reading:
    """Settings of a step that reads the labels of the records in a corpus.

    Args:
        architecture: of the clients' model, with its first weights.
        victims: the part of the corpus whose records are shared.
        batches: batch sizes above one, whose labels are counted.
        weights: seed of the model's weights.
    """

    architecture: Architecture
    victims: str
    batches: tuple[int, ...] = ()
    weights: int = 0


def read_labels(settings: Reading, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Read the labels of each batch by the rules that apply to its size.

    Returns:
        Arrays `bias`, `weight` bool `(victims,)` for batches of one, `counts/B` float64 `(victims // B,)`, the share of
        a batch's labels that is right, and `targets` `(victims,)`.
    """
    victims = opened(inputs["data"], (settings.victims,)).part(settings.victims)
    model = settings.architecture.build(victims.shape, victims.num_classes, seed=settings.weights).eval()
    noise = torch.rand((NOISE, *victims.shape), generator=torch.Generator().manual_seed(settings.weights))
    alone = [share(model, *one) for one in _batches(victims, 1)]
    truth = victims.targets.numpy()
    arrays: dict[str, Any] = {"targets": truth}
    for name, rule in (("bias", label_by_bias), ("weight", label_by_weight)):
        arrays[name] = np.array([rule(record, model) for record in alone]) == truth
    for number, batch in enumerate(settings.batches):
        right = []
        for records, targets in _batches(victims, batch):
            told = label_counts(share(model, records, targets), model, noise)
            right.append(int(told.minimum(targets.bincount(minlength=victims.num_classes)).sum()) / batch)
        arrays[f"counts/{batch}"] = np.array(right)
        context.progress((number + 1) / len(settings.batches))
    return Artifact(arrays)


def _batches(victims: Dataset, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets of the victims in whole batches."""
    whole = len(victims) // batch * batch
    return zip(victims.inputs[:whole].split(batch), victims.targets[:whole].split(batch), strict=True)
