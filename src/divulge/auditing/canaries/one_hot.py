"""White-box canaries: records whose clipped gradient is one coordinate that is theirs alone."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from divulge.attacks.reconstruction.transcript import gradients, rates
from divulge.auditing.canaries.base import Canary, Planted, stacked
from divulge.auditing.canaries.departures import uneven_noise, uneven_turns
from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.privacy.ledger import Ledger
from divulge.training import Recipe
from divulge.training.private import Privacy

UNEVEN_NOISE = "the noise is not of one size in all steps, as if it were divided by the size of the batch drawn"
UNEVEN_TURNS = "records take part too evenly or too unevenly for Poisson sampling, as in shuffled batches"


class Canaried(nn.Module):
    """A network that answers as `model` does and has, besides, one weight for each canary in each of some layers.

    A record carries one more channel (an image) or column (a table), which is constant: a canary's number from 1 over
    `canaries`, 0 for no canary. A canary passes `model` by, and only the gradient, not the answer, depends on its
    weights: so that gradient is `reach` times a constant, the same in each layer, whatever was trained so far.

    Args:
        model: maps `(N, *shape)` to logits `(N, classes)`.
        canaries: how many.
        layers: how many layers share a canary's gradient.
        reach: its size in each, far above any clipping norm.
    """

    numbers: Tensor

    def __init__(self, model: nn.Module, canaries: int, *, layers: int, reach: float) -> None:
        super().__init__()
        self.model = model
        places = [nn.utils.skip_init(nn.Linear, canaries, 1, bias=False) for _ in range(layers)]
        for place in places:
            nn.init.zeros_(place.weight)
        self.places = nn.ModuleList(places)
        self.reach = reach
        self.register_buffer("numbers", torch.arange(1.0, canaries + 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(N, classes)` of records that carry a canary's number or 0."""
        number = (x[:, -1:].flatten(1).amax(1, keepdim=True) * len(self.numbers)).round()
        logits = (number == 0) * self.model(x[:, :-1])
        drive = sum(place(self.reach * (number == self.numbers).to(x.dtype)) for place in self.places)
        return logits + nn.functional.pad(drive - drive.detach(), (0, logits.shape[1] - 1))


@dataclass(frozen=True)
class OneHot(Canary):
    """One-hot gradients, each canary's along a coordinate of its own, seen in the weights after every step.

    Nasr et al. 2023 (arXiv 2302.07956) and Steinke et al. 2023 (arXiv 2305.08846), whose Dirac canaries these are.
    Here they are records of a widened network, so that the training code is audited as it is. The score is the
    log-likelihood ratio of having been in the training under the noise and sampling that the ledger states.

    Args:
        layers: how many layers share a canary's gradient: clipping each layer on its own, instead of all together,
            multiplies what a canary adds by the square root of this.
        reach: size of the gradient in each layer before clipping.
    """

    name: ClassVar[str] = "one-hot"
    source: ClassVar[str] = "Nasr et al. 2023, arXiv 2302.07956; Steinke et al. 2023, arXiv 2305.08846"
    independent: ClassVar[bool] = True

    layers: int = 4
    reach: float = 2.0**14

    def plant(self, model: nn.Module, data: Dataset, count: int, *, seed: int) -> "PlantedOneHot":
        """See `Canary.plant`."""
        if data.num_classes < 2:
            raise BadInputError("one-hot canaries: expected two classes or more; with one, no record has a gradient.")
        blank = torch.zeros(1, *data.shape).expand(count, *data.shape)
        numbers = torch.arange(1.0, count + 1) / count
        canaries = stacked(data, _marked(blank, numbers), torch.zeros(count, dtype=torch.int64))
        records = stacked(data, _marked(data.inputs, torch.zeros(len(data))), data.targets)
        return PlantedOneHot(Canaried(model, count, layers=self.layers, reach=self.reach), records, canaries)


class PlantedOneHot(Planted):
    """One-hot canaries in one training run."""

    model: Canaried

    def __init__(self, model: Canaried, records: Dataset, canaries: Dataset) -> None:
        super().__init__(model, records, canaries)
        self.seen: list[Tensor] = []
        self.watch(0, model)

    def watch(self, step: int, model: nn.Module) -> None:
        """Note each canary's weight, along the direction of its gradient."""
        weights = torch.cat([place.weight.detach() for place in model.places])  # type: ignore[union-attr]
        self.seen.append(weights.double().sum(0).cpu() / len(weights) ** 0.5)

    def scores(self, ledger: Ledger, recipe: Recipe, privacy: Privacy | None) -> np.ndarray:
        """See `Planted.scores`."""
        if len(self.seen) != ledger.steps + 1:
            raise BadInputError(
                f"one-hot canaries: expected step_watch to be called after each of the ledger's {ledger.steps} steps, "
                f"got {len(self.seen) - 1} calls."
            )
        along = self._along(recipe, privacy)
        rate, noise = (np.array(column)[:, None] for column in zip(*rates(ledger), strict=True))
        return likelihood_ratio(along, rate, noise)

    def departures(
        self, ledger: Ledger, recipe: Recipe, privacy: Privacy | None, members: np.ndarray, *, seed: int
    ) -> dict[str, float]:
        """See `Planted.departures`: of a ledger of one phase of Poisson sampling, seen through plain SGD."""
        if len(ledger.phases) != 1 or ledger.phases[0].sampling != "poisson" or recipe.optimizer != "sgd":
            return {}
        along, each = self._along(recipe, privacy), ledger.phases[0].batches
        found = {}
        if privacy and privacy.clipping != "adaptive":  # else the noise may well change from step to step
            found[UNEVEN_NOISE] = uneven_noise(along[:, ~members], seed=seed)
        if 1 < each <= len(along):
            found[UNEVEN_TURNS] = uneven_turns(along[:, members], each=each, seed=seed)
        return found

    def _along(self, recipe: Recipe, privacy: Privacy | None) -> np.ndarray:
        """What each step added along each canary's gradient, up to a factor, `(steps, canaries)`."""
        return -gradients(torch.stack(self.seen), recipe, privacy).numpy()


def likelihood_ratio(along: np.ndarray, rate: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Log-likelihood ratio of each canary's having been in the training, over all steps.

    Each step is first brought to the scale on which a canary in the batch adds 1, by its mean square over all canaries,
    of which half are in the training: that is `noise**2 + rate / 2`. So no learning rate or batch size needs to be
    known, nor a clipping norm that moves.

    Args:
        along: what each step added along each canary's gradient, up to a factor of the step, `(steps, canaries)`.
        rate: sampling rate of each step `(steps, 1)`.
        noise: noise multiplier `(steps, 1)`.

    Returns:
        `(canaries,)`.
    """
    size = np.sqrt((along**2).mean(axis=1, keepdims=True))
    added = along * np.sqrt(noise**2 + rate / 2) / np.where(size > 0, size, 1.0)
    gain = (2 * added - 1) / (2 * noise**2)
    with np.errstate(divide="ignore"):  # the logarithm of 0 where every record is in every step
        return np.logaddexp(np.log1p(-rate), np.log(rate) + gain).sum(axis=0)


def _marked(inputs: Tensor, numbers: Tensor) -> Tensor:
    """Records with one more channel or column that holds a number each."""
    column = numbers.view(-1, *[1] * (inputs.ndim - 1)).expand(-1, 1, *inputs.shape[2:])
    return torch.cat([inputs, column], dim=1)
