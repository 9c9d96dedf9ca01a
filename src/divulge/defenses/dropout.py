"""Dropout with early stopping."""

import copy
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn

from divulge.defenses.base import Defense
from divulge.errors import BadInputError
from divulge.training import Recipe

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Dropout(Defense):
    """Dropout before each fully connected layer but the first of the network, and training stopped early.

    Srivastava et al. 2014 (JMLR 15); against membership inference in Salem et al. 2019 (arXiv 1806.01246).

    Args:
        rate: share of activations dropped.
        patience: epochs without a lower validation loss before training stops; None to train to the end.
    """

    name: ClassVar[str] = "dropout"
    source: ClassVar[str] = "Salem et al. 2019, arXiv 1806.01246"
    randomness: ClassVar[str] = "the dropped activations of each training step; none after training"

    rate: float = 0.5
    patience: int | None = 5

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise BadInputError(f"dropout: expected 0 < rate < 1, got {self.rate}.")
        if self.patience is not None and self.patience < 1:
            raise BadInputError(f"dropout: expected patience >= 1 or none, got {self.patience}.")

    @property
    def needs_validation(self) -> bool:
        """Stopping early takes records to judge by."""
        return self.patience is not None

    def architecture(self, model: nn.Module) -> nn.Module:
        """The network with dropout put before its linear layers, all but one that reads the record itself.

        Linear layers inside ready-made blocks of PyTorch, such as attention, stay as they are: the block reads their
        weights.
        """
        model = copy.deepcopy(model)
        holders = [
            (m, name)
            for m in model.modules()
            if isinstance(m, CONTAINERS) or not type(m).__module__.startswith("torch.nn.")
            for name, child in m.named_children()
            if isinstance(child, nn.Linear)
        ]
        reads_record = next((m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))), None)
        for holder, name in holders:
            layer = getattr(holder, name)
            if layer is not reads_record:
                setattr(holder, name, nn.Sequential(nn.Dropout(self.rate), layer))
        return model

    def recipe(self, recipe: Recipe) -> Recipe:
        """The same with early stopping."""
        return replace(recipe, patience=self.patience)
