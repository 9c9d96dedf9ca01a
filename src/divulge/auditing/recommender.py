"""The steps that train a recommender across its users, and that look for baskets in what users share."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from divulge.attacks.knowledge import Knowledge
from divulge.attacks.recommenders import RecommenderAttack
from divulge.auditing.corpus import Corpus, opened
from divulge.auditing.extraction import released
from divulge.metrics.ranking import average_precision, r_precision
from divulge.models.multvae import MultVAE
from divulge.releases import GradientRecord
from divulge.releases.baskets import BasketSharing
from divulge.runs.step import Artifact, Context
from divulge.training import logits
from divulge.training.recommender import RecommenderFederation, fit_recommender, hold_out, recommendations

PARTS = ("train", "validation", "test")
METRICS = ("precision", "recall", "F1", "R-precision", "average precision")
TRUTH, CONTROL = "truth", "control"


@dataclass(frozen=True)
class Fitting:
    """Settings of a step that trains a recommender on the part `train` of a corpus and tests it on the part `test`.

    Args:
        architecture: of the recommender.
        federation: how it is trained.
        seed: of the first weights, the training and the hidden items.
    """

    architecture: MultVAE
    federation: RecommenderFederation
    seed: int


def fit(settings: Fitting, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Train one recommender and rank the hidden items of held-out users.

    Returns:
        Arrays `weight/...`, and each metric of `divulge.training.recommender.recommendations` by name `(users,)`, with
        `control/...` beside it for items ranked by how many users in training have them; the `loss` of each epoch as a
        fact.
    """
    corpus = opened(inputs["data"], ("train", "test"))
    baskets = corpus.part("train").inputs
    width = baskets.shape[1]
    model = settings.architecture.build((width,), width, seed=settings.seed)
    epochs = settings.federation.epochs
    history = fit_recommender(
        model,
        baskets,
        settings.federation,
        seed=settings.seed,
        watch=lambda epoch: context.progress(epoch / epochs),
    )
    given, hidden = hold_out(corpus.part("test").inputs, seed=settings.seed)
    found = recommendations(logits(model, given), given, hidden)
    popular = np.broadcast_to(baskets.sum(dim=0).numpy(), given.shape)
    control = recommendations(popular, given, hidden)
    arrays: dict[str, Any] = {f"weight/{name}": value for name, value in model.state_dict().items()}
    arrays |= dict(found) | {f"{CONTROL}/{name}": values for name, values in control.items()}
    return Artifact(arrays, {"loss": history})


@dataclass(frozen=True)
class BasketAttempt:
    """Settings of a step that attacks updates of users in the part `train` of a corpus.

    Args:
        architecture: of the recommender.
        attack: what is tried.
        victims: how many users.
        users: how many of them each record sums up; they divide `victims`.
        sharing: what each user does before sharing.
        adversary: `blind` to the sharing, or `adaptive`; None where there is nothing to adapt to.
        seed: of the victims and all that is drawn.
        trained: whether the recommender is that of the step `target`, or has its first weights.
    """

    architecture: MultVAE
    attack: RecommenderAttack
    victims: int
    users: int
    sharing: BasketSharing
    adversary: Literal["blind", "adaptive"] | None
    seed: int
    trained: bool


def attack_baskets(settings: BasketAttempt, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Share, attack and score.

    Returns:
        Arrays `truth/METRIC` and `control/METRIC`, float64, one number a user, or a record where an attack tells the
        union alone: against the own basket, and against that of another victim. Facts with the median `seconds` a
        record and how many `exact` claims were made.
    """
    corpus = opened(inputs["data"], ("train", "validation"))
    everyone = corpus.part("train").inputs
    width = everyone.shape[1]
    if settings.trained:
        model = released(settings.architecture, (width,), width, inputs["target"])
    else:
        model = settings.architecture.build((width,), width, seed=settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    chosen = torch.randperm(len(everyone), generator=generator)[: settings.victims]
    knowledge = _knowledge(settings, corpus)
    rows: dict[str, list[np.ndarray]] = {TRUTH: [], CONTROL: []}
    seconds, exact = [], 0
    groups = chosen.split(settings.users)
    for number, group in enumerate(groups):
        record = shared(model, everyone[group], settings.sharing, generator=generator)
        start = time.perf_counter()
        found = settings.attack.run(record, model, knowledge=knowledge, generator=generator)
        seconds.append(time.perf_counter() - start)
        exact += found.exact
        others = everyone[groups[(number + 1) % len(groups)]]
        for name, truth in ((TRUTH, everyone[group]), (CONTROL, others)):
            rows[name].append(scored(found.items[0], found.scores[0], truth > 0))
        context.progress((number + 1) / len(groups))
    arrays = {
        f"{name}/{metric}": np.concatenate(parts)[:, column]
        for name, parts in rows.items()
        for column, metric in enumerate(METRICS)
    }
    return Artifact(arrays, {"seconds": float(np.median(seconds)), "exact": exact, "records": len(groups)})


def shared(model: nn.Module, baskets: Tensor, sharing: BasketSharing, *, generator: torch.Generator) -> GradientRecord:
    """What a server gets of some users: the update of one, or the sum of several that are aggregated securely."""
    records = [sharing.share(model, basket[None], generator=generator) for basket in baskets]
    total = {
        name: sum((one.gradients[name] for one in records[1:]), start=first)
        for name, first in records[0].gradients.items()
    }
    facts = records[0]
    return GradientRecord(total, len(records), facts.classes, facts.shape, reduction="sum", training=True)


def scored(items: Tensor, scores: Tensor, truth: Tensor) -> np.ndarray:
    """Each metric for each true basket, or for their union where the attack names a single set: `(n, metrics)`.

    Of several sets each is matched to one user so that they overlap most.

    Args:
        items: bool `(sets, items)`.
        scores: alike.
        truth: bool `(users, items)`.
    """
    from scipy.optimize import linear_sum_assignment

    if len(items) == 1:
        truth = truth.any(dim=0, keepdim=True)
    found, wanted = items.double(), truth.double()
    common = wanted @ found.T
    _, order = linear_sum_assignment(-(2 * common / (wanted.sum(dim=1)[:, None] + found.sum(dim=1))).numpy())
    found, own = found[order], scores[order].double().numpy()
    hits = (found * wanted).sum(dim=1)
    precision, recall = hits / found.sum(dim=1).clamp(min=1), hits / wanted.sum(dim=1)
    both = 2 * hits / (found.sum(dim=1) + wanted.sum(dim=1))
    relevant = truth.numpy()
    return np.stack(
        [precision.numpy(), recall.numpy(), both.numpy(), r_precision(own, relevant), average_precision(own, relevant)],
        axis=1,
    )


def _knowledge(settings: BasketAttempt, corpus: Corpus) -> Knowledge:
    if settings.adversary != "adaptive":
        return Knowledge()
    return Knowledge(data=corpus.part("validation"), defense=settings.sharing)
