"""The strongest reconstruction of each client's batch, chosen by what an attacker can see."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from divulge.auditing.gradients import scoring
from divulge.auditing.gradients.audit import Exchange
from divulge.auditing.gradients.audit_cases import Case, Tried
from divulge.auditing.gradients.audit_scores import scored
from divulge.auditing.gradients.audit_steps import others_of, victims_of


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """The strongest reconstruction of each client of a case, chosen by what an attacker can see.

    Args:
        case: which.
        tried: every attack that was run, by name, refusals among them.
        chosen: the name of the attack that each client's comes from.
        records: float32 `(clients, batch, *shape)`, in the order of the true ones.
        found: bool `(clients, batch)`; the others are zero.
        unexplained: share of the shared gradient that it leaves over, `(clients,)`.
        labels: share of its class numbers that are right, `(clients,)`; NaN where none was named.
        scores: of each record against the true one, float64 `(clients * batch,)` by name: see `scored`.
        control: of each record against another one of the same class.
    """

    case: Case
    tried: Mapping[str, Tried]
    chosen: tuple[str, ...]
    records: Tensor
    found: np.ndarray
    unexplained: np.ndarray
    labels: np.ndarray
    scores: Mapping[str, np.ndarray]
    control: Mapping[str, np.ndarray]

    def by_client(self, name: str, *, control: bool = False) -> np.ndarray:
        """A score's mean over the batch of each client `(clients,)`."""
        values = (self.control if control else self.scores)[name]
        return values.reshape(self.case.clients, self.case.batch).mean(axis=1)

    def first(self, clients: int) -> "Rebuilt":
        """That of the first clients alone."""
        rows = clients * self.case.batch
        return replace(
            self,
            case=replace(self.case, clients=clients),
            chosen=self.chosen[:clients],
            records=self.records[:clients],
            found=self.found[:clients],
            unexplained=self.unexplained[:clients],
            labels=self.labels[:clients],
            scores={name: values[:rows] for name, values in self.scores.items()},
            control={name: values[:rows] for name, values in self.control.items()},
        )

    def __len__(self) -> int:
        return self.case.clients


def strongest(
    exchange: Exchange, case: Case, tried: Mapping[str, Tried], *, lesser: Mapping[str, Tried] = MappingProxyType({})
) -> Rebuilt:
    """For each client the reconstruction that an attacker would believe: one that surely is right, else the one that
    explains most of the shared gradient.

    Args:
        exchange: the audit.
        case: which.
        tried: every attack that was run, by name.
        lesser: those of adversaries who know less, who measure what is explained in another way. So theirs is taken
            where it surely is right and nothing of their own is, or where there is nothing else.
    """
    able = {name: one for name, one in (*tried.items(), *lesser.items()) if not one.refused}
    shape = (case.batch, *exchange.records.shape)
    truth, others = (
        exchange.corpus.part(part(case.batch)).inputs.unflatten(0, (-1, case.batch))[: case.clients]
        for part in (victims_of, others_of)
    )
    records = torch.zeros(case.clients, *shape)
    found = np.zeros((case.clients, case.batch), dtype=bool)
    left, labels = np.ones(case.clients), np.full(case.clients, np.nan)
    chosen = ["none"] * case.clients
    for client in range(case.clients):
        ranked = [
            (0 if one.claims()[client] else 1 + (name in lesser), float(one.array("unexplained")[client]), name)
            for name, one in able.items()
            if client < one.clients and one.array("found")[client].any()
        ]
        if not ranked:
            continue
        _, left[client], name = min(ranked)
        best, chosen[client] = able[name], name
        records[client] = torch.from_numpy(best.array("reconstructions")[client])
        found[client] = best.array("found")[client]
        wholes = [(loss, other) for _, loss, other in ranked if able[other].array("found")[client].all()]
        if not found[client].all() and wholes:
            rest = torch.from_numpy(able[min(wholes)[1]].array("reconstructions")[client])
            records[client], found[client] = completed(records[client], found[client], rest), True
        if best.has("labels"):
            labels[client] = best.array("labels")[client]
    records, known = _turned(records.clamp(0, 1), torch.from_numpy(found), truth)
    elsewhere = _turned(records, known, others)
    return Rebuilt(
        case,
        tried,
        tuple(chosen),
        records,
        known.numpy(),
        left,
        labels,
        scored(exchange, records, known, truth),
        scored(exchange, *elsewhere, others),
    )


def _turned(records: Tensor, found: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Reconstructions and which were found, in the order that goes best with some records."""
    order = scoring.aligned(records, truth)
    first, second = (torch.stack([own[rows] for own, rows in zip(one, order, strict=True)]) for one in (records, found))
    return first, second


def completed(some: Tensor, found: np.ndarray, whole: Tensor) -> Tensor:
    """A batch of which some records are surely known, the others out of a batch that is known but roughly.

    Each known record takes the place of the one that it is nearest to; the truth has no part in it.

    Args:
        some: `(batch, *shape)`.
        found: which of them are known, bool `(batch,)`.
        whole: `(batch, *shape)`.
    """
    from scipy.optimize import linear_sum_assignment

    distances = torch.cdist(some[found].flatten(1), whole.flatten(1))
    known, places = linear_sum_assignment(distances.numpy())
    batch = whole.clone()
    batch[places] = some[found][known]
    return batch
