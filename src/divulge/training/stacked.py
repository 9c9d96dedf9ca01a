"""Many small models trained at once: their parameters stacked, their steps one batched matrix product.

On CPUs this is faster for fully connected models and slower for convolutions, so only the former are stacked.
"""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.training.recipe import Recipe

STACKABLE = (nn.Sequential, nn.Flatten, nn.Linear, nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.Dropout, nn.LayerNorm)


def stackable(model: nn.Module, recipe: Recipe) -> bool:
    """Whether stacking trains this model correctly and faster: fully connected, no early stop, no augmentation."""
    return recipe.patience is None and not recipe.augment and all(type(m) in STACKABLE for m in model.modules())


def fit_stacked(
    models: Sequence[nn.Module],
    data: Dataset,
    members: np.ndarray,
    recipe: Recipe,
    *,
    seed: int,
    watch: Callable[[int], None] = lambda epoch: None,
) -> list[nn.Module]:
    """Train each model on its own records, all in step; equal to training them one after another on the same batches.

    Args:
        models: `S` networks of one architecture, each freshly initialized.
        data: all records.
        members: bool `(S, N)`, the records of each model.
        recipe: how to train; no augmentation, no early stopping.
        seed: of the order of records and of dropout.
        watch: called after each epoch with its number from 1.

    Returns:
        The trained networks in evaluation mode; those given are left as they were.

    Raises:
        BadInputError: an architecture or recipe that `stackable` refuses, or fewer than two records for some model.
    """
    if not stackable(models[0], recipe):
        raise BadInputError(
            "fit_stacked: expected fully connected models and a recipe without augmentation or patience."
        )
    if members.shape != (len(models), len(data)) or members.sum(axis=1).min() < 2:
        raise BadInputError(
            f"fit_stacked: expected memberships ({len(models)}, {len(data)}) with at least 2 records a model, got "
            f"{members.shape} with as few as {int(members.sum(axis=1).min())}."
        )
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    skeleton = copy.deepcopy(models[0]).to("meta").train()
    parameters, buffers = stack_module_state([copy.deepcopy(model).to(place) for model in models])
    leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    optimizer = _optimizer(list(leaves.values()), recipe)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, recipe.lr_decay)
    generator = torch.Generator().manual_seed(seed)
    inputs, targets = data.inputs.to(place), data.targets.to(place)

    def losses(values: dict[str, Tensor], held: dict[str, Tensor], x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        answer = functional_call(skeleton, (values, held), (x,))
        return (functional.cross_entropy(answer, y, reduction="none") * weight).sum() / weight.sum()

    step = vmap(losses, randomness="different")
    with seeded(seed):
        for epoch in range(recipe.epochs):
            for rows, weight in _batches(members, recipe.batch_size, generator):
                rows, weight = rows.to(place), weight.to(place)
                optimizer.zero_grad()
                step(leaves, buffers, inputs[rows], targets[rows], weight).sum().backward()
                optimizer.step()
            schedule.step()
            watch(epoch + 1)
    return [_unstack(models[0], leaves, buffers, index) for index in range(len(models))]


def _optimizer(parameters: list[Tensor], recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    return torch.optim.SGD(
        parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
    )


def _batches(members: np.ndarray, size: int, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Row numbers and weights `(S, B)` of each batch of a pass; weight 0 where a model has run out of records."""
    orders = []
    for mask in members:
        own = torch.from_numpy(np.flatnonzero(mask))
        orders.append(own[torch.randperm(len(own), generator=generator)])
    longest = max(len(order) for order in orders)
    rows = torch.stack([functional.pad(order, (0, longest - len(order))) for order in orders])
    weight = torch.stack([(torch.arange(longest) < len(order)).float() for order in orders])
    batches = list(zip(rows.split(size, dim=1), weight.split(size, dim=1), strict=True))
    if (batches[-1][1].sum(dim=1) == 0).any():  # a model with no record left for the last batch
        tail = [torch.cat(pair, dim=1) for pair in zip(*batches[-2:], strict=True)]
        batches[-2:] = [(tail[0], tail[1])]
    return batches


def _unstack(like: nn.Module, parameters: dict[str, Tensor], buffers: dict[str, Tensor], index: int) -> nn.Module:
    model = copy.deepcopy(like)
    state = {name: value[index].detach().cpu() for name, value in {**parameters, **buffers}.items()}
    model.load_state_dict(state)
    return model.eval()
