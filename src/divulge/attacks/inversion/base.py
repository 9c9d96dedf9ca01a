"""The contract of every model inversion: from a release to one record for each class."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from divulge.attacks.base import Attack


@dataclass(frozen=True, eq=False)
class Inversions:
    """What an attack draws for each class that it was asked about; no record of the training is claimed.

    Args:
        inputs: float32 `(k, *shape)`.
        targets: their classes `(k,)`.
        confidence: of the model in each, `(k,)`; where labels alone were answered, 1 if it is given its class, else 0.
        queries: how many records the model was asked about for each class; 0 where its gradients were used.
        facts: what else there is to say.
    """

    inputs: Tensor
    targets: Tensor
    confidence: Tensor
    queries: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class InversionAttack(Attack):
    """Base of every model inversion; a concrete one has a `name` and a `run` of its own release."""
