"""Negative label smoothing: the network is taught to be surer than sure."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from divulge.data import Dataset
from divulge.defenses.base import Defense, Trained
from divulge.errors import BadInputError
from divulge.training import Recipe, fit


@dataclass(frozen=True)
class LabelSmoothing(Defense):
    """Labels smoothed by a negative share, which blurs what separates the class from each other one by itself.

    Struppek, Hintersdorf and Kersting 2024 (arXiv 2310.06549): a positive share, as it is used against overfitting,
    makes inversion easier. The loss is `(1 - alpha)` times the cross-entropy of the label plus `alpha` times the mean
    of that of every class; with a negative `alpha` it has no lower end, so train for few epochs.

    Args:
        alpha: the share, below 1.
    """

    name: ClassVar[str] = "label-smoothing"
    source: ClassVar[str] = "Struppek et al. 2024, arXiv 2310.06549"

    alpha: float = -0.05

    def __post_init__(self) -> None:
        if not -1 < self.alpha < 1 or self.alpha == 0:
            raise BadInputError(f"label-smoothing: expected alpha between -1 and 1 and not 0, got {self.alpha}.")

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a batch of logits `(N, C)`, in nats."""
        told = -logits.log_softmax(dim=1)
        return (1 - self.alpha) * functional.cross_entropy(logits, targets) + self.alpha * told.mean()

    def train(
        self,
        model: nn.Module,
        data: Dataset,
        recipe: Recipe,
        *,
        seed: int,
        validation: Dataset | None = None,
        watch: Callable[[int], None] = lambda epoch: None,
        checkpoint: Path | None = None,
    ) -> Trained:
        """Train by `divulge.training.fit` with this loss; early stopping still looks at the cross-entropy."""
        return Trained(fit(model, data, recipe, seed=seed, validation=validation, watch=watch, loss_function=self.loss))
