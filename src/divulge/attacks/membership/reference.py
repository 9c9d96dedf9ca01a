"""Attack-R: rank the target among models that never saw the candidate."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from divulge.attacks.membership.base import MembershipAttack, View


@dataclass(frozen=True)
class Reference(MembershipAttack):
    """Ranks the target among the shadow models that were not trained on the candidate.

    Ye et al. 2022 (arXiv 2111.09679), attack R. Resolves false positive rates down to 1 over the shadow models.
    """

    name: ClassVar[str] = "attack-r"
    source: ClassVar[str] = "Ye et al. 2022, arXiv 2111.09679"
    needs: ClassVar[frozenset[str]] = frozenset({"shadows"})

    def score(self, view: View, *, seed: int) -> np.ndarray:
        """Share of those shadow models that are less confident than the target, ties half; one half without any."""
        signals = view.candidates
        own, others, outside = signals.confidence[:, None], signals.shadow_confidence, ~signals.membership
        below = ((others < own) & outside).sum(axis=1) + ((others == own) & outside).sum(axis=1) / 2
        count = outside.sum(axis=1)
        return np.where(count > 0, below / np.maximum(count, 1), 0.5)
