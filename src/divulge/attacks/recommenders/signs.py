"""Two rules of thumb for baskets: the sign of the last bias gradient, and which columns of the first layer moved."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from divulge.attacks.knowledge import Knowledge
from divulge.attacks.recommenders.base import Baskets, RecommenderAttack, entry, outer
from divulge.errors import BadInputError
from divulge.releases import GradientRecord


@dataclass(frozen=True)
class OutputBias(RecommenderAttack):
    """Names the items whose last bias gradient is negative.

    It is `N p_i - 1` for an item among N and `N p_i` for others, with the share `p_i` of the softmax: right where no
    share reaches `1 / N`, as in an untrained network, and blind for the items that a trained one gives more. Of several
    users it tells the union.
    """

    name: ClassVar[str] = "output-bias"

    def read(
        self, records: list[GradientRecord], model: nn.Module, *, knowledge: Knowledge, generator: torch.Generator
    ) -> Baskets:
        """The signs; `matching` is 0, as nothing is explained.

        Raises:
            BadInputError: a last layer without a bias.
        """
        place, layer = outer(self.name, model)
        if layer.bias is None:
            raise BadInputError(
                f"{self.name}: expected a last layer with a bias, got one without. Use basket-closed-form."
            )
        scores = -torch.stack([record.gradients[entry(place, "bias")] for record in records])[:, None].float()
        return Baskets(scores > 0, scores, torch.zeros(len(records)))


@dataclass(frozen=True)
class EncoderColumns(RecommenderAttack):
    """Names the items whose column of the first layer's gradient is not zero.

    Every one of them is in the basket; what dropout left out of this step is missing. Of several users it tells the
    union.
    """

    name: ClassVar[str] = "encoder-columns"

    def read(
        self, records: list[GradientRecord], model: nn.Module, *, knowledge: Knowledge, generator: torch.Generator
    ) -> Baskets:
        """The columns; `matching` is 0, as nothing is explained."""
        place, _ = outer(self.name, model, first=True)
        scores = torch.stack([record.gradients[entry(place, "weight")].norm(dim=0) for record in records])[:, None]
        return Baskets(scores > 0, scores.float(), torch.zeros(len(records)))
