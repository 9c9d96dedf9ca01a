"""Query access: records in, class posteriors out."""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from divulge.errors import BadInputError

FLOOR = 1e-12
"""The smallest posterior that is told apart from zero; keeps a label-only answer finite in log space."""


class Posteriors:
    """Query access: records in, class posteriors out, every query counted.

    Args:
        answer: maps a float32 batch `(n, ...)` to `(n, classes)`: log-posteriors up to a constant per row (logits) if
            `logits`, else probabilities.
        classes: how many classes it answers for.
        logits: what `answer` returns.
        batch_size: how many records go into one call of `answer`.
        budget: refuse to ask about more records than this; None for no limit.

    Example:
        >>> import torch
        >>> release = Posteriors(lambda x: torch.zeros(len(x), 3), classes=3, logits=True)
        >>> release.logits(torch.rand(5, 2)).shape, release.queries
        ((5, 3), 5)
    """

    def __init__(
        self,
        answer: Callable[[Tensor], Tensor | np.ndarray],
        *,
        classes: int,
        logits: bool = False,
        batch_size: int = 1024,
        budget: int | None = None,
    ) -> None:
        self.answer = answer
        self.classes = classes
        self.gives_logits = logits
        self.batch_size = batch_size
        self.budget = budget
        self.queries = 0

    def logits(self, inputs: Tensor) -> np.ndarray:
        """Log-posteriors up to a constant per row, float64 `(n, classes)`, for float32 records `(n, ...)`.

        Raises:
            BadInputError: the query budget would be exceeded, or an answer is no finite matrix of `(n, classes)`, or
                probabilities are negative or do not sum to 1 (within 1e-3).
        """
        if self.budget is not None and self.queries + len(inputs) > self.budget:
            raise BadInputError(
                f"query budget: {self.queries:,} of {self.budget:,} used, {len(inputs):,} more asked. "
                "Raise the budget or audit fewer records."
            )
        parts = []
        for batch in inputs.split(self.batch_size):
            reply = self.answer(batch)
            parts.append(np.asarray(reply.detach().cpu() if isinstance(reply, Tensor) else reply, dtype=np.float64))
            self.queries += len(batch)
        table = np.concatenate(parts) if parts else np.zeros((0, self.classes))
        return table_to_logits(table, classes=self.classes, logits=self.gives_logits, rows=len(inputs))


def table_to_logits(table: np.ndarray, *, classes: int, rows: int, logits: bool) -> np.ndarray:
    """Check a table of answers and bring it to log space, float64 `(rows, classes)`.

    Raises:
        BadInputError: see `Posteriors.logits`.
    """
    if table.shape != (rows, classes):
        raise BadInputError(
            f"posteriors: expected shape ({rows}, {classes}), a row for each record and a column for each class, got "
            f"{table.shape}."
        )
    if not np.isfinite(table).all():
        bad = int((~np.isfinite(table)).any(axis=1).sum())
        raise BadInputError(f"posteriors: expected finite values, got NaN or infinity in {bad} of {rows} rows.")
    if logits:
        return table.astype(np.float64)
    sums = table.sum(axis=1)
    if rows and (table.min() < -1e-6 or np.abs(sums - 1).max() > 1e-3):
        worst = int(np.abs(sums - 1).argmax())
        raise BadInputError(
            f"posteriors: expected probabilities (0 or more, rows that sum to 1), got a smallest value of "
            f"{table.min():.4g} and a row {worst} that sums to {sums[worst]:.4g}. "
            "If these are logits, say so (logits=True or --logits)."
        )
    return np.log(np.maximum(table.astype(np.float64), FLOOR))
