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
from divulge.auditing.corpus import opened
from divulge.data import Dataset
from divulge.defenses.recommenders import BasketDefense
from divulge.metrics.ranking import average_precision, r_precision
from divulge.models.multvae import MultVAE
from divulge.models.stochastic import MaskedDropout, noise_inputs, stochastic_layers
from divulge.releases import GradientRecord
from divulge.releases.baskets import BasketSharing, Drawn
from divulge.releases.gradients import NOTHING
from divulge.runs.step import Artifact, Context
from divulge.training import logits
from divulge.training.recommender import RecommenderFederation, fit_recommender, hold_out, recommendations

PARTS = ("train", "validation", "test")
METRICS = ("precision", "recall", "F1", "R-precision", "average precision", "whole baskets")
TRUTH, CONTROL = "truth", "control"
Adversary = Literal["blind", "adaptive", "oracle"]
POPULAR, RANDOM = "popular", "random"


@dataclass(frozen=True)
class Fitting:
    """Settings of a step that trains a recommender on the part `train` of a corpus and tests it on the part `test`.

    Args:
        architecture: of the recommender, before the defense acts on it.
        defense: under which it is trained; the federation's sharing is its.
        federation: how it is trained.
        seed: of the first weights, the training and the hidden items.
    """

    architecture: MultVAE
    defense: BasketDefense
    federation: RecommenderFederation
    seed: int


