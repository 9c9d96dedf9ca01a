"""Small records and models whose leaks are known."""

import numpy as np
import torch

from divulge.attacks.membership import assignment
from divulge.auditing.corpus import Corpus
from divulge.data import Dataset
from divulge.models.mlp import MLP
from divulge.runs.step import Artifact
from divulge.training import Recipe, fit

OVERFIT = Recipe(epochs=60, batch_size=20, lr=0.01, lr_decay=1.0, weight_decay=0.0)
CLASSES = tuple("abcdefghijklmnop")


def records(n, *, seed=0, width=32, name="", **more):
    """Noise with random labels: nothing can be learned about them but who they are."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.rand(n, width, generator=generator)
    return Dataset(inputs, torch.randint(len(CLASSES), (n,), generator=generator), classes=CLASSES, name=name, **more)


def network(width=32, hidden=64, seed=0):
    return MLP((hidden,)).build((width,), len(CLASSES), seed=seed)


def overfitted(data, *, recipe=OVERFIT, seed=0):
    model = network(data.shape[0], seed=seed)
    fit(model, data, recipe, seed=seed)
    return model


def corpus(members=60, nonmembers=60, population=30, elsewhere=0):
    sizes = {"members": members, "nonmembers": nonmembers, "population": population, "elsewhere": elsewhere}
    ends = np.cumsum(list(sizes.values()))
    rows = {name: np.arange(end - sizes[name], end) for name, end in zip(sizes, ends, strict=True) if sizes[name]}
    return Corpus(records(int(ends[-1])), rows)


ANSWERED = ("members", "nonmembers", "population")


def lookup(held, *, inside):
    """What models answer that are certain of the records they were trained on and unsure and wrong about others, all
    alike.

    Args:
        held: the corpus.
        inside: bool `(models, n)` about the records of `ANSWERED`.
    """
    labels = held.data.targets.numpy()[held.rows(ANSWERED)]
    right, wrong = np.eye(16)[labels], np.eye(16)[(labels + 1) % 16]
    logits = np.where(inside[..., None], 9 * right, 0.5 * wrong)
    return Artifact(
        {"logits": logits.astype(np.float32), "members": inside, "labels": labels}, {"answer": list(ANSWERED)}
    )


def memorized(held, *, shadows=4):
    """A target that looks its members up, and shadows that do the same with theirs."""
    private, outside = len(held.rows(("members", "nonmembers"))), len(held.rows(("population",)))
    target = np.zeros((1, private + outside), dtype=bool)
    target[0, : len(held.rows(("members",)))] = True
    design = np.pad(assignment(private, shadows, seed=0), ((0, 0), (0, outside)))
    return {"target": lookup(held, inside=target), "shadows-000": lookup(held, inside=design)}
