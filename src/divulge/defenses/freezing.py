"""Early layers that private records never touch."""

import copy
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from divulge.defenses.base import Defense
from divulge.errors import BadInputError


@dataclass(frozen=True)
class Freezing(Defense):
    """The first layers keep the weights they came with, so that nothing private is written into them.

    Ho et al. 2024 (TL-DMI, arXiv 2405.05588), who take those weights from public images. Here they are whatever the
    architecture starts with: random, unless its family says otherwise.

    Args:
        layers: how many layers with weights are left alone, counted from the record on.
    """

    name: ClassVar[str] = "early-freezing"
    source: ClassVar[str] = "Ho et al. 2024, arXiv 2405.05588"

    layers: int = 1

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise BadInputError(f"early-freezing: expected one layer or more, got {self.layers}.")

    def architecture(self, model: nn.Module) -> nn.Module:
        """The network with its first layers kept from training.

        Raises:
            BadInputError: no layer would be left to train.
        """
        model = copy.deepcopy(model)
        weighted = [module for module in model.modules() if list(module.parameters(recurse=False))]
        if len(weighted) <= self.layers:
            raise BadInputError(
                f"early-freezing: expected more layers with weights than the {self.layers} that are frozen, got "
                f"{len(weighted)}. Freeze fewer, or take a deeper network."
            )
        for module in weighted[: self.layers]:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
        return model
