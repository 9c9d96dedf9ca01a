"""The clients of a round trained at once: their weights stacked, their steps one batched matrix product.

On CPUs that saves what each operation costs beside its arithmetic, so it is faster for small networks and batches, by a
factor of 1.2 to 2.5, and slower for others.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from divulge.models.layers import Flatten, Normalize, Standardize
from divulge.releases import GradientRecord
from divulge.training.federated.client import Answer, updated

STACKABLE = (
    *(nn.Sequential, nn.Flatten, nn.Linear, nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.LayerNorm),
    *(nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, Flatten, Normalize, Standardize),
)
PARAMETERS = 300_000
"""Up to which size networks are stacked."""
CONVOLVED = 16
"""Up to how many records a step convolutions are stacked."""
TOGETHER = 32
"""Clients trained at once, which bounds the memory."""


def stackable(model: nn.Module, records: int) -> bool:
    """Whether stacking clients is right and faster: nothing is drawn or measured in training, and little computed.

    Args:
        model: what is trained.
        records: of the largest batch of a local step.
    """
    modules = list(model.modules())
    return (
        all(type(module) in STACKABLE for module in modules)
        and sum(parameter.numel() for parameter in model.parameters()) <= PARAMETERS
        and (records <= CONVOLVED or not any(isinstance(module, nn.Conv2d) for module in modules))
    )


def answers(
    model: nn.Module, inputs: Tensor, targets: Tensor, plans: Sequence[Sequence[Tensor]], *, lr: float
) -> list[Answer]:
    """What each client of a round shares without a defense; equal to `answer` for one after another, up to rounding.

    Args:
        model: as the server sent it; stays as it is.
        inputs: all records `(N, *shape)`.
        targets: their class numbers `(N,)`.
        plans: for each client the rows of each of its steps, among all records.
        lr: of the local steps.
    """
    parts = [plans[start : start + TOGETHER] for start in range(0, len(plans), TOGETHER)]
    return [one for part in parts for one in _together(model, inputs, targets, part, lr)]


def _together(
    model: nn.Module, inputs: Tensor, targets: Tensor, plans: Sequence[Sequence[Tensor]], lr: float
) -> list[Answer]:
    fixed = dict(model.state_dict())
    sent = {name: fixed.pop(name) for name, p in model.named_parameters() if p.requires_grad}
    weights = {name: value.expand(len(plans), *value.shape).clone() for name, value in sent.items()}
    total = {name: torch.zeros_like(stack) for name, stack in weights.items()}
    lost = torch.zeros(len(plans), device=inputs.device)

    def loss(learned: dict[str, Tensor], batch: Tensor, labels: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        logits = functional_call(model, fixed | learned, (batch,))
        return (functional.cross_entropy(logits, labels, reduction="none") * share).sum(), logits

    step = vmap(grad_and_value(loss, has_aux=True))
    for number in range(max(map(len, plans))):
        rows, share = _padded([plan[number] if number < len(plan) else plan[0][:0] for plan in plans])
        rows, share = rows.to(inputs.device), share.to(inputs.device)
        gradients, (losses, logits) = step(weights, inputs[rows], targets[rows], share)
        for name, gradient in gradients.items():
            weights[name].sub_(gradient, alpha=lr)
            total[name] += gradient
        sizes = torch.tensor([len(plan[number]) if number < len(plan) else 0 for plan in plans])
        lost += losses.detach() * sizes.to(lost)
    classes, shape = logits.shape[-1], tuple(inputs.shape[1:])
    found = []
    for index, plan in enumerate(plans):
        own = {name: stack[index].clone() for name, stack in total.items()}
        record = GradientRecord(own, batch_size=len(plan[0]), classes=classes, shape=shape, training=True)
        found.append(Answer(updated(record, own, plan, lr=lr), {}, float(lost[index]) / sum(map(len, plan))))
    return found


def _padded(batches: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows `(S, B)` and the share of each in its client's mean; none where a client has fewer, or is done."""
    rows = pad_sequence(batches, batch_first=True)
    there = torch.arange(rows.shape[1]) < torch.tensor([len(batch) for batch in batches])[:, None]
    return rows, there / there.sum(dim=1, keepdim=True).clamp(min=1)