def fit(settings: Fitting, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Train one recommender and rank the hidden items of held-out users.

    Returns:
        Arrays `weight/...`, and each metric of `divulge.training.recommender.recommendations` by name `(users,)`, with
        `control/...` beside it for items ranked by how many users in training have them; the `loss` of each epoch and
        the number of `users` as facts.
    """
    corpus = opened(inputs["data"], ("train", "test"))
    baskets = corpus.part("train").inputs
    width = baskets.shape[1]
    model = settings.defense.architecture(settings.architecture.build((width,), width, seed=settings.seed))
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
    return Artifact(arrays, {"loss": history, "users": len(baskets)})


@dataclass(frozen=True)
class BasketAttempt:
    """Settings of a step that attacks updates of users in the part `train` of a corpus.

    Args:
        architecture: of the recommender, before the defense acts on it.
        defense: of the users.
        attack: what is tried.
        victims: how many users; those of one record divide them.
        adversary: `blind` to the defense, `adaptive`, or an `oracle`; None where there is nothing to adapt to.
        seed: of the victims and all that is drawn.
        trained: whether the recommender is that of the step `target`, or has its first weights.
        drawn: whether dropout and the code draw, as they do when a client trains.
    """

    architecture: MultVAE
    defense: BasketDefense
    attack: RecommenderAttack
    victims: int
    adversary: Adversary | None
    seed: int
    trained: bool
    drawn: bool = True


def attack_baskets(settings: BasketAttempt, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Share, attack and score.

    Returns:
        Arrays `truth/METRIC` and `control/METRIC`, float64, one number a user, or a record where an attack tells the
        union alone: against the own basket, and against that of another victim. Facts with the median `seconds` of
        computing a record, how many records there are, and how many of them were claimed as `exact`.
    """
    corpus = opened(inputs["data"], ("train", "validation"))
    everyone = corpus.part("train").inputs
    width = everyone.shape[1]
    seed = settings.seed
    model = settings.defense.architecture(settings.architecture.build((width,), width, seed=seed)).eval()
    if settings.trained:
        weights = {name.removeprefix("weight/"): value for name, value in inputs["target"].arrays.items()}
        model.load_state_dict({name: torch.from_numpy(np.asarray(weights[name])) for name in model.state_dict()})
    generator = torch.Generator().manual_seed(seed)
    groups = victims(len(everyone), settings.victims, generator).split(settings.defense.summed)
    public = corpus.part("validation")
    rows: dict[str, list[np.ndarray]] = {TRUTH: [], CONTROL: []}
    seconds, exact = [], 0
    block = settings.attack.together
    for first in range(0, len(groups), block):
        records, drawn = [], []
        for group in groups[first : first + block]:
            for _ in range(settings.attack.each):
                quiet = NOTHING if settings.drawn else still(model, width)
                record, randomness = shared(
                    model, everyone[group], settings.defense.sharing, generator=generator, stochastic=quiet
                )
                records.append(record)
                drawn += randomness
        knowledge = knowing(settings.defense, settings.adversary, public, drawn)
        start = time.process_time()
        found = settings.attack.run(records, model, knowledge=knowledge, generator=generator)
        count = len(found.items)
        seconds += [(time.process_time() - start) / count] * count
        exact += count * found.exact
        for number in range(count):
            place = first + number
            others = everyone[groups[(place + 1) % len(groups)]]
            for name, truth in ((TRUTH, everyone[groups[place]]), (CONTROL, others)):
                rows[name].append(scored(found.items[number], found.scores[number], truth > 0))
        context.progress(min(1.0, (first + block) / len(groups)))
    arrays = {
        f"{name}/{metric}": np.concatenate(parts)[:, column]
        for name, parts in rows.items()
        for column, metric in enumerate(METRICS)
    }
    return Artifact(arrays, {"seconds": float(np.median(seconds)), "exact": exact, "records": len(groups)})


@dataclass(frozen=True)
class Guess:
    """Settings of a step that guesses the baskets of the users whom `BasketAttempt` attacks, without their updates.

    Args:
        victims: see `BasketAttempt`.
        seed: see `BasketAttempt`.
    """

    victims: int
    seed: int


def guess_baskets(settings: Guess, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Name as many items as each user has: the most popular ones among the users in `validation`, or any.

    Returns:
        Arrays `popular/METRIC` and `random/METRIC`, float64 `(victims,)`.
    """
    corpus = opened(inputs["data"], ("train", "validation"))
    everyone = corpus.part("train").inputs
    generator = torch.Generator().manual_seed(settings.seed)
    truth = everyone[victims(len(everyone), settings.victims, generator)] > 0
    found = guesses(truth, corpus.part("validation").inputs, generator)
    return Artifact(
        {f"{name}/{metric}": rows[:, column] for name, rows in found.items() for column, metric in enumerate(METRICS)}
    )


def guesses(truth: Tensor, public: Tensor, generator: torch.Generator) -> dict[str, np.ndarray]:
    """The score of as many items as each user has, without a look at the update: `(users, metrics)` by kind of guess.

    Args:
        truth: bool `(users, items)`.
        public: baskets of other users; what most of them have is popular.
        generator: of the random guess.
    """
    ranked = {POPULAR: public.mean(dim=0).expand(truth.shape), RANDOM: torch.rand(truth.shape, generator=generator)}
    told = {}
    for name, scores in ranked.items():
        order = scores.argsort(dim=1, descending=True, stable=True)
        first = torch.arange(truth.shape[1]) < truth.sum(dim=1)[:, None]
        named = torch.zeros_like(truth).scatter(1, order, first)
        rows = zip(named, scores, truth, strict=True)
        told[name] = np.concatenate([scored(own[None], score[None], one[None]) for own, score, one in rows])
    return told


def victims(users: int, count: int, generator: torch.Generator) -> Tensor:
    """The rows of the users who are attacked."""
    return torch.randperm(users, generator=generator)[:count]


def still(model: nn.Module, width: int) -> dict[str, Tensor]:
    """What stochastic layers use where nothing is to be drawn: units as they are, and the mean of the code."""
    given, layers = noise_inputs(model, torch.ones(1, width)), stochastic_layers(model)
    return {
        name: torch.full(layer.shape(given[name]), 1 - layer.p if isinstance(layer, MaskedDropout) else 0.0)
        for name, layer in layers.items()
    }


def shared(
    model: nn.Module,
    baskets: Tensor,
    sharing: BasketSharing,
    *,
    generator: torch.Generator,
    stochastic: Mapping[str, Tensor] = NOTHING,
) -> tuple[GradientRecord, list[Drawn]]:
    """What a server gets of some users, and what each of them drew.

    The record is the update of one user, or the sum of several that are aggregated securely.
    """
    own = [sharing.share(model, basket[None], generator=generator, stochastic=stochastic) for basket in baskets]
    records, drawn = [record for record, _ in own], [one for _, one in own]
    facts = records[0]
    total = dict(facts.gradients)
    for one in records[1:]:
        total = {name: total[name] + gradient for name, gradient in one.gradients.items()}
    record = GradientRecord(total, len(records), facts.classes, facts.shape, reduction="sum", training=True)
    return record, drawn


def knowing(
    defense: BasketDefense,
    adversary: Adversary | None,
    public: Dataset | None,
    drawn: list[Drawn],
) -> Knowledge:
    """What an adversary of some users knows besides their records."""
    if adversary in (None, "blind"):
        return Knowledge()
    return Knowledge(data=public, defense=defense.sharing, randomness=drawn if adversary == "oracle" else None)


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
    whole = (found == wanted).all(dim=1).double()
    precision, recall = hits / found.sum(dim=1).clamp(min=1), hits / wanted.sum(dim=1)
    both = 2 * hits / (found.sum(dim=1) + wanted.sum(dim=1))
    relevant = truth.numpy()
    columns = [precision.numpy(), recall.numpy(), both.numpy()]
    columns += [r_precision(own, relevant), average_precision(own, relevant), whole.numpy()]
    return np.stack(columns, axis=1)
