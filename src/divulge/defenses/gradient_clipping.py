"""The shared gradient scaled down to a largest norm."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from divulge.defenses.base import Defense, Shared
from divulge.errors import BadInputError
from divulge.releases import GradientRecord, Tampering


@dataclass(frozen=True)
class GradientClipping(Defense):
    """A gradient longer than `norm`, over all tensors together, is scaled down to it.

    The clipping of Abadi et al. 2016 (arXiv 1607.00133) on the gradient of a whole batch and without noise, as gradient
    inversion is measured against it: the direction stays, and with it all that a cosine compares.

    Args:
        norm: the largest norm of what is shared; infinity for no clipping.
    """

    name: ClassVar[str] = "gradient-clipping"
    source: ClassVar[str] = "Abadi et al. 2016, arXiv 1607.00133"

    norm: float = 1.0

    def __post_init__(self) -> None:
        if not self.norm > 0:
            raise BadInputError(f"gradient-clipping: expected a positive norm, got {self.norm}.")

    def share(
        self, record: GradientRecord, *, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> Shared:
        """The gradient, scaled if it is too long."""
        length = float(torch.stack([one.double().norm() for one in record.gradients.values()]).norm())
        if length <= self.norm:
            return Shared(record)
        factor = self.norm / length
        return Shared(replace(record, gradients={name: factor * one for name, one in record.gradients.items()}))

    def tampering(self, model: nn.Module) -> Tampering:
        """That the length may not be the gradient's own."""
        return Tampering(scaled=True)
