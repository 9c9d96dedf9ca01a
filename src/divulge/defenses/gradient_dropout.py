"""Dropout as a defense of gradients."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from divulge.defenses.dropout import Dropout
from divulge.defenses.precode import StochasticDefense
from divulge.models.stochastic import injectable
from divulge.releases import Tampering


@dataclass(frozen=True)
class GradientDropout(StochasticDefense, Dropout):
    """Dropout before each fully connected layer but the first, so that gradients depend on random masks.

    What was dropped, for an oracle, is a mask of ones where a unit was kept. Scheliga, Maeder and Seeland 2023 (arXiv
    2208.06163) measure it and search for the masks.
    """

    name: ClassVar[str] = "gradient-dropout"
    source: ClassVar[str] = "Scheliga et al. 2023, arXiv 2208.06163"
    randomness: ClassVar[str] = "the mask of each dropout layer, for every record of every gradient"

    rate: float = 0.25
    patience: int | None = None

    def architecture(self, model: nn.Module) -> nn.Module:
        """The network with dropout put in; dropout that it had keeps its own rate and becomes part of the defense."""
        return injectable(super().architecture(model))

    def tampering(self, model: nn.Module) -> Tampering:
        """An entry that is exactly zero may be that of a dropped unit."""
        return Tampering(zeros=True)
