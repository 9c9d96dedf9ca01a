"""What every attribute inference claims."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


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
