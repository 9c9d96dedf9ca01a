"""PRECODE for recommenders: one more variational bottleneck, before the layer that gives the items."""

import copy
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from divulge.defenses.recommenders.base import BasketDefense
from divulge.errors import BadInputError
from divulge.models.bottleneck import linear_bottleneck


@dataclass(frozen=True)
class BasketBottleneck(BasketDefense):
    """A variational bottleneck before the last linear layer, also where the recommender has a variational code already.

    Args:
        width: entries of the code; None for 256, or as many as the layer has inputs where those are fewer.
        beta: weight of the divergence in the loss.
        seed: of the bottleneck's first weights.
    """

    name: ClassVar[str] = "basket-bottleneck"
    source: ClassVar[str] = "Scheliga et al. 2022, arXiv 2108.04725"
    randomness: ClassVar[str] = "the noise of the code, for every update"
    adaptive: ClassVar[str] = "reads what entered the last layer from its gradient, whatever was drawn on the way"

    width: int | None = None
    beta: float = 1e-3
    seed: int = 0

    def architecture(self, model: nn.Module) -> nn.Module:
        """The recommender with the bottleneck put in; its last layer is now that of an `nn.Sequential`.

        Raises:
            BadInputError: there is no linear layer, or a bottleneck wider than it.
        """
        model = copy.deepcopy(model)
        layers = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
        if not layers:
            raise BadInputError(f"{self.name}: expected a recommender with a linear layer, got none.")
        last = model.get_submodule(layers[-1])
        new = linear_bottleneck(last, width=self.width, beta=self.beta, always=False, seed=self.seed)
        if not layers[-1]:
            return new
        place, _, own = layers[-1].rpartition(".")
        setattr(model.get_submodule(place), own, new.train(last.training))
        return model
