"""The step that searches a person's network for its training records, and keeps what came back."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from divulge import settings
from divulge.auditing.corpus import opened
from divulge.auditing.gradients.audit_steps import Carried
from divulge.auditing.subject import PRIVATE
from divulge.auditing.weights import Rebuilt, rebuild
from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.metrics import Finding
from divulge.runs.step import Artifact, Context

PICTURES = ("originals", "back", "likeness", "strangers", "strangers_back")


@dataclass(frozen=True)
class Searching:
    """Settings of a step that searches a network's weights.

    Args:
        identity: stands for the network in a run's keys.
        seconds: to spend, about.
        seed: of what the attack draws.
        model: the network.
    """

    identity: str
    seconds: float
    seed: int
    model: Carried = field(compare=False)


def search(given: Searching, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Look for the members of the corpus `data` in the weights.

    Returns:
        Arrays and facts of a `Rebuilt`; of a network in which there is no use to look, no arrays and the fact
        `refused`.
    """
    corpus = opened(inputs["data"], PRIVATE)
    members, nonmembers = (corpus.part(part) for part in PRIVATE)
    started = time.perf_counter()
    try:
        found = rebuild(
            given.model.module,
            members,
            nonmembers[alike(members, nonmembers, seed=given.seed)],
            seconds=given.seconds,
            seed=given.seed,
            watch=context.progress,
        )
    except (BadInputError, RuntimeError, ArithmeticError) as error:  # a person's network may be out of its reach
        found = f"The weights could not be searched: {error or type(error).__name__}"
    if isinstance(found, str):
        return Artifact({}, {"refused": found})
    arrays = {name: getattr(found, name) for name in PICTURES}
    facts = {
        "found": asdict(found.found),
        "judged": found.judged,
        "loss": found.loss,
        "caveats": list(found.caveats),
        "settings": dict(found.settings),
        "seconds": time.perf_counter() - started,
    }
    return Artifact(arrays, facts)


def alike(members: Dataset, nonmembers: Dataset, *, seed: int) -> np.ndarray:
    """Rows of as many non-members of each class as there are members of it, or of all where there are fewer.

    What comes out of a network is of its classes, so a control of other classes would make a find of any likeness.
    """
    order = np.random.default_rng(seed).permutation(len(nonmembers))
    labels, counts = nonmembers.targets.numpy()[order], members.targets.bincount().tolist()
    return np.sort(np.concatenate([order[labels == one][:count] for one, count in enumerate(counts)]))


def unpacked(artifact: Artifact) -> Rebuilt:
    """What `search` left."""
    facts = artifact.facts
    return Rebuilt(
        **{name: torch.from_numpy(np.asarray(artifact.arrays[name])) for name in PICTURES},
        found=settings.build(Finding, facts["found"]),
        judged=facts["judged"],
        loss=facts["loss"],
        caveats=tuple(facts["caveats"]),
        settings=dict(facts["settings"]),
    )
