"""A variational information bottleneck: a representation that keeps little of the record beside its class."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from divulge.defenses.base import Defense
from divulge.errors import BadInputError
from divulge.models.bottleneck import linear_bottleneck


@dataclass(frozen=True)
class InformationBottleneck(Defense):
    """A code drawn around a mean before a linear layer, charged for what it tells of the record.

    Alemi et al. 2017 (arXiv 1612.00410). The divergence of the code from a standard normal one, an upper bound on what
    it tells of the record in nats, is part of the training loss; the code is drawn in answers too. Song and Shmatikov
    2020 (arXiv 1905.11742) hold such a representation against overlearning. Layers before the draw are as they were.

    Args:
        layer: name of the linear layer before which the code goes, as in `named_modules`; none for the last.
        width: entries of the code; none for as many as the layer has inputs, and 256 at most.
        beta: weight of the divergence in the loss.
        seed: of the bottleneck's first weights.
    """

    name: ClassVar[str] = "information-bottleneck"
    source: ClassVar[str] = "Alemi et al. 2017, arXiv 1612.00410"
    randomness: ClassVar[str] = "the noise of the code, for every record of every answer"

    layer: str | None = None
    width: int | None = None
    beta: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise BadInputError(
                f"information-bottleneck: expected beta > 0, got {self.beta}. At 0 nothing is charged: leave it out."
            )

    def architecture(self, model: nn.Module) -> nn.Module:
        """The network with the bottleneck put in; see `divulge.models.bottleneck`."""
        return linear_bottleneck(model, self.layer, width=self.width, beta=self.beta, always=True, seed=self.seed)
