"""Attributes out of an embedding: a probe learned on records whose attribute the adversary knows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from divulge.attacks.attributes.base import AttributeGuesses
from divulge.attacks.base import Attack
from divulge.errors import BadInputError
from divulge.releases import Representation

NEIGHBORS = 25
"""Records that vote where the nearest ones do."""


@dataclass(frozen=True)
class Overlearning(Attack):
    """Learns an attribute from a network's representation of the adversary's own records, and reads it off others.

    Song and Shmatikov 2020 (arXiv 1905.11742). Features are standardized. Of several kinds of probes the one that is
    right most often on parts of the adversary's records that it was not fitted on is taken; the records to guess have
    no part in the choice. Kinds that need more records than the adversary has are left out.

    Args:
        probes: kinds to choose from: `logistic`, `mlp-256-128`, `mlp-128-64`, `boosting`, `neighbors`.
        folds: parts of the adversary's records that take turns to be held out.
        balanced: whether rare values count as much as frequent ones; probes that cannot weigh are left out then.
        seed: of the parts and of what a probe draws.
    """

    name: ClassVar[str] = "overlearning"
    source: ClassVar[str] = "Song and Shmatikov 2020, arXiv 1905.11742"

    probes: tuple[str, ...] = ("logistic", "mlp-256-128", "mlp-128-64", "boosting", "neighbors")
    folds: int = 3
    balanced: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [probe for probe in self.probes if probe not in PROBES]
        if unknown or not self.probes or self.folds < 2:
            raise BadInputError(
                f"overlearning: expected probes out of {', '.join(PROBES)} and 2 folds or more, got "
                f"{', '.join(self.probes) or 'none'} and {self.folds}."
            )

    def run(self, known: Representation, attribute: np.ndarray, release: Representation) -> AttributeGuesses:
        """Guess the attribute of the released records.

        Args:
            known: of the adversary's own records.
            attribute: their values, int64 `(len(known),)` from 0.
            release: of the records to guess.

        Raises:
            BadInputError: features that differ, values that are no whole numbers from 0, an attribute that never
                varies, fewer records of a value than folds, or too few records for every probe.
        """
        attribute = np.asarray(attribute)
        if known.values.shape[1] != release.values.shape[1] or attribute.shape != (len(known),):
            raise BadInputError(
                f"overlearning: expected the same features of both and an attribute for each known record, got shapes "
                f"{known.values.shape} and {release.values.shape} and attributes of shape {attribute.shape}."
            )
        if not np.issubdtype(attribute.dtype, np.integer) or attribute.min(initial=0) < 0:
            raise BadInputError(
                f"overlearning: expected values of the attribute as whole numbers from 0, got {attribute.dtype} from "
                f"{attribute.min(initial=0)}. Number the categories, and leave out records whose value is unknown."
            )
        values, counts = np.unique(attribute, return_counts=True)
        if len(values) < 2 or counts.min() < self.folds:
            seen = dict(zip(values.tolist(), counts.tolist(), strict=True))
            raise BadInputError(
                f"overlearning: expected two values of the attribute or more, each on {self.folds} known records or "
                f"more, got counts {seen}. Merge or drop rare values."
            )
        able = self._able(len(known) * (self.folds - 1) // self.folds, len(values))
        right = {probe: self._right(probe, known.values, attribute) for probe in able}
        best = max(right, key=lambda probe: right[probe])
        fitted = self._made(best).fit(known.values, attribute)
        probabilities = np.zeros((len(release), int(values.max()) + 1))
        probabilities[:, values] = fitted.predict_proba(release.values)
        return AttributeGuesses(probabilities, {"probe": best, **{f"accuracy of {p}": v for p, v in right.items()}})

    def _able(self, records: int, values: int) -> list[str]:
        """The probes that can be fitted on that many records of so many values."""
        able = [probe for probe in self.probes if not self.balanced or probe in ("logistic", "boosting")]
        if not able:
            raise BadInputError("overlearning: only logistic and boosting can weigh rare values. Name one of them.")
        enough = [probe for probe in able if records >= _needed(probe, values)]
        if not enough:
            raise BadInputError(
                f"overlearning: {records} records to fit on are too few for {', '.join(able)}. Take logistic."
            )
        return enough

    def _right(self, probe: str, features: np.ndarray, attribute: np.ndarray) -> float:
        """Share of held-out records that a probe gets right; the mean over values if they count alike."""
        from sklearn.model_selection import StratifiedKFold, cross_val_score

        parts = StratifiedKFold(self.folds, shuffle=True, random_state=self.seed)
        scoring = "balanced_accuracy" if self.balanced else "accuracy"
        return float(cross_val_score(self._made(probe), features, attribute, cv=parts, scoring=scoring).mean())

    def _made(self, probe: str) -> Any:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return make_pipeline(StandardScaler(), PROBES[probe](self.seed, "balanced" if self.balanced else None))


def _needed(probe: str, values: int) -> int:
    """Records that a probe is fitted on at least; a tenth of those of an MLP tell it when to stop."""
    if probe == "neighbors":
        return NEIGHBORS
    return 10 * values if probe.startswith("mlp") else 0


def _logistic(seed: int, weights: str | None) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.1, max_iter=500, class_weight=weights, random_state=seed)


def _mlp(*hidden: int) -> Callable[[int, str | None], Any]:
    def make(seed: int, weights: str | None) -> Any:
        from sklearn.neural_network import MLPClassifier

        return MLPClassifier(hidden, early_stopping=True, max_iter=50, alpha=1e-3, random_state=seed)

    return make


def _boosting(seed: int, weights: str | None) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=100, class_weight=weights, random_state=seed)


def _neighbors(seed: int, weights: str | None) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(NEIGHBORS)


PROBES: dict[str, Callable[[int, str | None], Any]] = {
    "logistic": _logistic,
    "mlp-256-128": _mlp(256, 128),
    "mlp-128-64": _mlp(128, 64),
    "boosting": _boosting,
    "neighbors": _neighbors,
}
