"""The gradient shared in low precision: signs, a few levels, or half floats."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from divulge.defenses.base import Defense, Shared
from divulge.errors import BadInputError
from divulge.releases import GradientRecord, Tampering

FLOATS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class GradientSign(Defense):
    """Of every entry only the sign is shared, and of each tensor one magnitude.

    signSGD (Bernstein et al. 2018, arXiv 1802.04434) shares the sign alone. With the mean magnitude of a tensor beside
    it, as in Karimireddy et al. 2019 (arXiv 1901.09847), the server can go on as with a gradient.

    Args:
        magnitude: of the shared entries: the `mean` magnitude of their tensor, or `one`, which tells less.
    """

    name: ClassVar[str] = "gradient-sign"
    source: ClassVar[str] = "Bernstein et al. 2018, arXiv 1802.04434"

    magnitude: Literal["mean", "one"] = "mean"

    def share(
        self, record: GradientRecord, *, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> Shared:
        """The signs of the gradient; an entry that is zero stays zero."""
        sizes = {name: one.abs().mean() if self.magnitude == "mean" else 1 for name, one in record.gradients.items()}
        signs = {name: sizes[name] * one.sign() for name, one in record.gradients.items()}
        return Shared(replace(record, gradients=signs))

    def tampering(self, model: nn.Module) -> Tampering:
        """That an entry tells its sign alone."""
        return Tampering(rounding="sign")


@dataclass(frozen=True)
class GradientQuantization(Defense):
    """Every entry is rounded: to a few evenly spaced levels of its tensor, or to a half-precision float.

    QSGD (Alistarh et al. 2017, arXiv 1610.02132) and TernGrad (Wen et al. 2017, arXiv 1705.07878; two bits) round
    stochastically: up or down by chance, so that the mean is right. The largest magnitude of a tensor is a level.

    Args:
        to: `levels` evenly spaced from minus to plus the largest magnitude of the tensor; `float16`; or `bfloat16`.
        bits: the levels are the whole numbers below `2**(bits - 1)` in magnitude, times a step; for `levels` only.
        stochastic: round up or down by chance; for `levels` only.
    """

    name: ClassVar[str] = "gradient-quantization"
    source: ClassVar[str] = "Alistarh et al. 2017, arXiv 1610.02132"
    randomness: ClassVar[str] = "where rounding is stochastic, what shifted each entry before it was rounded, by name"

    to: Literal["levels", "float16", "bfloat16"] = "levels"
    bits: int = 8
    stochastic: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            raise BadInputError(
                f"gradient-quantization: expected 2 to 16 bits, got {self.bits}. For one bit use gradient-sign."
            )
        if self.stochastic and self.to != "levels":
            raise BadInputError(f"gradient-quantization: rounding to {self.to} is to the nearest, never stochastic.")

    def share(
        self, record: GradientRecord, *, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> Shared:
        """The rounded gradient, in the type that it came in."""
        gradients = record.gradients
        if self.to != "levels":
            halves = {name: one.to(FLOATS[self.to]).to(one) for name, one in gradients.items()}
            return Shared(replace(record, gradients=halves))
        steps = {name: one.abs().max() / (2 ** (self.bits - 1) - 1) for name, one in gradients.items()}
        shifts = {name: self._shift(one, steps[name], generator) for name, one in gradients.items()}
        rounded = {name: self._rounded(one + shifts[name], steps[name]) for name, one in gradients.items()}
        return Shared(replace(record, gradients=rounded), shifts if self.stochastic else None)

    def _shift(self, tensor: Tensor, step: Tensor, generator: torch.Generator) -> Tensor:
        """Half a step up or down at most: rounding to the nearest after it is stochastic rounding."""
        if not self.stochastic:
            return torch.zeros_like(tensor)
        chance = torch.rand(tensor.shape, generator=generator, device=generator.device).to(tensor)
        return (chance - 0.5) * step

    def _rounded(self, tensor: Tensor, step: Tensor) -> Tensor:
        most = 2 ** (self.bits - 1) - 1
        return (tensor / step).round().clamp(-most, most) * step if step > 0 else tensor

    def tampering(self, model: nn.Module) -> Tampering:
        """That differences below a step say nothing; of half floats nothing: their error is small and relative."""
        return Tampering(rounding="steps") if self.to == "levels" else Tampering()
