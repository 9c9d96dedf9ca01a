"""The optimizers a recipe may name."""

from collections.abc import Iterable

import torch
from torch import Tensor

from divulge.training.recipe import Recipe


def optimizer_of(parameters: Iterable[Tensor], recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer of `recipe` for `parameters`, at its first learning rate."""
    if recipe.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    return torch.optim.SGD(
        parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
    )
