"""The step that computes the fixed features of all records once, for every model that learns on them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from divulge.auditing.corpus import spread
from divulge.models import Architecture, Featured, Head
from divulge.runs.step import Artifact, Context, Step

BATCH = 256


@dataclass(frozen=True)
class Featurizing:
    """Settings of a step that replaces the records of a corpus by their features.

    Args:
        architecture: whose features; its `fixed()`, so that families which differ in the head alone share the step.
    """

    architecture: Featured


def featurize(settings: Featurizing, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """The corpus of a kept corpus's features: the same parts, labels and attributes, with a table for records.

    Features are kept as float16, half the space at three significant digits; `divulge.auditing.corpus.opened` gives
    float32 back.
    """
    source = inputs["data"]
    records = source.arrays["inputs"]
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = settings.architecture.features(records.shape[1:]).to(place).eval()
    tables = []
    with torch.inference_mode():
        for start in range(0, len(records), BATCH):
            features = network(spread(records[start : start + BATCH]).to(place))
            tables.append(features.half().cpu().numpy())
            context.progress(min(1, (start + BATCH) / len(records)))
    kept = {name: source.arrays[name] for name in source.arrays if name != "inputs"}
    return Artifact({"inputs": np.concatenate(tables), **kept}, {**source.facts, "features": []})


def on_features(architecture: Architecture, data: Step, *, shape: tuple[int, ...]) -> tuple[Architecture, Step]:
    """What to train, and on which corpus, so that features are computed once: a head on features, where there are any.

    Args:
        architecture: any family.
        data: the corpus of the records.
        shape: of a record.

    Returns:
        The family's head and the step of the features' corpus; or the two given, of a family all of which learns.
    """
    if not isinstance(architecture, Featured):
        return architecture, data
    settings = Featurizing(architecture.fixed())
    step = Step(featurize, settings, {"data": data}, label=f"features for {architecture.name}")
    return Head(architecture, tuple(shape)), step
