"""What every attribute inference claims."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from divulge.errors import BadInputError


@dataclass(frozen=True, eq=False)
class AttributeGuesses:
    """What an attack thinks of an attribute of some records; the truth is not here.

    Args:
        probabilities: of each value of the attribute, float64 `(n, values)`, summing to 1.
        facts: what else there is to say.
    """

    probabilities: np.ndarray
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def values(self) -> np.ndarray:
        """The likeliest value of each record `(n,)`."""
        return self.probabilities.argmax(axis=1)

    def even(self, attribute: np.ndarray) -> np.ndarray:
        """The value of each record `(n,)` that is likeliest if all values were equally frequent.

        Saerens et al. 2002 (doi 10.1162/089976602753284446).

        Args:
            attribute: of the adversary's records, from whose frequencies the probabilities were learned, int64 `(m,)`.
        """
        counts = np.bincount(attribute, minlength=self.probabilities.shape[1])
        return np.where(counts > 0, self.probabilities / np.maximum(counts, 1), -1).argmax(axis=1)


def require_attribute(attribute: np.ndarray, *, where: str, each: int = 1) -> np.ndarray:
    """The values that an adversary's attribute takes, sorted.

    Args:
        attribute: int64 `(n,)` from 0.
        where: whose it is, for the error.
        each: how many records of each value there are at least.

    Raises:
        BadInputError: values that are no whole numbers from 0 or far beyond the count of records, an attribute that
            never varies, or a value on too few records.
    """
    if attribute.ndim != 1 or not np.issubdtype(attribute.dtype, np.integer) or attribute.min(initial=0) < 0:
        raise BadInputError(
            f"{where}: expected values of the attribute as whole numbers from 0, got {attribute.dtype} of shape "
            f"{attribute.shape} from {attribute.min(initial=0)}. Number the categories, and leave out records whose "
            "value is unknown."
        )
    if attribute.max(initial=0) > max(len(attribute), 1):
        raise BadInputError(
            f"{where}: expected values numbered from 0 without great gaps, got {attribute.max()} among "
            f"{len(attribute)} records. Number the categories, or put a number such as an age into ranges."
        )
    values, counts = np.unique(attribute, return_counts=True)
    if len(values) < 2 or counts.min() < each:
        seen = dict(zip(values.tolist(), counts.tolist(), strict=True))
        raise BadInputError(
            f"{where}: expected two values of the attribute or more, each on {each} known records or more, got counts "
            f"{seen}. Merge or drop rare values."
        )
    return values
