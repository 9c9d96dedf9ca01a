"""Shokri's attack: one attack model per class, taught by shadow models."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from divulge.attacks.membership.base import MembershipScores, View
from divulge.attacks.membership.shadow_training import ShadowTraining
from divulge.attacks.membership.thresholds import answers, log_posteriors


@dataclass(frozen=True)
class Shokri(ShadowTraining):
    """One attack model per class, on the posteriors of several shadow models.

    Shokri et al. 2017 (arXiv 1610.05820); 50 hidden units, batches of 100 and a learning rate of 0.01 as in the paper's
    code. Decisions at 0.5; `facts` holds the attack models' `train_accuracy`.
    """

    name: ClassVar[str] = "shokri"
    source: ClassVar[str] = "Shokri et al. 2017, arXiv 1610.05820"

    shadows: int = 10
    hidden: int = 50
    batch_size: int = 100
    learning_rate: float = 0.01
    weight_decay: float = 1e-6

    def score(self, view: View, *, seed: int) -> MembershipScores:
        """Log-odds of membership by the class's attack model; 0 for a class not seen both inside and outside."""
        signals, reference = view.candidates, view.reference
        log_p, members = self.rows(reference)
        own = np.exp(log_posteriors(answers(signals)))
        scores = np.zeros(len(signals))
        right = total = 0
        for label in np.unique(signals.labels):
            known = reference.labels == label
            features, inside = np.exp(log_p[:, known]).reshape(-1, own.shape[1]), members[:, known].ravel()
            if not inside.any() or inside.all():
                continue
            model = self.fit(features, inside, seed=seed)
            scores[signals.labels == label] = model(own[signals.labels == label])[:, 0]
            right += int(((model(features)[:, 0] >= 0) == inside).sum())
            total += len(inside)
        return MembershipScores(scores, self.name, scores >= 0, {"train_accuracy": right / total} if total else {})
