"""PRECODE: a variational bottleneck before the last linear layer, so that gradients depend on fresh noise."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from divulge.defenses.base import Defense, Shared
from divulge.errors import BadInputError
from divulge.models.bottleneck import linear_bottleneck
from divulge.models.stochastic import Sample, draw_noise, stochastic_layers
from divulge.releases import GradientRecord, Tampering, share


@dataclass(frozen=True)
class StochasticDefense(Defense):
    """Base of defenses that put stochastic layers into the network.

    What they drew, for an oracle, is the noise of each such layer by its name, `(N, ...)`; see
    `divulge.models.stochastic`. Of an update over local steps it is not told.
    """

    def share(
        self, record: GradientRecord, *, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> Shared:
        """The gradient under noise from `generator` in place of what the client drew.

        Raises:
            BadInputError: a model without a stochastic layer.
        """
        if not stochastic_layers(model):
            raise BadInputError(
                f"{self.name}: expected the network that its `architecture` gives, got one without a stochastic layer."
            )
        if record.kind == "update":
            return Shared(record)
        noise = draw_noise(model, inputs, generator=generator)
        drawn = share(model, inputs, targets, reduction=record.reduction, training=record.training, noise=noise)
        return Shared(replace(record, gradients=drawn.gradients), noise)


@dataclass(frozen=True)
class Precode(StochasticDefense):
    """A variational bottleneck before a linear layer: what reaches it is drawn around a mean, anew for every record.

    Scheliga, Maeder and Seeland 2022 (arXiv 2108.04725). The divergence of the drawn code from a standard normal one is
    part of the training loss.

    Args:
        layer: name of the linear layer, as in `named_modules`; None for the last.
        width: entries of the code; None for the paper's 256, or the layer's inputs where those are fewer.
        beta: weight of the divergence in the loss.
        bits: measure it in bits, as the authors' code does, rather than in nats.
        always: draw in answers too, as the authors' code does, rather than in gradients alone.
        seed: of the bottleneck's first weights.
    """

    name: ClassVar[str] = "precode"
    source: ClassVar[str] = "Scheliga et al. 2022, arXiv 2108.04725"
    randomness: ClassVar[str] = "the noise of the code, for every record of every gradient"

    layer: str | None = None
    width: int | None = None
    beta: float = 1e-3
    bits: bool = False
    always: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.beta < 0:
            raise BadInputError(f"{self.name}: expected beta >= 0, got {self.beta}.")

    def architecture(self, model: nn.Module) -> nn.Module:
        """The network with the bottleneck put in; see `divulge.models.bottleneck`."""
        beta = self.beta / math.log(2) if self.bits else self.beta
        return linear_bottleneck(model, self.layer, width=self.width, beta=beta, always=self.always, seed=self.seed)

    def tampering(self, model: nn.Module) -> Tampering:
        """The weights behind the draw depend on its noise the most; the last bias tells the labels all the same.

        Scheliga et al. 2022 (arXiv 2208.04767) leave these out of the matching, which lets a search converge again.
        """
        return Tampering(withheld=behind(model))


def behind(model: nn.Module) -> tuple[str, ...]:
    """The parameters behind the draw of a bottleneck, but for the last bias, by their full names; none without one."""
    order = list(model.named_modules())
    draws = [place for place, (_, module) in enumerate(order) if isinstance(module, Sample)]
    later = {name for name, _ in order[draws[0] :]} if draws else set()
    names = [name for name, _ in model.named_parameters() if name.rpartition(".")[0] in later]
    return tuple(name for name in names if name != names[-1] or not name.endswith("bias"))
