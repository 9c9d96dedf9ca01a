"""PRECODE with noise on the gradients of the layers before it."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from divulge.defenses.base import Shared
from divulge.defenses.precode import Precode
from divulge.errors import BadInputError
from divulge.models.stochastic import Sample
from divulge.releases import GradientRecord, Tampering


@dataclass(frozen=True)
class PartialPerturbation(Precode):
    """PRECODE, and Gaussian noise on the shared gradients of all layers before its bottleneck.

    Scheliga, Maeder and Seeland 2022 (arXiv 2208.04767), against attacks that leave out what lies behind the draw.
    Nothing is clipped, so that the noise promises nothing in the sense of differential privacy.

    Args:
        std: standard deviation of the noise.
    """

    name: ClassVar[str] = "ppp"
    source: ClassVar[str] = "Scheliga et al. 2022, arXiv 2208.04767"
    randomness: ClassVar[str] = "the noise of the code, and that on the early gradients, by the names of the tensors"

    std: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.std > 0:
            raise BadInputError(f"ppp: expected a positive std, got {self.std}. Without noise this is precode.")

    def share(
        self, record: GradientRecord, *, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> Shared:
        """The gradient under fresh noise of the code, with noise on the early tensors."""
        drawn = super().share(record, model=model, inputs=inputs, targets=targets, generator=generator)
        gradients = dict(drawn.record.gradients)
        added = {
            name: self.std * torch.randn(gradients[name].shape, generator=generator).to(gradients[name])
            for name in before(model)
        }
        gradients |= {name: gradients[name] + noise for name, noise in added.items()}
        return Shared(replace(drawn.record, gradients=gradients), {**(drawn.randomness or {}), **added})

    def tampering(self, model: nn.Module) -> Tampering:
        """As of PRECODE, with the law of the noise, which the encoder's gradients in fact lack."""
        return replace(super().tampering(model), noise="gaussian", std=self.std)


def before(model: nn.Module) -> list[str]:
    """The parameters of the layers before the encoder of a bottleneck."""
    order = [name for name, _ in model.named_modules()]
    draw = next(name for name, module in model.named_modules() if isinstance(module, Sample))
    weighted = [name for name in order[: order.index(draw)] if isinstance(model.get_submodule(name), nn.Linear)]
    early = order[: order.index(weighted[-1])]
    return [name for name, p in model.named_parameters() if p.requires_grad and name.rpartition(".")[0] in early]
