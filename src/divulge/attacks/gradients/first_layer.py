"""The record itself, where the first layer is a biased linear one: a closed form."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from divulge.attacks.gradients.base import GradientAttack, Reconstructions
from divulge.attacks.gradients.entrance import entrance
from divulge.attacks.gradients.labels import labels_by_bias
from divulge.attacks.gradients.layer_input import layer_input
from divulge.attacks.gradients.layers import layer
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.releases import GradientRecord


@dataclass(frozen=True)
class FirstLayer(GradientAttack):
    """Divides the first linear layer's weight gradient by its bias gradient, which is the record, for batches of one.

    No defense that leaves this pair of tensors alone changes the answer.

    Args:
        tolerance: largest unexplained share of the weight gradient at which the record is claimed to be exact.
    """

    name: ClassVar[str] = "first-layer"
    source: ClassVar[str] = "Phong et al. 2018, doi 10.1109/TIFS.2017.2787987"

    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        if self.tolerance <= 0:
            raise BadInputError(f"first-layer: expected a positive tolerance, got {self.tolerance}.")

    def invert(
        self, records: list[GradientRecord], model: nn.Module, *, knowledge: Knowledge, generator: torch.Generator
    ) -> Reconstructions:
        """Rebuild each record; `matching` is the unexplained share of the first weight gradient."""
        if records[0].batch_size != 1:
            raise BadInputError(
                f"{self.name}: expected batches of 1, got {records[0].batch_size}. Use active-neurons or spear."
            )
        door = entrance(records[0], model)
        answers = [layer_input(layer(record, model, door.layer)) for record in records]
        matching = torch.tensor([answer.residual for answer in answers])
        found = matching < 1
        inputs = door.records(torch.stack([answer.values for answer in answers])).float()
        inputs[~found] = 0
        return Reconstructions(
            inputs=inputs[:, None],
            targets=labels_by_bias(records, model),
            matching=matching,
            exact=bool((matching <= self.tolerance).all()),
            found=found[:, None],
            facts={"layer": door.layer},
        )
