"""What the server and the clients of a Flower run agree on, and each of them works out by itself."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from divulge import settings
from divulge.data import Dataset, load
from divulge.defenses import DEFENSES, Defense
from divulge.errors import BadInputError
from divulge.models import MODELS
from divulge.training.federated import Federation, partition

Spec = Mapping[str, Any]


@dataclass(frozen=True)
class Deployment:
    """One federation of real processes: the same settings and seed as `fit_federated` takes, and the same result.

    Args:
        data: a data set's name or path; each client keeps to its own rows of it.
        architecture: a registered model family, such as `{"name": "mlp", "hidden": [64]}`.
        federation: how to train; every client takes part in every round.
        seed: of initial weights, partition, order of records and whatever a defense draws.
        defense: a registered defense, such as `{"name": "soteria"}`; empty for none.
        capture: rounds whose records the server keeps; empty for all.
    """

    data: str
    architecture: Spec
    federation: Federation
    seed: int = 0
    defense: Spec = field(default_factory=dict)
    capture: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.federation.fraction < 1:
            raise BadInputError(
                f"deployment: every client takes part in every round, got a fraction of {self.federation.fraction}."
            )

    def records(self) -> Dataset:
        """The records of all clients."""
        return load(self.data)

    def clients(self, data: Dataset) -> tuple[np.ndarray, ...]:
        """Row numbers of each client's records."""
        return partition(data.targets.numpy(), self.federation, seed=self.seed)

    def defended(self) -> Defense:
        """The defense; one that changes nothing where there is none."""
        return DEFENSES.make(self.defense) if self.defense else Defense()

    def model(self, data: Dataset) -> nn.Module:
        """The network with its first weights."""
        fresh = MODELS.make(self.architecture).build(data.shape, data.num_classes, seed=self.seed)
        return self.defended().architecture(fresh)

    def write(self, path: Path) -> None:
        """Write the settings as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> "Deployment":
        """The settings that `write` wrote.

        Raises:
            BadInputError: an unknown setting, or one of the wrong type.
        """
        return settings.build(cls, json.loads(path.read_text()), where=str(path))
