"""Black-box canaries: records that stand out, scored by the loss of the final model."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from divulge.auditing.canaries.base import Canary, Planted, stacked
from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.privacy.ledger import Ledger
from divulge.training import Recipe, logits
from divulge.training.private import Privacy


class PlantedInputs(Planted):
    """Canaries that are scored by how far training has lowered their loss."""

    def __init__(self, model: nn.Module, records: Dataset, canaries: Dataset) -> None:
        super().__init__(model, records, canaries)
        self.before = losses(model, canaries)

    def watch(self, step: int, model: nn.Module) -> None:
        """Nothing: who sees the final model only sees no step."""

    def scores(self, ledger: Ledger, recipe: Recipe, privacy: Privacy | None) -> np.ndarray:
        """See `Planted.scores`."""
        return self.before - losses(self.model, self.canaries)


@dataclass(frozen=True)
class Mislabelled(Canary):
    """Records of the data with a wrong label each, drawn at random.

    Steinke et al. 2023 (arXiv 2305.08846), section 6.
    """

    name: ClassVar[str] = "mislabelled"
    source: ClassVar[str] = "Steinke et al. 2023, arXiv 2305.08846"

    def plant(self, model: nn.Module, data: Dataset, count: int, *, seed: int) -> PlantedInputs:
        """See `Canary.plant`."""
        if count >= len(data) or data.num_classes < 2:
            raise BadInputError(
                f"mislabelled canaries: expected fewer than the {len(data)} records that they are made of, and two "
                f"classes or more, got {count} and {data.num_classes}."
            )
        rng = np.random.default_rng(seed)
        rows = rng.permutation(len(data))
        own = data[rows[:count]]
        shift = torch.from_numpy(rng.integers(1, data.num_classes, size=count))
        wrong = (own.targets + shift) % data.num_classes
        return PlantedInputs(model, data[np.sort(rows[count:])], stacked(data, own.inputs, wrong))


@dataclass(frozen=True)
class Crafted(Canary):
    """Base of canaries whose input is made up and whose label is what the untrained network holds least likely."""

    def plant(self, model: nn.Module, data: Dataset, count: int, *, seed: int) -> PlantedInputs:
        """See `Canary.plant`."""
        inputs = self.inputs(data, count)
        worst = torch.from_numpy(logits(model, inputs).argmin(axis=1))
        return PlantedInputs(model, stacked(data, data.inputs, data.targets), stacked(data, inputs, worst))

    @abstractmethod
    def inputs(self, data: Dataset, count: int) -> Tensor:
        """Inputs of `count` canaries, `(count, *shape)`."""


@dataclass(frozen=True)
class Blank(Crafted):
    """Blank records, each of a level of its own, with the worst label.

    Nasr et al. 2021 (arXiv 2101.04535); Annamalai and De Cristofaro 2024 (arXiv 2405.14106). One is the strongest
    black-box canary of all; many at once speak for each other, which weakens them.
    """

    name: ClassVar[str] = "blank"
    source: ClassVar[str] = "Annamalai and De Cristofaro 2024, arXiv 2405.14106"

    def inputs(self, data: Dataset, count: int) -> Tensor:
        """Levels evenly from the lowest to the highest value of the data."""
        levels = torch.linspace(float(data.inputs.min()), float(data.inputs.max()), count)
        return levels.view(-1, *[1] * len(data.shape)).expand(-1, *data.shape).contiguous()


@dataclass(frozen=True)
class ClipBkd(Crafted):
    """Records along the directions in which the data vary least, as long as a record is on average, worst label.

    Jagielski, Ullman and Oprea 2020 (arXiv 2006.07709). Each canary has a direction of its own; those of images are cut
    off where they leave `[0, 1]`.
    """

    name: ClassVar[str] = "clipbkd"
    source: ClassVar[str] = "Jagielski et al. 2020, arXiv 2006.07709"

    def inputs(self, data: Dataset, count: int) -> Tensor:
        """The last principal directions, each the way in which it is brighter."""
        flat = data.inputs.flatten(1).double()
        if count > flat.shape[1]:
            raise BadInputError(
                f"clipbkd canaries: expected at most {flat.shape[1]}, one for each number of a record, got {count}."
            )
        directions = torch.linalg.eigh(torch.cov(flat.T))[1][:, :count].T
        directions = directions * directions.sum(dim=1, keepdim=True).sign()
        made = (directions * flat.norm(dim=1).mean()).float().view(-1, *data.shape)
        return made.clamp(0, 1) if data.is_image else made


def losses(model: nn.Module, data: Dataset) -> np.ndarray:
    """Cross-entropy of each record in nats, in evaluation mode."""
    answers = torch.from_numpy(logits(model, data.inputs)).double()
    return nn.functional.cross_entropy(answers, data.targets, reduction="none").numpy()
