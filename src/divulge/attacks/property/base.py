"""The contract of every property inference: from shadow models of two worlds to the world of others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from divulge.attacks.base import Attack
from divulge.errors import BadInputError


@dataclass(frozen=True, eq=False)
class PropertyGuesses:
    """Which of two worlds an attack takes each model to come from; the truth is not here.

    Args:
        scores: float64 `(targets,)`; above 0 the training set is held to have the property.
        queries: how many records each model was asked about; 0 where its weights were read.
        facts: what else there is to say.
    """

    scores: np.ndarray
    queries: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has(self) -> np.ndarray:
        """Whether each model's training set is held to have the property, bool `(targets,)`."""
        return self.scores > 0


@dataclass(frozen=True)
class PropertyAttack(Attack):
    """Base of every property inference; a concrete one has a `name` and a `run` of its own release.

    The adversary trains shadow models by the target's recipe on records of its own, half of them drawn so that the
    property holds. Both worlds are equally likely to it.
    """

    def require(self, shadows: Sequence[Any], has: np.ndarray, targets: Sequence[Any]) -> None:
        """Raise unless there are shadow models of both worlds, at least two each, and a target.

        Raises:
            BadInputError: there are not.
        """
        counts = (int((~has).sum()), int(has.sum())) if has.dtype == bool else (0, 0)
        if has.shape != (len(shadows),) or min(counts) < 2 or not targets:
            raise BadInputError(
                f"{self.name}: expected two shadow models or more of each world, marked by bool ({len(shadows)},), and "
                f"a target; got {has.dtype} of shape {has.shape} with {counts[0]} without and {counts[1]} with the "
                f"property, and {len(targets)} targets."
            )


def discriminant(shadows: np.ndarray, has: np.ndarray, targets: np.ndarray, *, shrinkage: float = 0.1) -> np.ndarray:
    """Log-likelihood ratio of two normal worlds with one covariance, for each target `(targets,)`.

    Args:
        shadows: features `(S, d)`.
        has: bool `(S,)`.
        targets: features `(T, d)`.
        shrinkage: share of the covariance that is replaced by its diagonal.
    """
    ahead, behind = shadows[has].mean(axis=0), shadows[~has].mean(axis=0)
    within = np.concatenate([shadows[has] - ahead, shadows[~has] - behind])
    covariance = within.T @ within / max(len(within) - 2, 1)
    scale = np.diag(covariance).copy()
    covariance *= 1 - shrinkage
    covariance[np.diag_indices_from(covariance)] = scale + 1e-9 * (scale.max() or 1.0)
    weights = np.linalg.solve(covariance, ahead - behind)
    return (targets - (ahead + behind) / 2) @ weights
