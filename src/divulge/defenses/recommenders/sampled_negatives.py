"""Sampled negatives without an output bias: an update that tells of a few items, and has no bias to read them from."""

import copy
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from divulge.defenses.recommenders.base import BasketDefense
from divulge.errors import BadInputError
from divulge.releases.baskets import BasketSharing


@dataclass(frozen=True)
class SampledNegatives(BasketDefense):
    """The softmax runs over the basket and some items drawn against it, and the last layer has no bias.

    Args:
        negatives: other items that are drawn for each item of the basket.
    """

    name: ClassVar[str] = "sampled-negatives"
    source: ClassVar[str] = "Jean et al. 2015, arXiv 1412.2007, for the sampled softmax"
    randomness: ClassVar[str] = "the items drawn against the basket"
    adaptive: ClassVar[str] = (
        "reads the input of the last layer one layer below, and then each item's signal from its row of the weights"
    )

    negatives: int = 5

    def __post_init__(self) -> None:
        if self.negatives < 1:
            raise BadInputError(f"{self.name}: expected negatives of 1 or more, got {self.negatives}.")

    @property
    def sharing(self) -> BasketSharing:
        """The basket against its negatives."""
        return BasketSharing(negatives=self.negatives)

    def architecture(self, model: nn.Module) -> nn.Module:
        """The recommender without the bias of its last linear layer.

        Raises:
            BadInputError: there is no linear layer.
        """
        model = copy.deepcopy(model)
        layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
        if not layers:
            raise BadInputError(f"{self.name}: expected a recommender with a linear layer, got none.")
        layers[-1].register_parameter("bias", None)
        return model
