"""What an adversary holds of a table: records with one attribute left blank, and records of its own that are whole."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from divulge.attacks.base import Attack
from divulge.attacks.knowledge import Knowledge
from divulge.data import Dataset
from divulge.data.columns import Column
from divulge.errors import BadInputError


@dataclass(frozen=True, eq=False)
class Blanked:
    """Records of which an adversary knows everything but one attribute; the truth is not here.

    Args:
        column: the attribute.
        others: every other column, float32 `(n, d)`.
        labels: their classes, int64 `(n,)`.
    """

    column: Column
    others: Tensor
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def filled(self) -> Iterator[Tensor]:
        """The whole records with each value of the attribute in turn, `(n, width)`."""
        return (self.column.put(self.others, value) for value in range(len(self.column.values)))

    def features(self, classes: int) -> np.ndarray:
        """All that is known, as numbers `(n, d + classes)`: the other columns, and the class one-hot."""
        return np.concatenate([self.others.numpy(), np.eye(classes, dtype=np.float32)[self.labels]], axis=1)


def blank(data: Dataset, column: Column) -> tuple[Blanked, np.ndarray]:
    """Leave an attribute blank; returned are the records and, for whoever scores, the truth.

    Raises:
        BadInputError: see `divulge.data.columns.Column.take`.
    """
    others, truth = column.take(data)
    return Blanked(column, others, data.targets.numpy()), truth


@dataclass(frozen=True)
class BlankAttack(Attack):
    """Base of every attack that fills in an attribute of a table.

    The adversary knows every other column of the records and their class. `Knowledge.data` are records of its own, of
    the same kind and whole. No attack of this kind looks at a defense: an adversary who knows one picks the attack
    that it leaves room for, so a defense that is named to an attack is refused rather than ignored.
    """

    def own(self, knowledge: Knowledge, column: Column) -> tuple[Dataset, Blanked, np.ndarray]:
        """The adversary's records: whole, blanked, and their values.

        Raises:
            BadInputError: none were given, none has another value than the others, or a defense was named.
        """
        self.refuse_defense(knowledge)
        data = knowledge.data
        if data is None or not len(data):
            raise BadInputError(
                f"{self.name}: expected records of the adversary's own in knowledge.data, got none. Set some aside "
                "that the model was not trained on."
            )
        blanked, truth = blank(data, column)
        if len(np.unique(truth)) < 2:
            raise BadInputError(
                f"{self.name}: all {len(data)} records of the adversary have the value "
                f"{column.values[truth[0]]!r} of {column.name!r}. Give it records with other values too."
            )
        return data, blanked, truth

    def refuse_defense(self, knowledge: Knowledge) -> None:
        """Raise where a defense or its randomness is named."""
        if knowledge.defense is not None or knowledge.randomness is not None:
            raise BadInputError(
                f"{self.name} has no use for knowing a defense. Leave it out of the knowledge; where only labels are "
                "told, take attributes-by-labels, and where the attribute is no column of the model, neurons."
            )


def needs_column(name: str, column: Column) -> None:
    """Raise where the model's inputs do not hold the attribute, so that no value can be tried."""
    if not column.places:
        raise BadInputError(
            f"{name}: expected {column.name!r} among the model's columns, to try its values. It is none of them; what "
            "a network keeps of it all the same, the attack neurons reads."
        )


def marginal(truth: np.ndarray, values: int) -> np.ndarray:
    """Share of each value among the adversary's records, float64 `(values,)`."""
    return np.bincount(truth, minlength=values) / len(truth)


def normalized(scores: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Rows of scores brought to sum 1; a row of zeros becomes `otherwise`."""
    sums = scores.sum(axis=1, keepdims=True)
    return np.where(sums > 0, scores / np.where(sums > 0, sums, 1), otherwise)
