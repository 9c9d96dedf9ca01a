"""Federated averaging in one loop."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.training.federated import server, together
from divulge.training.federated.capture import Behind, Capture
from divulge.training.federated.client import Answer, Share, batches, client_seed, replayable, respond, shielded, used
from divulge.training.federated.partition import partition, require_partition
from divulge.training.federated.settings import Federation
from divulge.training.loop import accuracy


@dataclass(frozen=True)
class Round:
    """What one round came to.

    Args:
        clients: who took part.
        dropped: whose answers held NaN or infinity and were left out of the mean.
        records: how many records the clients that were kept hold together.
        loss: mean loss of their local batches, each before its step; private, not to be released.
        moved: length of the server's step in the space of all weights.
        accuracy: on the evaluation records, after the round; NaN without any.
    """

    clients: tuple[int, ...]
    dropped: tuple[int, ...]
    records: int
    loss: float
    moved: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class Federated:
    """What federated training came to.

    Args:
        history: one entry a round.
        clients: row numbers of each client's records.
        captures: what was captured, by round and then by client.
        behind: what stands behind each capture.
    """

    history: list[Round]
    clients: tuple[np.ndarray, ...]
    captures: list[Capture]
    behind: list[Behind]

    @property
    def accuracy(self) -> np.ndarray:
        """Accuracy after each round `(rounds,)`."""
        return np.array([one.accuracy for one in self.history])


def fit_federated(
    model: nn.Module,
    data: Dataset,
    federation: Federation,
    *,
    seed: int,
    clients: Sequence[np.ndarray] | None = None,
    share: Share | None = None,
    evaluation: Dataset | None = None,
    capture: Collection[int] = (),
    device: str | None = None,
    watch: Callable[[int], None] = lambda number: None,
) -> Federated:
    """Train `model` in place by federated averaging and leave it in evaluation mode on the CPU.

    McMahan et al. 2017 (arXiv 1602.05629). Weights and what is measured, such as the running statistics of batch norm,
    are averaged; a `Standardize` layer measures nothing, since no party sees all records.

    Args:
        model: maps float32 `(N, *shape)` to logits `(N, classes)`.
        data: the records of all clients.
        federation: how to train.
        seed: of the partition, of who takes part, of the order of records, dropout and what a defense draws. The global
            random state is as before afterwards.
        clients: row numbers of each client's records, where they are given by the data; dealt out if left out.
        share: what a client shares in place of its record, such as the `share` of a defense.
        evaluation: records to measure the accuracy on after each round.
        capture: numbers of rounds, from 1, whose records are kept.
        device: where to train; CUDA if there is one, else the CPU.
        watch: called after each round with its number from 1, when `model` is as that round left it.

    Raises:
        BadInputError: clients that `partition` or `require_partition` refuses, rounds to capture that there are not, or
            a round that left no finite answer.
    """
    if outside := [number for number in capture if not 1 <= number <= federation.rounds]:
        raise BadInputError(f"federation: expected rounds 1 to {federation.rounds} to capture, got {outside[0]}.")
    if clients is None:
        clients = partition(data.targets.numpy(), federation, seed=seed)
    require_partition(clients, len(data), federation)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model.to(place).train()
    held = [torch.from_numpy(rows) for rows in clients]
    inputs, targets = data.inputs.to(place), data.targets.to(place)
    result = Federated([], tuple(clients), [], [])

    for number in range(1, federation.rounds + 1):
        lr = federation.pace(number)
        chosen = server.sampled(len(clients), federation.sampled, seed=seed, number=number)
        orders, draws = ([client_seed(seed, number, client, what) for client in chosen] for what in ("order", "draw"))
        plans = [
            [held[client][rows] for rows in batches(len(held[client]), federation, seed=order)]
            for client, order in zip(chosen, orders, strict=True)
        ]
        answers = _answers(model, inputs, targets, plans, federation, lr, share, draws)
        if number in capture:
            _keep(result, number, chosen, plans, answers, model)
        kept = [
            (client, one)
            for client, one in zip(chosen, answers, strict=True)
            if server.finite(one.record.gradients, one.buffers)
        ]
        if not kept:
            raise BadInputError(
                f"federation: no client's answer in round {number} was finite. Lower the learning rate, which is {lr}."
            )
        sizes = [len(held[client]) for client, _ in kept]
        weights = sizes if federation.weighting == "size" else [1] * len(kept)
        mean = server.mean([one.record.gradients for _, one in kept], weights)
        buffers = server.mean([one.buffers for _, one in kept], weights)
        moved = server.move(model, mean, buffers, lr=lr)
        result.history.append(
            Round(
                clients=tuple(chosen),
                dropped=tuple(sorted(set(chosen) - {client for client, _ in kept})),
                records=sum(sizes),
                loss=float(np.average([one.loss for _, one in kept], weights=weights)),
                moved=moved,
                accuracy=accuracy(model, evaluation) if evaluation else float("nan"),
            )
        )
        watch(number)
    model.to("cpu").eval()
    return result


def _answers(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    plans: list[list[Tensor]],
    federation: Federation,
    lr: float,
    share: Share | None,
    seeds: list[int],
) -> list[Answer]:
    """What the clients of a round share: trained at once where that is faster, else one after another."""
    largest = max(len(rows) for plan in plans for rows in plan)
    if together.stackable(model, largest) and (share is None or federation.sharing == "update"):
        honest = together.answers(model, inputs, targets, plans, lr=lr)
        if share is None:
            return honest
        return [
            shielded(one, share, model, inputs[plan[-1]], targets[plan[-1]], seed=own)
            for one, plan, own in zip(honest, plans, seeds, strict=True)
        ]
    return [
        respond(model, inputs, targets, plan, federation, lr=lr, share=share, seed=own)
        for plan, own in zip(plans, seeds, strict=True)
    ]


def _keep(
    result: Federated,
    number: int,
    chosen: list[int],
    plans: list[list[Tensor]],
    answers: list[Answer],
    model: nn.Module,
) -> None:
    public = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    for client, plan, one in zip(chosen, plans, answers, strict=True):
        gradients = {name: gradient.detach().cpu() for name, gradient in one.record.gradients.items()}
        record = replace(one.record, gradients=gradients)
        result.captures.append(Capture(number, client, public, record, replayable=replayable(plan)))
        result.behind.append(Behind(used(plan).numpy(), one.randomness))
