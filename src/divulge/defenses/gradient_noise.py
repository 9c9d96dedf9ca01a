"""Noise on the shared gradient."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from divulge.defenses.base import Defense, Shared
from divulge.errors import BadInputError
from divulge.releases import GradientRecord, Tampering

Law = Literal["gaussian", "laplace"]


@dataclass(frozen=True)
class GradientNoise(Defense):
    """Independent noise of a fixed size is added to every entry of the shared gradient.

    Zhu, Liu and Han 2019 (arXiv 1906.08935), section 5.1, with variances of 1e-4 to 1e-1. The size is absolute, as it
    is there and in what followed: one relative to the gradient would itself be private. Nothing is clipped, so no
    amount of it is differentially private; see `client-dp`.

    Args:
        std: standard deviation of the noise, whatever its law; 0 for none.
        law: a Laplace law of standard deviation `std` has the scale `std / sqrt(2)`.
    """

    name: ClassVar[str] = "gradient-noise"
    source: ClassVar[str] = "Zhu et al. 2019, arXiv 1906.08935"
    randomness: ClassVar[str] = "the noise on every tensor, by its name"

    std: float = 0.1
    law: Law = "gaussian"

    def __post_init__(self) -> None:
        if not 0 <= self.std < math.inf:
            raise BadInputError(f"gradient-noise: expected a finite std of 0 or more, got {self.std}.")

    def share(
        self, record: GradientRecord, *, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> Shared:
        """The gradient with noise on it."""
        drawn = {name: drawn_like(one, self.std, self.law, generator) for name, one in record.gradients.items()}
        noisy = {name: one + drawn[name] for name, one in record.gradients.items()}
        return Shared(replace(record, gradients=noisy), drawn)

    def tampering(self, model: nn.Module) -> Tampering:
        """The law of the noise and its size, which are settings and so public."""
        return Tampering(noise=self.law, std=self.std) if self.std else Tampering()


def drawn_like(tensor: Tensor, std: float, law: Law, generator: torch.Generator) -> Tensor:
    """Independent noise for each entry of a tensor, drawn where the generator is: the same on every device."""
    if law == "gaussian":
        noise = torch.randn(tensor.shape, generator=generator, device=generator.device)
    else:
        # A Laplace variable is the difference of two exponential ones of its scale.
        pair = torch.empty((2, *tensor.shape), device=generator.device).exponential_(generator=generator)
        noise = (pair[0] - pair[1]) / math.sqrt(2)
    return (std * noise).to(tensor)
