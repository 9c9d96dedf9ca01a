"""Difficulty calibration: how much surer is the target than models that never saw the candidate?"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from divulge.attacks.membership.base import MembershipAttack, View


@dataclass(frozen=True)
class Calibrated(MembershipAttack):
    """Subtracts from the target's confidence how easy the candidate is for shadow models not trained on it.

    Watson et al. 2022 (arXiv 2111.08440), on logit-scaled confidence. One shadow model is enough.
    """

    name: ClassVar[str] = "calibrated"
    source: ClassVar[str] = "Watson et al. 2022, arXiv 2111.08440"
    needs: ClassVar[frozenset[str]] = frozenset({"shadows"})

    def score(self, view: View, *, seed: int) -> np.ndarray:
        """Confidence minus its mean outside; minus the mean over all records for one that is never outside."""
        outside = view.candidates.outside
        return view.candidates.confidence - np.where(outside.count > 0, outside.mean, outside.overall)
