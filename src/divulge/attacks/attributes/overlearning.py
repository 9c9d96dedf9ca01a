"""Attributes out of an embedding: a probe learned on records whose attribute the adversary knows."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from divulge.attacks.attributes.base import AttributeGuesses, require_attribute
from divulge.attacks.base import Attack
from divulge.errors import BadInputError
from divulge.releases import Representation

NEIGHBORS = 25
"""Records that vote where the nearest ones do."""
KERNELS = 800
"""Features of the kernel, and so records that it takes at least."""
EXACT = 4096
"""Features whose covariance is decomposed exactly; of more, the leading components alone are searched for."""
ROUNDING = 1e-5
"""Share of the variance that may be left out."""


@dataclass(frozen=True)
class Overlearning(Attack):
    """Learns an attribute from a network's representation of the adversary's own records, and reads it off others.

    Song and Shmatikov 2020 (arXiv 1905.11742). Features are standardized and turned into principal components of equal
    variance: what a layer keeps of an attribute beside its task varies little. Of several kinds of probes the one that
    is right most often on parts of the adversary's records that it was not fitted on is taken; the records to guess
    have no part in the choice. Kinds that need more records than the adversary has are left out.

    Args:
        probes: kinds to choose from: `logistic`, `kernel`, `mlp-256-128`, `mlp-128-64`, `boosting`, `neighbors`.
        folds: parts of the adversary's records that take turns to be held out.
        components: principal components that are kept at most.
        choosing: records, at most, that the choice of the probe is made on; the chosen one is fitted to all.
        seed: of the parts and of what a probe draws.
    """

    name: ClassVar[str] = "overlearning"
    source: ClassVar[str] = "Song and Shmatikov 2020, arXiv 1905.11742"

    probes: tuple[str, ...] = ("logistic", "kernel", "mlp-256-128", "mlp-128-64", "boosting", "neighbors")
    folds: int = 3
    components: int = 256
    choosing: int = 4000
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [probe for probe in self.probes if probe not in PROBES]
        if unknown or not self.probes or self.folds < 2:
            raise BadInputError(
                f"overlearning: expected probes out of {', '.join(PROBES)} and 2 folds or more, got "
                f"{', '.join(self.probes) or 'none'} and {self.folds}."
            )
        if self.components < 1 or self.choosing < 2 * self.folds:
            raise BadInputError(
                f"overlearning: expected a component or more and {2 * self.folds} records or more to choose on, got "
                f"{self.components} and {self.choosing}."
            )

    def run(self, known: Representation, attribute: np.ndarray, release: Representation) -> AttributeGuesses:
        """Guess the attribute of the released records.

        Args:
            known: of the adversary's own records.
            attribute: their values, int64 `(len(known),)` from 0.
            release: of the records to guess.

        Returns:
            The guesses; facts are the `probe` that was chosen, the score `expected` of it from the adversary's own
            records, and that of each other kind.

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
        values = require_attribute(attribute, where="overlearning", each=self.folds)
        able = self._able(len(known), len(values))
        mine, theirs = self._whitened(known.values, release.values)
        with unfinished():
            scores = self._scores(able, mine, attribute)
            best = max(scores, key=lambda probe: scores[probe])
            fitted = PROBES[best](self.seed).fit(mine, attribute)
        probabilities = np.zeros((len(release), int(values.max()) + 1))
        probabilities[:, values] = fitted.predict_proba(theirs)
        told = {f"accuracy of {probe}": score for probe, score in scores.items()}
        return AttributeGuesses(probabilities, {"probe": best, "expected": scores[best], **told})

    def _able(self, records: int, values: int) -> list[str]:
        """The probes that can be fitted on the folds of that many records of so many values."""
        fitted = min(records, self.choosing) * (self.folds - 1) // self.folds
        able = [probe for probe in self.probes if fitted >= _needed(probe, values)]
        if not able:
            raise BadInputError(
                f"overlearning: {fitted} records to fit on are too few for {', '.join(self.probes)}. Take logistic."
            )
        return able

    def _scores(self, probes: list[str], features: np.ndarray, attribute: np.ndarray) -> dict[str, float]:
        """Share of held-out records that each probe gets right."""
        from sklearn.model_selection import StratifiedKFold, cross_val_score

        rows = self._sample(attribute)
        parts = StratifiedKFold(self.folds, shuffle=True, random_state=self.seed)

        def score(probe: str) -> float:
            fitted = PROBES[probe](self.seed)
            return float(cross_val_score(fitted, features[rows], attribute[rows], cv=parts).mean())

        return {probe: score(probe) for probe in probes}

    def _sample(self, attribute: np.ndarray) -> np.ndarray:
        """Rows to choose on: a random part that keeps enough records of every value for the folds."""
        if len(attribute) <= self.choosing:
            return np.arange(len(attribute))
        order = np.random.default_rng(self.seed).permutation(len(attribute))
        rank = np.empty(len(order), dtype=np.int64)
        for value in np.unique(attribute):
            own = order[attribute[order] == value]
            rank[own] = np.arange(len(own))
        first = rank < self.folds
        rest = order[~first[order]][: max(self.choosing - int(first.sum()), 0)]
        return np.sort(np.concatenate([np.flatnonzero(first), rest]))

    def _whitened(self, known: np.ndarray, release: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both in the principal components of the known, each of variance one there; no attribute is looked at."""
        from sklearn.decomposition import PCA
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        varies = np.ptp(known, axis=0) > 0
        if not varies.any():
            return known[:, :1], release[:, :1]
        known, release = known[:, varies], release[:, varies]
        solver = "covariance_eigh" if known.shape[1] <= EXACT else "randomized"
        axes = PCA(min(self.components, *known.shape), whiten=True, svd_solver=solver, random_state=self.seed)
        made = make_pipeline(StandardScaler(), axes).fit(known)
        # beyond these, variances are of rounding
        kept = int((np.cumsum(axes.explained_variance_ratio_) < 1 - ROUNDING).sum()) + 1
        return made.transform(known)[:, :kept], made.transform(release)[:, :kept]


@contextlib.contextmanager
def unfinished() -> Iterator[None]:
    """Inside the block scikit-learn does not warn of a fit that stopped at its limit of iterations, which is meant."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _needed(probe: str, values: int) -> int:
    """Records that a probe is fitted on at least."""
    if probe.startswith("mlp"):
        return 10 * values
    return {"neighbors": NEIGHBORS, "kernel": KERNELS}.get(probe, 0)


def _logistic(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.03, max_iter=500, random_state=seed)


def _kernel(seed: int) -> Any:
    """Random features of a Gaussian kernel as wide as the features are many, then logistic regression."""
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    head = LogisticRegression(C=10, max_iter=500, random_state=seed)
    return make_pipeline(Nystroem(n_components=KERNELS, random_state=seed), head)


def _mlp(*hidden: int) -> Callable[[int], Any]:
    def make(seed: int) -> Any:
        from sklearn.neural_network import MLPClassifier

        return MLPClassifier(hidden_layer_sizes=hidden, alpha=1.0, max_iter=15, random_state=seed)

    return make


def _boosting(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=15, learning_rate=0.15, random_state=seed)


def _neighbors(seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(NEIGHBORS, metric="cosine")


PROBES: dict[str, Callable[[int], Any]] = {
    "logistic": _logistic,
    "kernel": _kernel,
    "mlp-256-128": _mlp(256, 128),
    "mlp-128-64": _mlp(128, 64),
    "boosting": _boosting,
    "neighbors": _neighbors,
}
