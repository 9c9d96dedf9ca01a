"""The steps that put a classifier of tables under every attack on an attribute."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from divulge.auditing.attributes import guess_attribute
from divulge.auditing.corpus import opened
from divulge.auditing.extraction import released
from divulge.auditing.targets.estimators import asking
from divulge.data import Dataset
from divulge.data.columns import column_of
from divulge.defenses import Defense
from divulge.errors import BadInputError
from divulge.models import Architecture
from divulge.releases import Posteriors
from divulge.releases.trees import Tree, published
from divulge.runs.step import Artifact, Context
from divulge.training import logits

PARTS = ("train", "held out", "known")
MEMBERS, OTHERS = "members", "non-members"


@dataclass(frozen=True)
class Grown:
    """A decision tree, or a random forest of several, of scikit-learn.

    Args:
        trees: how many.
        leaf: records in a leaf, at least.
        depth: splits above a leaf, at most; None for any number.
    """

    trees: int = 1
    leaf: int = 1
    depth: int | None = None

    def __post_init__(self) -> None:
        if self.trees < 1 or self.leaf < 1:
            raise BadInputError(
                f"tree: expected one tree and one record a leaf or more, got {self.trees} and {self.leaf}."
            )


@dataclass(frozen=True)
class Guessing:
    """Settings of a step that guesses an attribute of the records of two parts: `train` and `held out`.

    Args:
        attribute: its name.
        known: how many records of the part `known` the adversary has.
        seed: of what is drawn.
        architecture: of the network that the step `target` left; None for a tree.
        grown: the tree or forest, which this step grows on the part `train`; None for a network.
        defense: what acts on the architecture, and on answers, of which then nothing but answers is released.
    """

    attribute: str
    known: int
    seed: int
    architecture: Architecture | None = None
    grown: Grown | None = None
    defense: Defense | None = None


def guess_table(settings: Guessing, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Put the target under every attack that fits.

    Returns:
        Arrays `truth/GROUP` int64 and `guess/GROUP/ATTACK` float32 `(n, values)`; facts with the names of the `values`,
        the target's `accuracy` on both groups and `notes`.
    """
    corpus = opened(inputs["data"], PARTS)
    groups = {MEMBERS: corpus.part("train"), OTHERS: corpus.part("held out")}
    known = corpus.part("known")
    if len(known) < settings.known:
        raise BadInputError(f"attribute: expected {settings.known} known records, the part holds {len(known)}.")
    column = column_of(corpus.data, settings.attribute)
    members = groups[MEMBERS]
    module: nn.Module | None = None
    trees: tuple[Tree, ...] = ()
    answer: Callable[[Tensor], np.ndarray]
    if settings.architecture is not None:
        module = released(
            settings.architecture, members.shape, members.num_classes, inputs["target"], defense=settings.defense
        )
        answer = partial(_posteriors, module)
    else:
        model = _fitted(settings.grown or Grown(), members, settings.seed)
        columns = [int(number) for number in model.classes_]
        answer = asking(model, columns=columns, classes=members.num_classes)
        trees = published(model, classes=members.num_classes, columns=columns, width=members.shape[0])
    defense = settings.defense
    if defense is not None and defense.in_response:
        module, trees = None, ()
    release = Posteriors(
        lambda records: defense.respond(answer(records)) if defense else answer(records),
        classes=members.num_classes,
        batch_size=1 << 16,
    )
    right = {
        name: float((release.logits(part.inputs).argmax(axis=1) == part.targets.numpy()).mean())
        for name, part in groups.items()
    }
    found = guess_attribute(
        release, groups, known[: settings.known], column, module=module, trees=trees, seed=settings.seed
    )
    arrays = {f"truth/{name}": truth for name, truth in found.truth.items()}
    arrays |= {
        f"guess/{group}/{attack}": probabilities.astype(np.float32)
        for attack, by_group in found.probabilities.items()
        for group, probabilities in by_group.items()
    }
    return Artifact(arrays, {"values": list(column.values), "accuracy": right, "notes": list(found.notes)})


def _posteriors(network: nn.Module, records: Tensor) -> np.ndarray:
    return torch.from_numpy(logits(network, records)).double().softmax(dim=1).numpy()


def _fitted(grown: Grown, data: Dataset, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.tree import DecisionTreeClassifier

    how = {"min_samples_leaf": grown.leaf, "max_depth": grown.depth, "random_state": seed}
    model = DecisionTreeClassifier(**how) if grown.trees == 1 else RandomForestClassifier(grown.trees, **how)
    return model.fit(data.inputs.numpy(), data.targets.numpy())
