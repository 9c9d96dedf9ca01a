"""MultVAE: the variational autoencoder of who has which items, as recommenders use it, and its loss."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from divulge.errors import BadInputError
from divulge.models.base import Architecture
from divulge.models.stochastic import MaskedDropout, Sample


class UnitLength(nn.Module):
    """Divides each record `(N, D)` by its length."""

    def forward(self, given: Tensor) -> Tensor:
        """The scaled records."""
        return functional.normalize(given, dim=1)


class LogVariance(Sample):
    """A draw whose input holds K means and K logarithms of variances."""

    def moments(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the code."""
        mean, raw = given.chunk(2, dim=1)
        return mean, (raw / 2).exp()


@dataclass(frozen=True)
class MultVAE(Architecture):
    """A variational autoencoder with a multinomial likelihood, Liang et al. 2018 (arXiv 1802.05814).

    The basket at unit length, dropout, an encoder to means and log-variances, the draw, and a decoder to one logit an
    item. Trained across users' devices it is FedVAE (Polato 2021, IJCNN).

    Args:
        hidden: width of the hidden layer on either side.
        code: entries of the code.
        dropout: share of the basket that is dropped.
        beta: weight of the code's divergence in the loss.
        output_bias: whether the last layer has biases.
    """

    name: ClassVar[str] = "multvae"

    hidden: int = 600
    code: int = 200
    dropout: float = 0.5
    beta: float = 0.2
    output_bias: bool = True

    def __post_init__(self) -> None:
        if min(self.hidden, self.code) < 1 or not 0 <= self.dropout < 1 or not 0 <= self.beta < math.inf:
            raise BadInputError(
                "multvae: expected positive widths, a dropout in [0, 1) and a beta of 0 or more, got "
                f"{self.hidden}, {self.code}, {self.dropout} and {self.beta}."
            )

    def assemble(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The network itself; see `Architecture`.

        Raises:
            BadInputError: records that are no table of items, or another number of logits than of items.
        """
        if shape != (classes,):
            raise BadInputError(
                f"multvae: expected records (items,) and a logit for each item, got records {shape} and {classes}."
            )
        layers = nn.Sequential(
            *(UnitLength(), MaskedDropout(self.dropout)),
            *(nn.Linear(classes, self.hidden), nn.Tanh(), nn.Linear(self.hidden, 2 * self.code)),
            LogVariance(self.beta),
            *(nn.Linear(self.code, self.hidden), nn.Tanh()),
            nn.Linear(self.hidden, classes, bias=self.output_bias),
        )
        for layer in layers:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                if layer.bias is not None:
                    nn.init.normal_(layer.bias, std=0.001)
        return layers


def multinomial(logits: Tensor, baskets: Tensor) -> Tensor:
    """The multinomial loss of each user `(N,)`: minus the sum of the log-shares of the items in the basket.

    Args:
        logits: `(N, items)`; `-inf` for an item that is left out of the softmax.
        baskets: `(N, items)`, 1 for an item of the user, else 0.
    """
    shares = logits.log_softmax(dim=1)
    return -(baskets * shares.masked_fill(baskets == 0, 0)).sum(dim=1)
