"""The steps that ask the target, and the one that fits and asks shadows of a model that is no torch module."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from divulge.attacks.membership.design import assignment
from divulge.auditing.corpus import opened
from divulge.auditing.subject import PRIVATE, Subject
from divulge.auditing.train import Design, inside
from divulge.releases import Posteriors
from divulge.runs.step import Artifact, Context, Step


@dataclass(frozen=True)
class Asking:
    """Settings of a step that asks a finished model about some parts of a corpus.

    Args:
        identity: stands for the model in a run's keys.
        answer: the parts, in this order.
        trained_on: the parts that were its training data.
        window: which of their records, from one number to before another.
        release: the access to it.
    """

    identity: str
    answer: tuple[str, ...]
    trained_on: tuple[str, ...]
    window: tuple[int, int]
    release: Posteriors = field(compare=False)


def ask(settings: Asking, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Ask the model about the records of the window.

    Returns:
        Array `logits` float32 `(1, n, C)`; the fact `queries`.
    """
    corpus = opened(inputs["data"], settings.answer)
    rows = corpus.rows(settings.answer)[slice(*settings.window)]
    before = settings.release.queries
    logits = settings.release.logits(corpus.data.inputs[rows]).astype(np.float32)[None]
    return Artifact({"logits": logits}, {"queries": settings.release.queries - before})


def gather(settings: Mapping[str, Any], inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Put the answers about all windows together; arrays and facts as `divulge.auditing.train.train` gives them."""
    corpus = opened(inputs["data"], settings["answer"], inputs=False)
    rows = corpus.rows(settings["answer"])
    windows = [artifact for name, artifact in inputs.items() if name.startswith("window")]
    arrays = {
        "logits": np.concatenate([artifact.arrays["logits"] for artifact in windows], axis=1),
        "members": np.isin(rows, corpus.rows(settings["trained_on"]))[None],
        "labels": corpus.data.targets.numpy()[rows],
    }
    queries = sum(artifact.facts["queries"] for artifact in windows)
    return Artifact(arrays, {"answer": list(settings["answer"]), "queries": queries})


def asking_steps(asking: Asking, data: Step, *, records: int) -> Step:
    """The steps that ask about all records, sixteen batches each, so that a broken connection loses no more than those.

    Args:
        asking: its window is filled in.
        data: the corpus.
        records: how many there are to ask about.
    """
    size = 16 * asking.release.batch_size
    windows = [replace(asking, window=(start, min(start + size, records))) for start in range(0, records, size)]
    parts = {
        f"window-{number:05d}": Step(ask, one, {"data": data}, label=f"ask the target {number + 1} of {len(windows)}")
        for number, one in enumerate(windows)
    }
    settings = {"answer": asking.answer, "trained_on": asking.trained_on}
    return Step(gather, settings, {"data": data, **parts}, label="what the target answered")


def target_answers(subject: Subject) -> Step:
    """What the target of an audit answers about its records; asked once, however many questions build on it."""
    target = subject.target
    asking = Asking(target.fingerprint, subject.answered, PRIVATE[:1], (0, 0), target.release)
    return asking_steps(asking, subject.data, records=len(subject.corpus.rows(subject.answered)))


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
    corpus, design = opened(inputs["data"], (*settings.parts, *settings.answer)), settings.design
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
