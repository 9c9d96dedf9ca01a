"""MID: the last layer is given a code that says as little about the record as classifying allows."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from divulge.defenses.precode import StochasticDefense, behind
from divulge.errors import BadInputError
from divulge.models.bottleneck import linear_bottleneck
from divulge.releases import Tampering


@dataclass(frozen=True)
class Mid(StochasticDefense):
    """A variational bottleneck before the last layer, with a penalty on what its code tells of the record.

    Wang, Zhang and Jia 2021 (MID, arXiv 2009.05241): the divergence of the code from a standard normal one bounds the
    mutual information of record and answer. Code is drawn in training; a trained network answers by its mean.

    Args:
        width: entries of the code; None for 256, or the layer's inputs where those are fewer.
        beta: weight of the divergence, in nats, in the loss.
        seed: of the bottleneck's first weights.
    """

    name: ClassVar[str] = "mid"
    source: ClassVar[str] = "Wang et al. 2021, arXiv 2009.05241"
    randomness: ClassVar[str] = "the noise of the code in each training step; none after training"

    width: int | None = None
    beta: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.beta < float("inf"):
            raise BadInputError(f"mid: expected a finite beta of 0 or more, got {self.beta}.")

    def architecture(self, model: nn.Module) -> nn.Module:
        """The network with the bottleneck put in; see `divulge.models.bottleneck`."""
        return linear_bottleneck(model, None, width=self.width, beta=self.beta, always=False, seed=self.seed)

    def tampering(self, model: nn.Module) -> Tampering:
        """As of PRECODE."""
        return Tampering(withheld=behind(model))
