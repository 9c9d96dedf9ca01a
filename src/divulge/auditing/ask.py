"""The step that asks the target, and the one that fits and asks shadows of a model that is no torch module."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from divulge.attacks.membership.design import assignment
from divulge.auditing.corpus import opened
from divulge.auditing.train import Design, inside
from divulge.releases import Posteriors
from divulge.runs.step import Artifact, Context


@dataclass(frozen=True)
class Asking:
    """Settings of a step that asks a finished model about some parts of a corpus.

    Args:
        identity: stands for the model in a run's keys.
        answer: the parts, in this order.
        trained_on: the parts that were its training data.
        release: the access to it.
    """

    identity: str
    answer: tuple[str, ...]
    trained_on: tuple[str, ...]
    release: Posteriors = field(compare=False)


def ask(settings: Asking, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Ask the model; arrays and facts as `divulge.auditing.train.train` gives them."""
    corpus = opened(inputs["data"])
    asked = corpus.rows(settings.answer)
    before = settings.release.queries
    logits = settings.release.logits(corpus.data.inputs[asked]).astype(np.float32)[None]
    members = (
        np.isin(asked, corpus.rows(settings.trained_on))[None]
        if settings.trained_on
        else np.zeros((1, len(asked)), bool)
    )
    labels = corpus.data.targets.numpy()[asked]
    facts = {"answer": list(settings.answer), "queries": settings.release.queries - before}
    return Artifact({"logits": logits, "members": members, "labels": labels}, facts)


@dataclass(frozen=True)
class Refitting:
    """Settings of a step that fits shadows of an estimator.

    Args:
        identity: stands for the estimator's settings in a run's keys.
        parts: the pool that shadows draw their halves from.
        answer: whose records they are asked about.
        design: which halves.
        seed: of the fits.
        refit: fits one shadow, `refit(data, seed=...)`, and gives access to it.
    """

    identity: str
    parts: tuple[str, ...]
    answer: tuple[str, ...]
    design: Design
    seed: int
    refit: Callable[..., Posteriors] = field(compare=False)


def refit(settings: Refitting, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Fit and ask the shadows; arrays and facts as `divulge.auditing.train.train` gives them."""
    corpus, design = opened(inputs["data"]), settings.design
    pool, asked = corpus.rows(settings.parts), corpus.rows(settings.answer)
    last = design.first + design.count
    members = assignment(len(pool), last + last % 2, seed=design.seed)[design.first : last]
    answers = []
    for number, mask in enumerate(members):
        release = settings.refit(corpus.data[pool[mask]], seed=settings.seed + design.first + number)
        answers.append(release.logits(corpus.data.inputs[asked]).astype(np.float32))
        context.progress((number + 1) / len(members))
    arrays = {
        "logits": np.stack(answers),
        "members": inside(members, pool, asked),
        "labels": corpus.data.targets.numpy()[asked],
    }
    return Artifact(arrays, {"answer": list(settings.answer)})
