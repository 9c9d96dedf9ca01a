"""Trying every value of an attribute on a model that tells labels alone."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from divulge.attacks.attributes.base import AttributeGuesses
from divulge.attacks.attributes.blanked import BlankAttack, Blanked, needs_column
from divulge.attacks.attributes.confidence import NOTHING, cases, ordered, tried
from divulge.attacks.knowledge import Knowledge
from divulge.releases import Posteriors

LEAST = 20
"""Records that the model itself must have told the value of before others are learned from them."""


@dataclass(frozen=True)
class ByLabels(BlankAttack):
    """Takes the only value under which the model answers the record's class, and learns the others from such records.

    Mehnaz et al. 2022 (arXiv 2201.09370), section 4.3 (LOMIA). Where the model is right under exactly one value, that
    one is taken for the truth; on these records boosting learns the attribute from the other columns and the class, and
    guesses the rest. It needs no records of its own and no more than labels, so coarser answers do not hinder it. Where
    the model gives fewer than 20 records away, or one value only, the rest are guessed by the shares of what it gave.
    """

    name: ClassVar[str] = "attributes-by-labels"
    source: ClassVar[str] = "Mehnaz et al. 2022, arXiv 2201.09370"

    def run(self, release: Posteriors, blanked: Blanked, *, knowledge: Knowledge = NOTHING) -> AttributeGuesses:
        """Ask about each record once for each value.

        Returns:
            Guesses, those of case 1 the surest; facts as of CSMIA.

        Raises:
            BadInputError: the model's inputs do not hold the attribute, or a defense is named.
        """
        self.refuse_defense(knowledge)
        needs_column(self.name, blanked.column)
        values = len(blanked.column.values)
        right = tried(release, blanked).argmax(axis=2) == blanked.labels[:, None]
        count = right.sum(axis=1)
        told, given = count == 1, right.argmax(axis=1)
        probabilities = np.full((len(blanked), values), 1 / values)
        if told.any():
            shares = np.bincount(given[told], minlength=values) / told.sum()
            probabilities[:] = shares
            if told.sum() >= LEAST and (shares > 0).sum() > 1 and not told.all():
                features = blanked.features(release.classes)
                fitted = _learner().fit(features[told], given[told])
                probabilities[~told] = 0
                probabilities[np.ix_(~told, fitted.classes_)] = fitted.predict_proba(features[~told])
            certain = np.ones(int(told.sum()))
            probabilities[told] = ordered(given[told], certain, values)
        return AttributeGuesses(probabilities, cases(count))


def _learner() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=50, early_stopping=False, random_state=0)
