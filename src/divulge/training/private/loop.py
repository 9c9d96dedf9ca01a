"""DP-SGD in one loop."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.privacy.ledger import Ledger
from divulge.settings import canonical, fingerprint
from divulge.training.loop import Epoch
from divulge.training.optimizer import optimizer_of
from divulge.training.private.averaging import Average
from divulge.training.private.bound import Bound
from divulge.training.private.checkpoint import Checkpoint, Progress
from divulge.training.private.gradients import Gradients
from divulge.training.private.noise import Secret, add_noise
from divulge.training.private.sampling import drawn
from divulge.training.private.settings import Privacy
from divulge.training.recipe import Recipe

SAVE_SECONDS = 30.0
"""How often a run is saved within an epoch."""


@dataclass(frozen=True)
class Private:
    """What private training came to.

    Args:
        history: one entry an epoch. Its losses are of the private records, without noise: not to be released.
        ledger: what was spent, from which epsilon follows.
    """

    history: list[Epoch]
    ledger: Ledger


def fit_private(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    privacy: Privacy,
    *,
    seed: int,
    watch: Callable[[int], None] = lambda epoch: None,
    step_watch: Callable[[int, nn.Module], None] | None = None,
    checkpoint: Path | str | None = None,
    device: str | None = None,
) -> Private:
    """Train `model` in place by DP-SGD and leave it in evaluation mode on the CPU.

    Abadi et al. 2016 (arXiv 1607.00133), with what De et al. 2022 (arXiv 2204.13650) added. Two sets that differ in one
    record give weights that are as hard to tell apart as the ledger's epsilon says.

    Args:
        model: maps float32 `(N, *shape)` to logits `(N, classes)`, each record's from that record alone. Its first
            weights, and what it has measured, count as public: the ledger knows nothing of an earlier training.
        data: the private records, all in memory.
        recipe: how to train; see `Privacy` for what its fields mean here.
        privacy: how to train privately.
        seed: of the order of shuffled batches. All else that is drawn must be secret, so it comes from the operating
            system unless `privacy.noise_seed` says otherwise: noise, Poisson sampling, augmentation and dropout.
        watch: called after each epoch with its number from 1, when `model` holds the weights it would end with there.
        step_watch: called after each step with its number from 1 and `model` as that step left it, not averaged: what
            an auditor of the training itself sees.
        checkpoint: a file; the run is saved in it before anybody sees its weights, and taken up from it if it exists.
            See `Checkpoint` on who may read it.
        device: where to train; CUDA if there is one, else the CPU.

    Raises:
        BadInputError: what `Privacy.plan` refuses, a layer that mixes records such as batch norm, weights that are no
            longer finite, or a checkpoint that is damaged or of another run.
        StoreError: the checkpoint cannot be written.
    """
    plan = privacy.plan(len(data), recipe)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    bound, secret = Bound(privacy, plan.noise_multiplier, recipe.batch_size), Secret(privacy.noise_seed)
    gradients = Gradients(model, data, recipe, privacy, place)
    parameters = gradients.parameters
    optimizer, average = optimizer_of(parameters, recipe), Average(parameters, privacy.averaging)
    settings = _settings(model, data, recipe, privacy, seed)
    ledger = Ledger(len(data), fixed_noise_seed=privacy.noise_seed is not None, training=fingerprint(settings))
    progress, saved = Progress(ledger, bound.clip), time.monotonic()
    kept = Checkpoint(Path(checkpoint), settings) if checkpoint else None
    ends = {epoch * plan.steps // recipe.epochs: epoch for epoch in range(1, recipe.epochs + 1)}

    with seeded(seed), kept.held() if kept else nullcontext():
        if kept and kept.path.exists():
            progress = kept.load(model, optimizer, average)
            bound.clip = progress.clip
        for step in range(progress.step, plan.steps):
            generator = secret.at(step)
            rows = drawn(plan, recipe.batch_size, len(data), step, generator=generator, seed=seed)
            total = gradients(rows, bound, reseeded(generator))
            add_noise(total.sums, bound.noise, generator)  # once a batch, and to an empty one too
            for parameter, noisy in zip(parameters, total.sums, strict=True):
                parameter.grad = noisy.div_(recipe.batch_size)  # the expected size: that of this batch is private
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * privacy.pace(step / plan.steps)
            optimizer.step()
            average.update(step)
            bound.move(total.within, generator)
            _require_finite(parameters, step + 1)

            ended = ends.get(step + 1)
            progress.add(total, replace(plan, steps=1), bound.clip, ended=ended is not None)
            if kept and (ended or step_watch or time.monotonic() - saved > SAVE_SECONDS):
                kept.save(progress, model, optimizer, average)  # counted on disk before anybody sees what it did
                saved = time.monotonic()
            if step_watch:
                step_watch(step + 1, model)
            if ended:
                with average.shown():
                    watch(ended)
    average.apply()
    optimizer.zero_grad()
    model.to("cpu").eval()
    return Private(progress.history, progress.ledger)


def _settings(model: nn.Module, data: Dataset, recipe: Recipe, privacy: Privacy, seed: int) -> dict[str, Any]:
    """What a resumed run must share. No digest of the records is among them: it would tell who knows all but one."""
    learned = {name: list(value.shape) for name, value in model.named_parameters() if value.requires_grad}
    promised = {field.name: getattr(privacy, field.name) for field in fields(Privacy) if field.name != "microbatch"}
    data_facts = {"records": len(data), "shape": data.shape, "classes": data.num_classes}
    facts = {"recipe": asdict(recipe), "privacy": promised, "seed": seed, "data": data_facts, "parameters": learned}
    return canonical(facts)


def reseeded(secret: np.random.Generator) -> torch.Generator:
    """The generator of a step's augmentation; the global state, which dropout draws from, is seeded likewise.

    Both draw by place in the batch, where one record more moves all after it. Only what nobody can foresee makes such a
    batch as likely as before, so they are seeded in secret.
    """
    seed = int(secret.spawn(1)[0].integers(2**63))
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


def _require_finite(parameters: list[Tensor], step: int) -> None:
    if not torch.stack(torch._foreach_norm(parameters)).isfinite().all():
        raise BadInputError(
            f"private training diverged in step {step}: the weights are no longer finite. Lower the learning rate."
        )
