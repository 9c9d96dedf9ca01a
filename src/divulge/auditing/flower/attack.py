"""What a saved federated run gives away: each record attacked, and the answer held against the rows behind it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from divulge.attacks.gradients.base import NOTHING, GradientAttack, Reconstructions
from divulge.attacks.knowledge import Knowledge
from divulge.auditing.flower.deployment import Deployment
from divulge.metrics.images import best_order, mse
from divulge.training.federated import Capture
from divulge.training.federated.client import batches, client_seed, used


@dataclass(frozen=True, eq=False)
class Exposed:
    """One record of a run, attacked.

    Args:
        capture: what was attacked.
        answer: what the attack says.
        truth: the client's records behind it `(batch, *shape)`.
        error: mean squared error of each of them, found and true ones paired to make their sum least `(batch,)`; NaN
            where the attack rebuilt none.
        control: the same for a record of the same class and another client in place of each that was found: what a
            guess of that kind scores; NaN where no other client has one.
    """

    capture: Capture
    answer: Reconstructions
    truth: Tensor
    error: Tensor
    control: Tensor


def attack_run(
    deployment: Deployment,
    captures: Sequence[Capture],
    attack: GradientAttack,
    *,
    knowledge: Knowledge = NOTHING,
    generator: torch.Generator,
) -> list[Exposed]:
    """Attack what a server kept of a run, and score it.

    The attack gets each record and the public weights of its round. The truth comes from the deployment, by whose seed
    the rows are drawn again.

    Args:
        deployment: what was run.
        captures: what `run_flower` returned, or `load_captures` reads.
        attack: a registered gradient attack.
        knowledge: what the adversary knows besides.
        generator: of what the attack draws.

    Raises:
        BadInputError: records that the attack cannot use.
    """
    data = deployment.records()
    clients, network = deployment.clients(data), deployment.model(data)
    targets = data.targets.numpy()
    exposed = []
    for capture in captures:
        answer = attack.run(capture.record, capture.model(network), knowledge=knowledge, generator=generator)
        own = clients[capture.client]
        seed = client_seed(deployment.seed, capture.round, capture.client, "order")
        rows = own[used(batches(len(own), deployment.federation, seed=seed)).numpy()]
        truth = data.inputs[torch.from_numpy(rows)]
        found = answer.inputs[0].cpu()
        order = best_order(found, truth)
        error = mse(found[order], truth)
        if answer.found is not None:
            error[~answer.found[0].cpu()[order]] = torch.nan
        others = np.setdiff1d(np.arange(len(data)), own)
        control = torch.full((len(rows),), torch.nan, dtype=torch.float64)
        for index, row in enumerate(rows):
            alike = others[targets[others] == targets[row]]
            if len(alike):
                control[index] = mse(data.inputs[alike[:1]], truth[index : index + 1])[0]
        exposed.append(Exposed(capture, answer, truth, error, control))
    return exposed
