"""One gradient attack on some victims under one defense, by an adversary who knows nothing of it, it, or its draws."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from divulge.attacks.gradients.base import GradientAttack
from divulge.attacks.gradients.plan import Units
from divulge.attacks.knowledge import Knowledge
from divulge.auditing.gradients import scoring
from divulge.data import Dataset
from divulge.defenses import Defense
from divulge.errors import BadInputError
from divulge.releases import share

Adversary = Literal["blind", "adaptive", "oracle"]
ADVERSARIES: tuple[Adversary, ...] = ("blind", "adaptive", "oracle")


@dataclass(frozen=True)
class Attempt:
    """One attack under one defense.

    Args:
        attack: which.
        defense: what each client puts its gradient through; none by default.
        adversary: `blind` knows of no defense, `adaptive` knows it, `oracle` also knows what it drew.
        training: whether the clients' model is in training mode.
        seed: of everything that clients, defense and attack draw.
    """

    attack: GradientAttack
    defense: Defense = field(default_factory=Defense)
    adversary: Adversary = "blind"
    training: bool = False
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an attempt came to.

    Args:
        reconstructions: float32 `(victims, batch, *shape)`, in the order of the true records.
        scores: float64 `(victims,)` by metric: `mse`, `psnr` and, for images, `ssim` (in `[0, 1]`), `network mse` (in
            the network's units, not clamped), `label accuracy` where the attack names labels, and `distortion`, how far
            the shared gradient is from the honest one as a share of its length.
        control: those of the same reconstructions held against other records of the same classes: what a picture that
            is no more like the victim than like its class would score; and of its labels against the next victim's.
        matching: the attacker's own loss `(victims,)`.
        exact: whether the attack claims the records up to rounding.
        found: which records it rebuilt, bool `(victims, batch)`; the others are zero, and scored as such.
        facts: what else the attack said.
        seconds: how long the attack alone took.
    """

    reconstructions: Tensor
    scores: Mapping[str, np.ndarray]
    control: Mapping[str, np.ndarray]
    matching: np.ndarray
    exact: bool
    found: np.ndarray
    facts: Mapping[str, Any]
    seconds: float


def attempt(
    model: nn.Module,
    victims: Dataset,
    one: Attempt,
    *,
    batch: int = 1,
    others: Dataset | None = None,
    public: Dataset | None = None,
) -> Outcome:
    """Let clients share, attack what they shared, and score it against the truth.

    The clients' model is the same for all, as in one round of federated learning. An oracle is handed a tuple of what
    the defense drew for each client, in the order of the records.

    Args:
        model: what the clients were given, with its weights.
        victims: their records, one batch after another.
        one: the attack, the defense and the adversary.
        batch: records that each client has.
        others: for each victim another record of its class, for the control.
        public: records of the same kind that the adversary has.

    Raises:
        BadInputError: victims that do not fill batches, `others` that do not match them, or what the attack refuses.
    """
    if batch < 1 or not len(victims) or len(victims) % batch:
        raise BadInputError(f"expected victims that fill batches of {batch}, got {len(victims)} records.")
    if others is not None and not torch.equal(others.targets, victims.targets):
        raise BadInputError("others: expected for each victim another record of its class, in the same order.")
    place = next(model.parameters()).device
    inputs = victims.inputs.unflatten(0, (-1, batch))
    targets = victims.targets.unflatten(0, (-1, batch))
    generator = torch.Generator().manual_seed(one.seed)
    honest, shared = [], []
    for number, (records, labels) in enumerate(zip(inputs.to(place), targets.to(place), strict=True)):
        honest.append(share(model, records, labels, training=one.training, seed=one.seed + number))
        shared.append(one.defense.share(honest[-1], model=model, inputs=records, targets=labels, generator=generator))
    drawn = tuple(sent.randomness for sent in shared)
    knowledge = Knowledge(
        data=public,
        defense=None if one.adversary == "blind" else one.defense,
        randomness=drawn if one.adversary == "oracle" and any(own is not None for own in drawn) else None,
    )
    started = time.perf_counter()
    found = one.attack.run(
        [sent.record for sent in shared],
        model,
        knowledge=knowledge,
        generator=torch.Generator().manual_seed(one.seed),
    )
    seconds = time.perf_counter() - started

    scale = Units.of(model).scale.double().cpu()
    rebuilt = found.inputs.detach().cpu()
    order = scoring.aligned(rebuilt, inputs)
    best = _ordered(rebuilt, order)
    scores = scoring.pictures(best, inputs, scale=scale)
    if found.targets is not None:
        named = _ordered(found.targets.cpu(), order)
        scores["label accuracy"] = (named == targets).double().mean(dim=1)
    if truths := [own for own in drawn if isinstance(own, Mapping) and found.noise.keys() <= own.keys()]:
        scores |= scoring.noises(found.noise, truths, order)
    changes = [
        scoring.distortion(sent.record.gradients, own.gradients) for sent, own in zip(shared, honest, strict=True)
    ]
    scores["distortion"] = torch.tensor(changes, dtype=torch.float64)
    control: dict[str, Tensor] = {}
    if others is not None:
        unrelated = others.inputs.unflatten(0, (-1, batch))
        control = scoring.pictures(_ordered(rebuilt, scoring.aligned(rebuilt, unrelated)), unrelated, scale=scale)
    if found.targets is not None and len(targets) > 1:
        control["label accuracy"] = (named == targets.roll(1, dims=0)).double().mean(dim=1)
    everything = torch.ones(order.shape, dtype=torch.bool)
    return Outcome(
        reconstructions=best,
        scores={name: values.numpy() for name, values in scores.items()},
        control={name: values.numpy() for name, values in control.items()},
        matching=found.matching.detach().cpu().numpy(),
        exact=found.exact,
        found=_ordered(everything if found.found is None else found.found.cpu(), order).numpy(),
        facts=found.facts,
        seconds=seconds,
    )


def _ordered(values: Tensor, order: Tensor) -> Tensor:
    """The entries of each batch of `values` `(victims, batch, ...)` in the given order `(victims, batch)`."""
    return torch.stack([own[rows] for own, rows in zip(values, order, strict=True)])
