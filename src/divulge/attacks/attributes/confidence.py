"""Trying every value of an attribute on a model, and reading its confidence: CSMIA."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from divulge.attacks.attributes.base import AttributeGuesses
from divulge.attacks.attributes.blanked import BlankAttack, Blanked, needs_column, normalized
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.releases import FLOOR, Posteriors

NOTHING = Knowledge()


@dataclass(frozen=True)
class ConfidenceScores(BlankAttack):
    """Takes the value under which the model answers the record's class, and of several the most confident (CSMIA).

    Mehnaz et al. 2022 (arXiv 2201.09370), section 4.2. Case 1: the model answers the class under exactly one value,
    which is taken. Case 2: under several; the one with the highest confidence. Case 3: under none; the one with the
    lowest confidence in the wrong class. It needs no records of its own. The probabilities that it states are an order
    of certainty and no more: case 1 before case 2 before case 3, in each by confidence or by how far it is ahead.
    """

    name: ClassVar[str] = "csmia"
    source: ClassVar[str] = "Mehnaz et al. 2022, arXiv 2201.09370"

    def run(self, release: Posteriors, blanked: Blanked, *, knowledge: Knowledge = NOTHING) -> AttributeGuesses:
        """Ask about each record once for each value.

        Returns:
            Guesses with the facts `case 1`, `case 2` and `case 3`: how many records fell into each.

        Raises:
            BadInputError: the model's inputs do not hold the attribute, its answers are labels alone, or a defense is
                named.
        """
        self.refuse_defense(knowledge)
        needs_column(self.name, blanked.column)
        posteriors = tried(release, blanked)
        confidence, answer = posteriors.max(axis=2), posteriors.argmax(axis=2)
        if len(blanked) and bool((confidence > 1 - 2 * release.classes * FLOOR).all()):
            raise BadInputError(
                "csmia: every answer is a class with certainty: labels alone, which carry no confidence. Take "
                "attributes-by-labels."
            )
        right = answer == blanked.labels[:, None]
        count = right.sum(axis=1)
        score = np.where(right, confidence, np.where(count[:, None] > 0, -np.inf, -confidence))
        best = score.argmax(axis=1)
        ranked = np.sort(np.where(np.isfinite(score), score, -1.0), axis=1)
        ahead = (ranked[:, -1] - ranked[:, -2]).clip(0, 1)
        certainty = np.where(count == 1, 2 + score.max(axis=1), np.where(count > 1, 1 + ahead, ahead)) / 3
        return AttributeGuesses(ordered(best, certainty, len(blanked.column.values)), cases(count))


@dataclass(frozen=True)
class WeightedConfidence(BlankAttack):
    """Weighs what imputation thinks of each value by the model's confidence in the record's class under it.

    Yeom et al. 2018 (arXiv 1709.01604) and Fredrikson et al. 2014 weigh a prior so; Jayaraman and Evans 2022 (arXiv
    2209.01292) take each record's own from imputation. Where a model remembers a record, its confidence stands out
    under the true value alone.
    """

    name: ClassVar[str] = "weighted-confidence"
    source: ClassVar[str] = "Jayaraman and Evans 2022, arXiv 2209.01292"

    def run(
        self, release: Posteriors, blanked: Blanked, *, prior: np.ndarray, knowledge: Knowledge = NOTHING
    ) -> AttributeGuesses:
        """Ask about each record once for each value.

        Args:
            release: what answers.
            blanked: the records.
            prior: what is thought of each value without the model, `(n, values)`.
            knowledge: nothing that it needs.

        Raises:
            BadInputError: the model's inputs do not hold the attribute, or a defense is named.
        """
        self.refuse_defense(knowledge)
        needs_column(self.name, blanked.column)
        confidence = tried(release, blanked)[np.arange(len(blanked)), :, blanked.labels]
        return AttributeGuesses(normalized(confidence * prior, prior))


def tried(release: Posteriors, blanked: Blanked) -> np.ndarray:
    """The model's posteriors about each record under each value, float64 `(n, values, classes)`."""
    from scipy.special import softmax

    return np.stack([softmax(release.logits(whole), axis=1) for whole in blanked.filled()], axis=1)


def cases(right: np.ndarray) -> dict[str, int]:
    """How many records the model gets right under exactly one value, under several, and under none."""
    return {
        "case 1": int((right == 1).sum()),
        "case 2": int((right > 1).sum()),
        "case 3": int((right == 0).sum()),
    }


def ordered(best: np.ndarray, certainty: np.ndarray, values: int) -> np.ndarray:
    """Probabilities `(n, values)` that name `best` and grow with `certainty` in 0 to 1, the rest spread evenly."""
    mine = (1 + (values - 1) * certainty) / values
    probabilities = np.repeat(((1 - mine) / (values - 1))[:, None], values, axis=1)
    probabilities[np.arange(len(best)), best] = mine
    return probabilities
