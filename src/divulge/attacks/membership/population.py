"""Attack-P: compare a candidate with records known not to be members."""

from dataclasses import dataclass
from typing import ClassVar

from divulge.attacks.membership.base import MembershipAttack, MembershipScores, View
from divulge.errors import BadInputError
from divulge.metrics.membership import conformal_p_values


@dataclass(frozen=True)
class Population(MembershipAttack):
    """Flags a record that the target is surer of than of almost all known non-members; trains nothing.

    Ye et al. 2022 (arXiv 2111.09679), attack P, with the conformal p-value as the quantile.

    Args:
        fpr: the false positive rate that decisions aim at.
    """

    name: ClassVar[str] = "attack-p"
    source: ClassVar[str] = "Ye et al. 2022, arXiv 2111.09679"
    needs: ClassVar[frozenset[str]] = frozenset({"population"})

    fpr: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.fpr < 1:
            raise BadInputError(f"attack-p: expected fpr in (0, 1), got {self.fpr}.")

    def score(self, view: View, *, seed: int) -> MembershipScores:
        """1 minus the p-value among the population."""
        assert view.population is not None
        p_values = conformal_p_values(view.candidates.confidence, view.population.confidence)
        return MembershipScores(1 - p_values, self.name, p_values <= self.fpr)
