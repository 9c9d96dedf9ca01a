"""What attacks share whose attack model learns from shadow models what members look like."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from divulge.attacks.membership import perceptron
from divulge.attacks.membership.base import MembershipAttack, Signals
from divulge.attacks.membership.thresholds import log_posteriors
from divulge.errors import BadInputError


@dataclass(frozen=True)
class ShadowTraining(MembershipAttack):
    """Base of attacks that train an attack model on shadow models' posteriors.

    Args:
        shadows: how many shadow models to learn from, the first ones; all where there are fewer.
        hidden: width of the attack model's hidden layer.
        epochs: passes over the attack-training rows.
        batch_size: rows a step.
        learning_rate: of Adam, in the first epoch.
        decay: factor on the learning rate after each epoch.
        weight_decay: L2 penalty.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"attack-data"})
    trains: ClassVar[bool] = True

    shadows: int = 1
    hidden: int = 128
    epochs: int = 50
    batch_size: int = 10
    learning_rate: float = 1e-3
    decay: float = 0.96
    weight_decay: float = 1e-7

    def __post_init__(self) -> None:
        for key in ("shadows", "hidden", "epochs", "batch_size"):
            if getattr(self, key) < 1:
                raise BadInputError(f"{self.name}: expected {key} of 1 or more, got {getattr(self, key)}.")

    def rows(self, reference: Signals) -> tuple[np.ndarray, np.ndarray]:
        """Log-posteriors `(S, N, C)` and memberships `(S, N)` of the shadow models to learn from.

        Raises:
            BadInputError: none of them has records both inside and outside.
        """
        assert reference.shadows is not None
        assert reference.members is not None
        members = reference.members[: self.shadows]
        if not members.any() or members.all():
            raise BadInputError(
                f"{self.name}: expected reference records inside and outside the training sets of the first "
                f"{len(members)} shadow models, got one side only. Raise 'shadows'."
            )
        return log_posteriors(reference.shadows[: self.shadows]), members

    def fit(self, features: np.ndarray, members: np.ndarray, *, seed: int) -> perceptron.Perceptron:
        """Train the attack model on rows `(N, D)` and memberships `(N,)`."""
        return perceptron.fit(
            features,
            members,
            hidden=self.hidden,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            decay=self.decay,
            weight_decay=self.weight_decay,
            seed=seed,
        )
