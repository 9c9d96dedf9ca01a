"""A convolutional variational bottleneck early in the network."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from divulge.defenses.precode import StochasticDefense, behind
from divulge.errors import BadInputError
from divulge.models.bottleneck import convolutional_bottleneck
from divulge.releases import Tampering


@dataclass(frozen=True)
class ConvolutionalBottleneck(StochasticDefense):
    """A variational bottleneck of convolutions without biases behind the first block of a network.

    Scheliga, Maeder and Seeland 2023 (arXiv 2309.04515), who repair PRECODE with it: most layers lie behind the draw,
    and no bias tells what went into the bottleneck. The divergence in the loss is that of the code that is drawn; the
    authors' code takes the standard deviation for the logarithm of a variance there.

    Args:
        layer: name of a convolution, as in `named_modules`, behind whose block the bottleneck goes; None for the first.
        kernel: side of the encoder.
        beta: weight of the divergence, in nats, in the loss; the paper has 0.1 for small networks, 5e-5 for a ResNet.
        always: draw in answers too, as the authors' code does, rather than in gradients alone.
        seed: of the bottleneck's first weights.
    """

    name: ClassVar[str] = "cvb"
    source: ClassVar[str] = "Scheliga et al. 2023, arXiv 2309.04515"
    randomness: ClassVar[str] = "the noise of the code, for every record of every gradient"

    layer: str | None = None
    kernel: int = 5
    beta: float = 0.1
    always: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.beta < 0 or self.kernel < 1 or self.kernel % 2 == 0:
            raise BadInputError(f"cvb: expected beta >= 0 and an odd kernel, got {self.beta} and {self.kernel}.")

    def architecture(self, model: nn.Module) -> nn.Module:
        """The network with the bottleneck put in; see `divulge.models.bottleneck`."""
        return convolutional_bottleneck(
            model, self.layer, kernel=self.kernel, beta=self.beta, always=self.always, seed=self.seed
        )

    def tampering(self, model: nn.Module) -> Tampering:
        """As of PRECODE."""
        return Tampering(withheld=behind(model))
