"""What a client does with the weights it is sent: local steps, and what of them it shares."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from divulge.models import seeded
from divulge.models.stochastic import penalties
from divulge.releases import GradientRecord
from divulge.training.federated.settings import Federation


class SharedLike(Protocol):
    """What leaves a client, such as `divulge.defenses.base.Shared`."""

    @property
    def record(self) -> GradientRecord:
        """What the server receives."""

    @property
    def randomness(self) -> Any:
        """What was drawn."""


class Share(Protocol):
    """What a client shares in place of an honest record, such as the `share` of a `divulge.defenses.Defense`."""

    def __call__(
        self, record: GradientRecord, *, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> SharedLike:
        """Called with the model as it was before the record's first step, and the batch of its last."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What one client came to in a round.

    Args:
        record: what it shares.
        buffers: what its network has measured, such as the running statistics of batch norm.
        loss: mean loss of its batches in nats, each before its step: cross-entropy, and what layers add to it.
        randomness: what a defense drew; for `sharing="step"` one entry for each step.
    """

    record: GradientRecord
    buffers: dict[str, Tensor]
    loss: float
    randomness: Any = None


def client_seed(seed: int, number: int, client: int, what: Literal["order", "draw"]) -> int:
    """The seed of a client's order of records in a round, or of all else it draws, whoever else takes part."""
    key = (number, client, ("order", "draw").index(what))
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0] >> 1)


def batches(n: int, federation: Federation, *, seed: int) -> list[Tensor]:
    """Row numbers of each local step of a client with `n` records; a last batch of one joins the one before.

    Example:
        >>> [len(rows) for rows in batches(7, Federation(batch_size=3), seed=0)]
        [3, 4]
    """
    plan: list[Tensor] = []
    passes = _passes(n, federation.batch_size or n, torch.Generator().manual_seed(seed))
    epochs = 0
    while epochs < federation.epochs if federation.steps is None else len(plan) < federation.steps:
        plan += next(passes)
        epochs += 1
    return plan[: federation.steps]


def respond(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    plan: Sequence[Tensor],
    federation: Federation,
    *,
    lr: float,
    share: Share | None = None,
    seed: int = 0,
) -> Answer:
    """All that a client does in a round: train a copy of the model over its local steps, and share what came of it.

    Args:
        model: as the server sent it; stays as it is.
        inputs: the records `(N, *shape)` that `plan` numbers, on the device of the model.
        targets: their class numbers `(N,)`.
        plan: the rows of each step; see `batches`.
        federation: where a defense acts.
        lr: of the local steps.
        share: the defense; None to share what was computed.
        seed: of dropout and of what the defense draws.
    """
    if share is None or federation.sharing == "step":
        return _trained(model, inputs, targets, plan, lr=lr, share=share, seed=seed)
    honest = _trained(model, inputs, targets, plan, lr=lr, share=None, seed=seed)
    return shielded(honest, share, model, inputs[plan[-1]], targets[plan[-1]], seed=seed)


def shielded(honest: Answer, share: Share, model: nn.Module, inputs: Tensor, targets: Tensor, *, seed: int) -> Answer:
    """The same with what a defense shares of the update; `model` is as the server sent it, the batch the last one."""
    generator = torch.Generator().manual_seed(seed)
    shared = share(honest.record, model=model, inputs=inputs, targets=targets, generator=generator)
    return replace(honest, record=shared.record, randomness=shared.randomness)


def updated(record: GradientRecord, total: dict[str, Tensor], plan: Sequence[Tensor], *, lr: float) -> GradientRecord:
    """The record of all local steps together: the sum of their gradients, which is the update divided by `-lr`.

    Summed rather than taken as a difference of weights, which would round each entry to the precision of a weight.
    """
    if len(plan) == 1:
        return record
    whole, sizes = len(used(plan)), tuple(map(len, plan))
    return replace(
        record,
        gradients=total,
        batch_size=whole,
        kind="update",
        local_steps=len(plan),
        lr=lr,
        step_sizes=() if set(sizes) == {whole} else sizes,
    )


def used(plan: Sequence[Tensor]) -> Tensor:
    """The rows behind a record, each once: in the order of the steps where no two share one, or else ascending."""
    rows = torch.cat(list(plan))
    return rows if len(rows.unique()) == len(rows) else rows.unique()


def replayable(plan: Sequence[Tensor]) -> bool:
    """Whether each step took all the records behind the update, or no two steps share one."""
    whole = len(used(plan))
    return sum(map(len, plan)) == whole or all(len(rows) == whole for rows in plan)


def _trained(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    plan: Sequence[Tensor],
    *,
    lr: float,
    share: Share | None,
    seed: int,
) -> Answer:
    """Local steps of SGD, each along what `share` makes of its gradient.

    What layers add to the loss, such as the divergence of a variational bottleneck, is part of it.
    """
    worker, generator = copy.deepcopy(model).train(), torch.Generator().manual_seed(seed)
    learned = {name: p for name, p in worker.named_parameters() if p.requires_grad}
    total, randomness, lost = {name: torch.zeros_like(p) for name, p in learned.items()}, [], 0.0
    with seeded(seed):
        for rows in plan:
            batch, labels = inputs[rows], targets[rows]
            with penalties(worker) as extra:
                logits = worker(batch)
            loss = sum((one.mean() for one in extra), start=functional.cross_entropy(logits, labels))
            gradients = torch.autograd.grad(loss, list(learned.values()), materialize_grads=True)
            record = GradientRecord(
                dict(zip(learned, gradients, strict=True)),
                batch_size=len(rows),
                classes=logits.shape[1],
                shape=tuple(batch.shape[1:]),
                training=True,
            )
            if share:
                shared = share(record, model=worker, inputs=batch, targets=labels, generator=generator)
                record = shared.record
                randomness.append(shared.randomness)
            with torch.no_grad():
                for name, parameter in learned.items():
                    parameter.sub_(record.gradients[name], alpha=lr)
                    total[name] += record.gradients[name]
            lost += float(loss.detach()) * len(rows)
    return Answer(
        updated(record, total, plan, lr=lr),
        dict(worker.named_buffers()),
        lost / sum(map(len, plan)),
        randomness if share else None,
    )


def _passes(n: int, size: int, generator: torch.Generator) -> Iterator[list[Tensor]]:
    while True:
        plan = list(torch.randperm(n, generator=generator).split(size))
        if size > 1 and len(plan) > 1 and len(plan[-1]) == 1:
            plan[-2:] = [torch.cat(plan[-2:])]
        yield plan
