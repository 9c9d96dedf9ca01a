"""Quantile regression: how confident would the target be on this record, had it never seen it?"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from divulge.attacks.membership import perceptron
from divulge.attacks.membership.base import MembershipAttack, MembershipScores, Signals, View
from divulge.errors import BadInputError


@dataclass(frozen=True)
class QuantileRegression(MembershipAttack):
    """Learns on known non-members what confidence to expect from a record alone; no shadow model is trained.

    Bertran et al. 2023 (arXiv 2307.03694), in its Gaussian form: mean and standard deviation of the target's
    logit-scaled confidence given the record's leading principal components and label, by a small perceptron.

    Args:
        components: principal components of the records to look at.
        hidden: width of the perceptron.
        epochs: passes over the population.
        fpr: the false positive rate that decisions aim at.
    """

    name: ClassVar[str] = "quantile-regression"
    source: ClassVar[str] = "Bertran et al. 2023, arXiv 2307.03694"
    needs: ClassVar[frozenset[str]] = frozenset({"population", "inputs"})
    trains: ClassVar[bool] = True

    components: int = 32
    hidden: int = 64
    epochs: int = 30
    fpr: float = 0.05

    def __post_init__(self) -> None:
        if min(self.components, self.hidden, self.epochs) < 1 or not 0 < self.fpr < 1:
            raise BadInputError(f"quantile-regression: expected positive sizes and fpr in (0, 1), got {self}.")

    def score(self, view: View, *, seed: int) -> MembershipScores:
        """Standardized distance of the confidence above what is expected of a non-member."""
        from scipy.special import ndtri

        assert view.population is not None
        features, own = self.features(view.population, view.candidates, seed=seed)
        confidence = view.population.confidence
        center, spread = confidence.mean(), max(confidence.std(), 1e-12)
        model = perceptron.fit(
            features,
            (confidence - center) / spread,
            gradient=perceptron.gaussian,
            outputs=2,
            hidden=self.hidden,
            epochs=self.epochs,
            batch_size=64,
            weight_decay=1e-3,  # a few thousand records and many components: without it the deviation is too small
            seed=seed,
        )
        expected, log_deviation = model(own).T
        scores = ((view.candidates.confidence - center) / spread - expected) * np.exp(-np.clip(log_deviation, -5, 5))
        return MembershipScores(scores, self.name, scores > ndtri(1 - self.fpr))

    def features(self, population: Signals, candidates: Signals, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Standardized principal components, fitted on the population, and one-hot labels, of both lists."""
        from sklearn.decomposition import PCA

        assert population.inputs is not None
        assert candidates.inputs is not None
        count = min(self.components, *population.inputs.shape)
        pca = PCA(count, whiten=True, random_state=seed)
        known = np.asarray(pca.fit_transform(population.inputs.astype(np.float64)))
        asked = np.asarray(pca.transform(candidates.inputs.astype(np.float64)))
        classes = np.unique(population.labels)
        return tuple(  # type: ignore[return-value]
            np.concatenate([part, signals.labels[:, None] == classes], axis=1)
            for part, signals in ((known, population), (asked, candidates))
        )
