"""Guessing an attribute without any model: what the other columns give away by themselves."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from divulge.attacks.attributes.base import AttributeGuesses
from divulge.attacks.attributes.blanked import BlankAttack, Blanked
from divulge.attacks.knowledge import Knowledge

LEARNERS = ("logistic", "forest", "boosting")


@dataclass(frozen=True)
class Imputation(BlankAttack):
    """Learns the attribute from the other columns and the class, on the adversary's own records.

    The baseline that Jayaraman and Evans 2022 (arXiv 2209.01292) hold every attribute inference against: it sees no
    model, so what it guesses is no model's leak. The posteriors of logistic regression, a random forest and boosting
    are averaged.

    Args:
        seed: of the forest and of boosting.
    """

    name: ClassVar[str] = "imputation"
    source: ClassVar[str] = "Jayaraman and Evans 2022, arXiv 2209.01292"

    seed: int = 0

    def run(
        self, blanked: Blanked, *, knowledge: Knowledge, beside: tuple[np.ndarray, np.ndarray] | None = None
    ) -> AttributeGuesses:
        """Fill in the attribute.

        Args:
            blanked: the records.
            knowledge: with the adversary's own records in `data`.
            beside: further numbers about the adversary's records and about `blanked`, float `(n, k)` each, such as what
                a model tells of them; with these it is no baseline any more.

        Raises:
            BadInputError: no records of the adversary's own, or all with one value.
        """
        data, own, truth = self.own(knowledge, blanked.column)
        known, asked = own.features(data.num_classes), blanked.features(data.num_classes)
        if beside is not None:
            known, asked = (np.concatenate(pair, axis=1) for pair in zip((known, asked), beside, strict=True))
        probabilities = np.zeros((len(blanked), len(blanked.column.values)))
        for learner in _learners(self.seed):
            fitted = learner.fit(known, truth)
            probabilities[:, fitted.classes_] += fitted.predict_proba(asked) / len(LEARNERS)
        return AttributeGuesses(probabilities)


def _learners(seed: int) -> list[Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return [
        make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)),
        RandomForestClassifier(200, min_samples_leaf=2, random_state=seed),
        HistGradientBoostingClassifier(max_iter=50, early_stopping=False, random_state=seed),
    ]
