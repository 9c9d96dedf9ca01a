"""An embedding of records, shared in their place."""

from dataclasses import dataclass

import numpy as np

from divulge.errors import BadInputError


@dataclass(frozen=True, eq=False)
class Representation:
    """What a layer of a network makes of records.

    Args:
        values: float32 `(N, d)`.
        layer: its name.

    Raises:
        BadInputError: no matrix, one without records or features, or values that are not finite.
    """

    values: np.ndarray
    layer: str = ""

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or not self.values.size or not np.isfinite(self.values).all():
            raise BadInputError(
                f"representation{f' of {self.layer}' if self.layer else ''}: expected finite numbers (records, "
                f"features), got shape {self.values.shape}{'' if np.isfinite(self.values).all() else ' with NaN'}."
            )

    def __len__(self) -> int:
        return len(self.values)
