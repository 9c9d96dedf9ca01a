"""The step that trains a target or its shadows and asks them about records."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from divulge.attacks.membership.design import assignment
from divulge.auditing.corpus import opened
from divulge.data import Dataset
from divulge.defenses import Defense, Trained
from divulge.models import Architecture
from divulge.runs.step import Artifact, Context, Step
from divulge.training import Recipe, fit_stacked, logits, stackable


@dataclass(frozen=True)
class Design:
    """Which of many shadow models a step trains: `count` from number `first` on, each on a random half of its pool.

    Args:
        first: number of the first shadow.
        count: how many.
        seed: of the halves; the same seed gives the same halves however many shadows are trained.
    """

    first: int
    count: int
    seed: int = 0


@dataclass(frozen=True)
class Fresh(Architecture):
    """A new, untrained copy of a network that divulge did not define.

    Args:
        identity: stands for the network in a run's keys.
        factory: makes the copy.
    """

    identity: str
    factory: Callable[[], nn.Module] = field(compare=False)

    def assemble(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The copy itself."""
        return self.factory()


@dataclass(frozen=True)
class Training:
    """Settings of a step that trains on some parts of a corpus and answers about some.

    Args:
        architecture: what is trained.
        recipe: how.
        parts: whose records it is trained on, or shadows draw their halves from.
        answer: whose records it is then asked about, in this order.
        seed: of initial weights, order of records and whatever a defense draws.
        defense: acts on architecture and training.
        validation: the part whose records stop the training early.
        design: for shadow models, which halves.
        epochs: for a single model, epochs after which it is asked as well; the recipe's last is always asked.
    """

    architecture: Architecture
    recipe: Recipe
    parts: tuple[str, ...]
    answer: tuple[str, ...]
    seed: int
    defense: Defense | None = None
    validation: str | None = None
    design: Design | None = None
    epochs: tuple[int, ...] = ()


