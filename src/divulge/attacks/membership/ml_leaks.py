"""ML-Leaks: an attack model that reads a shadow model's largest posteriors."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from divulge.attacks.membership.base import MembershipScores, View
from divulge.attacks.membership.shadow_training import ShadowTraining
from divulge.attacks.membership.thresholds import answers, log_posteriors
from divulge.errors import BadInputError


@dataclass(frozen=True)
class MlLeaks(ShadowTraining):
    """One attack model for all classes, on a shadow model's largest posteriors.

    Salem et al. 2019 (arXiv 1806.01246), adversary 1: posteriors sorted in descending order, the label unused.
    Decisions at 0.5; `facts` holds the attack model's `train_accuracy` on the shadow model.

    Args:
        posteriors: how many of the largest posteriors to use; all where there are fewer classes. The paper uses 3.
        shadows: see `ShadowTraining`, as for all other settings.
    """

    name: ClassVar[str] = "ml-leaks"
    source: ClassVar[str] = "Salem et al. 2019, arXiv 1806.01246"

    posteriors: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.posteriors < 1:
            raise BadInputError(f"ml-leaks: expected 1 or more posteriors, got {self.posteriors}.")

    def score(self, view: View, *, seed: int) -> MembershipScores:
        """The attack model's log-odds of membership."""
        log_p, members = self.rows(view.reference)
        features = self.largest(log_p).reshape(members.size, -1)
        model = self.fit(features, members.ravel(), seed=seed)
        scores = model(self.largest(log_posteriors(answers(view.candidates))))[:, 0]
        accuracy = float(((model(features)[:, 0] >= 0) == members.ravel()).mean())
        return MembershipScores(scores, self.name, scores >= 0, {"train_accuracy": accuracy})

    def largest(self, log_p: np.ndarray) -> np.ndarray:
        """The largest posteriors in descending order, `(..., posteriors)`."""
        return np.exp(-np.sort(-log_p, axis=-1)[..., : self.posteriors])
