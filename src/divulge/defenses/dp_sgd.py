"""DP-SGD: training with differential privacy."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import nn

from divulge.data import Dataset
from divulge.defenses.base import Defense, Trained
from divulge.models.convert import to_private
from divulge.training import Privacy, Recipe, fit_private


@dataclass(frozen=True)
class DpSgd(Privacy, Defense):
    """Each record's gradient is clipped, and noise added to their sum, so that no record can change the model much.

    Abadi et al. 2016 (arXiv 1607.00133). The settings are those of `Privacy`, and one more.

    Args:
        standardize: train convolutions with standardized weights (Qiao et al. 2019, arXiv 1903.10520).
    """

    name: ClassVar[str] = "dp-sgd"
    source: ClassVar[str] = "Abadi et al. 2016, arXiv 1607.00133"
    randomness: ClassVar[str] = (
        "the records drawn into each training step and the noise on its sum; none after training"
    )

    standardize: bool = False

    def architecture(self, model: nn.Module) -> nn.Module:
        """The network with group norm in place of batch norm, which mixes records; see `divulge.models.convert`."""
        return to_private(model, standardize=self.standardize)

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
        """Train by `divulge.training.fit_private`; `validation` records are not looked at."""
        private = fit_private(model, data, recipe, self, seed=seed, watch=watch, checkpoint=checkpoint)
        return Trained(private.history, private.ledger)
