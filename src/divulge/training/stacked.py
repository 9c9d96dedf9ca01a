"""Many small models trained at once: their parameters stacked, their steps one batched matrix product.

On CPUs this is faster for fully connected models and slower for convolutions, so only the former are stacked.
"""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.models.layers import Standardize, measure
from divulge.training.loop import has_fast_bfloat16
from divulge.training.optimizer import optimizer_of
from divulge.training.recipe import Recipe

STACKABLE = (
    nn.Sequential,
    nn.Flatten,
    nn.Linear,
    nn.ReLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.GELU,
    nn.Dropout,
    nn.LayerNorm,
    Standardize,
)


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
        models: `S` networks of one architecture, each freshly initialized; a `Standardize` in one measures its records.
        data: all records.
        members: bool `(S, N)`, the records of each model.
        recipe: how to train; no augmentation, no early stopping.
        seed: of the order of records and of dropout.
        watch: called after each epoch with its number from 1.

    Returns:
        The trained networks in evaluation mode; those given are left as they were.

    Raises:
        BadInputError: an architecture or recipe that `stackable` refuses, fewer than two records for some model, or a
            loss that is no longer finite.
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
    fast = recipe.precision == "fast" and has_fast_bfloat16(place)
    models = [copy.deepcopy(model) for model in models]
    for model, mask in zip(models, members, strict=True):
        measure(model, data.inputs[torch.from_numpy(mask)])
    skeleton = copy.deepcopy(models[0]).train()
    stacks = _stack(skeleton, models, place)
    learned = [stack for stack in stacks.values() if stack.requires_grad]
    optimizer = optimizer_of(learned, recipe)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, recipe.lr_decay)
    generator = torch.Generator().manual_seed(seed)
    inputs, targets = data.inputs.to(place), data.targets.to(place)

    with seeded(seed):
        for epoch in range(recipe.epochs):
            total = torch.zeros((), device=place)
            for rows, weight in _batches(members, recipe.batch_size, generator):
                chosen, share = rows.flatten().to(place), (weight / weight.sum(dim=1, keepdim=True)).to(place)
                batch = inputs.index_select(0, chosen).unflatten(0, rows.shape)
                with torch.autocast(place.type, dtype=torch.bfloat16, enabled=fast):
                    answer = _forward(skeleton, stacks, batch).flatten(0, 1).float()
                losses = functional.cross_entropy(answer, targets.index_select(0, chosen), reduction="none")
                loss = (losses * share.flatten()).sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.detach()
            if not total.isfinite():
                raise BadInputError(
                    f"training diverged in epoch {epoch + 1}: the loss is {float(total)}. Lower the learning rate."
                )
            schedule.step()
            watch(epoch + 1)
    return [_unstack(model, stacks, skeleton, index) for index, model in enumerate(models)]


def _stack(skeleton: nn.Module, models: Sequence[nn.Module], place: torch.device) -> dict[int, Tensor]:
    """All models' values `(S, *shape)` of each parameter and buffer of `skeleton`, by its id; matrices `(S, in, out)`.

    Of a matrix in the layout of `nn.Linear`, a batched product gives the gradient transposed, which is costly to copy.
    """
    matrices = _matrices(skeleton)
    stacks = {}
    for tensor, *values in zip(_tensors(skeleton), *map(_tensors, models), strict=True):
        stack = torch.stack([value.detach() for value in values]).to(place)
        if id(tensor) in matrices:
            stack = stack.mT.contiguous()
        stacks[id(tensor)] = stack.requires_grad_(tensor.requires_grad)
    return stacks


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _matrices(skeleton: nn.Module) -> set[int]:
    return {id(module.weight) for module in skeleton.modules() if isinstance(module, nn.Linear)}


def _forward(module: nn.Module, stacks: dict[int, Tensor], x: Tensor) -> Tensor:
    """What each model answers to its own batch, `(S, B, ...)` to `(S, B, ...)`."""
    match module:
        case nn.Sequential():
            for child in module:
                x = _forward(child, stacks, x)
            return x
        case Standardize():
            return (x - stacks[id(module.mean)].unsqueeze(1)) / stacks[id(module.std)].unsqueeze(1)
        case nn.Flatten(start_dim=start, end_dim=end):
            return x.flatten(start + (start >= 0), end + (end >= 0))
        case nn.Linear():
            flat, weight = x.flatten(1, -2), stacks[id(module.weight)]
            if module.bias is None:
                product = torch.bmm(flat, weight)
            else:
                product = torch.baddbmm(stacks[id(module.bias)].unsqueeze(1), flat, weight)
            return product.unflatten(1, x.shape[1:-1])
        case nn.LayerNorm(normalized_shape=shape):
            x = functional.layer_norm(x, shape, eps=module.eps)
            for parameter, apply in ((module.weight, torch.mul), (module.bias, torch.add)):
                if parameter is not None:
                    stack = stacks[id(parameter)]
                    x = apply(x, stack.view(len(stack), *[1] * (x.ndim - stack.ndim), *stack.shape[1:]))
            return x
    return module(x)


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
    while (batches[-1][1].sum(dim=1) == 0).any():  # a model with no record left for the last batch
        tail = [torch.cat(pair, dim=1) for pair in zip(*batches[-2:], strict=True)]
        batches[-2:] = [(tail[0], tail[1])]
    return batches


def _unstack(model: nn.Module, stacks: dict[int, Tensor], skeleton: nn.Module, index: int) -> nn.Module:
    """`model` with its trained parameters put in."""
    matrices = _matrices(skeleton)
    with torch.no_grad():
        for parameter, key in zip(model.parameters(), map(id, skeleton.parameters()), strict=True):
            parameter.copy_(stacks[key][index].T if key in matrices else stacks[key][index])
    return model.eval()
