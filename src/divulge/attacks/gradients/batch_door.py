"""What entered the first biased linear layer for each record of a batch, where the last layers tell them apart."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import grad, jacfwd
from torch.nn import functional

from divulge.attacks.gradients.layers import Linear, head
from divulge.attacks.gradients.levenberg import levenberg_marquardt
from divulge.attacks.gradients.variational import bottleneck
from divulge.errors import BadInputError
from divulge.releases import GradientRecord

ROUNDS = 100
"""Of taking the divergence of the code into account, which is a small part of the gradient."""
STEPS = 100
OPENED = 1e-3
"""Share of the last layer's gradient left over up to which the records count as told apart."""


@dataclass(frozen=True, eq=False)
class Door:
    """A linear layer of which every record's part is known, float64 with one row a record.

    Args:
        inputs: what entered it `(B, d)`.
        signals: the gradient of the loss with respect to that `(B, d)`.
        left: the share of the last layer's gradient that is left unexplained; 1 where the records were not told apart.
    """

    inputs: Tensor
    signals: Tensor
    left: float


def open_door(record: GradientRecord, model: nn.Module, labels: Tensor, door: str) -> Door:
    """Tell the records of a batch apart at the last layer, and follow each one down to the layer `door`.

    The last layer's gradient is a sum over the batch of posteriors less the label's indicator, times the features. It
    has the rank of the batch, so that the features are few unknown mixtures of its rows; and the posteriors are a known
    function of them, so that there are more equations than unknowns. Labels that repeat make it hard or impossible.
    Below a variational bottleneck the same goes on with signals that are then known: its code, its noise and its input.

    Args:
        record: of a batch.
        model: as it was shared.
        labels: class numbers `(B,)`.
        door: the last layer itself, or the encoder of a bottleneck right before it.

    Raises:
        BadInputError: another layer in between.
    """
    last = head(record, model)
    if door == last.name:
        features, shares, left = _open_head(record, last, labels)
        return Door(features, shares @ _weight(last), left)
    found = bottleneck(record, model)
    order = [name for name, module in model.named_modules() if not list(module.children())]
    if found.encoder.name != door or order[order.index(found.decoder.name) + 1 :] != [last.name]:
        raise BadInputError(
            f"expected {door} to be the last linear layer, or the encoder of a bottleneck right before it: the records "
            "of a batch cannot be told apart further down. Use inverting-gradients."
        )
    _, shares, left = _open_head(record, last, labels)
    passed = shares @ _weight(last)
    codes = torch.linalg.lstsq(passed.T, found.decoder.weight).solution
    onto = passed @ _weight(found.decoder)
    size = _size(record)
    inputs, mean = torch.zeros(0, dtype=torch.float64), torch.zeros_like(onto)
    for _ in range(ROUNDS):
        signals = onto + found.draw.beta * mean / size
        inputs = torch.linalg.lstsq(signals.T, found.encoder.weight[: signals.shape[1]]).solution
        before, mean = mean, found.draw.moments(found.encoder.outputs(inputs))[0]
        if torch.allclose(mean, before, rtol=1e-12, atol=0):
            break
    entered = found.encoder.outputs(inputs)
    mean, std = found.draw.moments(entered)
    noise = (codes - mean) / std

    def loss(given: Tensor) -> Tensor:
        mean, std = found.draw.moments(given)
        return (onto * (mean + std * noise)).sum() + found.draw.penalty(given).sum() / size

    return Door(inputs, grad(loss)(entered) @ _weight(found.encoder), left)


def _open_head(record: GradientRecord, last: Linear, labels: Tensor) -> tuple[Tensor, Tensor, float]:
    """Features `(B, d)`, the gradient with respect to the logits `(B, classes)`, and what is left over."""
    size, count = _size(record), record.batch_size
    told = functional.one_hot(labels, record.classes).double()
    basis = torch.linalg.svd(last.weight, full_matrices=False).Vh[:count]
    shared = torch.cat([last.weight @ basis.T, last.biased()[:, None]], dim=1)

    def shares(features: Tensor) -> Tensor:
        return (last.outputs(features).softmax(dim=1) - told) / size

    def residuals(point: Tensor) -> Tensor:
        mixed = point.view(count, -1)
        whole = torch.cat([mixed, mixed.new_ones(count, 1)], dim=1)
        return (shares(mixed @ basis).T @ whole - shared).flatten()

    mean = (size * last.biased() + told.sum(dim=0)) / count
    start = torch.linalg.lstsq(((mean - told) / size).T, shared[:, :-1]).solution
    jacobian = jacfwd(residuals)
    found = levenberg_marquardt(
        residuals, lambda point: jacobian(point).T, start.flatten(), size=float(shared.norm()), steps=STEPS
    )
    features = found.point.view(count, -1) @ basis
    told_apart = found.left <= OPENED and found.determined
    return features, shares(features), found.left if told_apart else 1.0


def _size(record: GradientRecord) -> int:
    return record.batch_size if record.reduction == "mean" else 1


def _weight(linear: Linear) -> Tensor:
    return linear.module.weight.detach().double().cpu()