def train(settings: Training, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Train one model, or several shadows.

    Returns:
        Arrays `logits` float32 `(models, n, C)` about the records of `settings.answer`, their `labels` `(n,)`,
        `members` bool `(models, n)`, `logits@E` for each asked epoch, and `weight/...` of a single model; facts on
        accuracy, loss and epochs run, and under a defense that keeps one, the `ledger` of each model as
        `Ledger.to_dict` writes it.
    """
    used = (*settings.parts, *settings.answer, *((settings.validation,) if settings.validation else ()))
    corpus = opened(inputs["data"], used)
    pool, asked = corpus.rows(settings.parts), corpus.rows(settings.answer)
    design = settings.design
    if design is None:
        members = np.ones((1, len(pool)), dtype=bool)
    else:
        last = design.first + design.count
        members = assignment(len(pool), last + last % 2, seed=design.seed)[design.first : last]
    seeds = [settings.seed + (design.first if design else 0) + index for index in range(len(members))]
    data = corpus.data[pool]
    models = [_network(settings, data, seed) for seed in seeds]
    total = settings.recipe.epochs
    snapshots: dict[str, np.ndarray] = {}
    trained = [Trained([]) for _ in models]

    if len(models) > 1 and _stacked(settings, data):
        models = fit_stacked(
            models, data, members, settings.recipe, seed=seeds[0], watch=lambda epoch: context.progress(epoch / total)
        )
    else:
        validation = corpus.part(settings.validation) if settings.validation else None
        defense = settings.defense or Defense()
        for index, model in enumerate(models):

            def watch(epoch: int, index: int = index, model: nn.Module = model) -> None:
                context.progress((index + epoch / total) / len(models))
                if epoch in settings.epochs and epoch != total:
                    snapshots[f"logits@{epoch}"] = logits(model, corpus.data.inputs[asked])[None]

            # What was asked after earlier epochs is not saved, so such a training starts over.
            saved = None
            if context.unfinished and settings.defense and not settings.epochs:
                context.unfinished.mkdir(parents=True, exist_ok=True)
                saved = context.unfinished / f"{index}.safetensors"
            own = data if members[index].all() else data[members[index]]  # a table of features is large to copy
            trained[index] = defense.train(
                model,
                own,
                settings.recipe,
                seed=seeds[index],
                validation=validation,
                watch=watch,
                checkpoint=saved,
            )

    answers = np.stack([logits(model, corpus.data.inputs[asked]) for model in models])
    within = inside(members, pool, asked)
    labels = corpus.data.targets.numpy()[asked]
    arrays: dict[str, Any] = {"logits": answers, "members": within, "labels": labels, **snapshots}
    if design is None:
        arrays |= {f"weight/{name}": value for name, value in models[0].state_dict().items()}
    right = answers.argmax(axis=2) == labels
    facts = {
        "answer": list(settings.answer),
        "epochs": [len(one.history) or total for one in trained],
        "loss": [_last_loss(one) for one in trained],
        "accuracy": [float(row[mask].mean()) if mask.any() else None for row, mask in zip(right, within, strict=True)],
        "trained_on": [int(row.sum()) for row in members],
        "parameters": sum(parameter.numel() for parameter in models[0].parameters()),
    }
    ledgers = [one.ledger.to_dict() for one in trained if one.ledger]
    return Artifact(arrays, {**facts, "ledger": ledgers} if ledgers else facts)


def untrained(settings: Training, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Ask a network with its first weights: a model that never saw any record; arrays and facts as of `train`."""
    corpus = opened(inputs["data"], settings.answer)
    asked = corpus.rows(settings.answer)
    answers = logits(_network(settings, corpus.data, settings.seed), corpus.data.inputs[asked])[None]
    labels = corpus.data.targets.numpy()[asked]
    nobody = np.zeros((1, len(asked)), dtype=bool)
    return Artifact({"logits": answers, "members": nobody, "labels": labels}, {"answer": list(settings.answer)})


def shadow_steps(
    settings: Training, data: Step, *, like: Dataset, count: int, label: str = "shadow"
) -> dict[str, Step]:
    """Steps for `count` shadow models, by names that an attack knows them under.

    One step trains all where models are stacked, else each has its own, so that processes share them and a killed run
    loses one.

    Args:
        settings: for all of them; `design` is filled in, its seed is the settings' own.
        data: the corpus.
        like: records of the corpus's shape and classes.
        count: how many, even.
        label: what to call them.
    """
    seed = settings.design.seed if settings.design else settings.seed
    if _stacked(settings, like):
        every = replace(settings, design=Design(0, count, seed))
        return {"shadows-000": Step(train, every, {"data": data}, label=f"{count} {label}s at once", cost=count / 3)}
    return {
        f"shadows-{number:03d}": Step(
            train,
            replace(settings, design=Design(number, 1, seed)),
            {"data": data},
            label=f"{label} {number + 1} of {count}",
        )
        for number in range(count)
    }


def inside(members: np.ndarray, pool: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Memberships `(models, n)` of the asked rows, from those `(models, p)` of the pool's rows."""
    order = np.argsort(pool)
    place = np.searchsorted(pool, asked, sorter=order).clip(max=len(pool) - 1)
    known = pool[order[place]] == asked
    return members[:, order[place]] & known


def _last_loss(trained: Trained) -> float | None:
    """None where no epoch was seen, or no record drawn in the last one."""
    return trained.history[-1].loss if trained.history and np.isfinite(trained.history[-1].loss) else None


def _stacked(settings: Training, like: Dataset) -> bool:
    model = settings.architecture.build(like.shape, like.num_classes, seed=0)
    return settings.defense is None and stackable(model, settings.recipe)


def _network(settings: Training, data: Dataset, seed: int) -> nn.Module:
    model = settings.architecture.build(data.shape, data.num_classes, seed=seed)
    return settings.defense.architecture(model) if settings.defense else model
