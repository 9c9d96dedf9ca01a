"""How well decisions match labels, class by class."""

import numpy as np

from divulge.errors import BadInputError
from divulge.metrics.intervals import Estimate, tail_of


def f1_by_class(
    labels: np.ndarray, predictions: np.ndarray, *, seed: int = 0, resamples: int = 1000, confidence: float = 0.95
) -> dict[int, Estimate]:
    """F1 of each class that occurs among the labels, with bootstrap percentiles over records.

    Args:
        labels: true classes, integers `(N,)`.
        predictions: predicted classes, the same.
        seed: what the bootstrap depends on.
        resamples: how many bootstrap draws.
        confidence: two-sided level.

    Raises:
        BadInputError: shapes that differ, no records, or a level outside (0, 1).

    Example:
        >>> {name: f1.value for name, f1 in f1_by_class(np.array([0, 0, 3, 3]), np.array([0, 3, 3, 3])).items()}
        {0: 0.6666666666666666, 3: 0.8}
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.ndim != 1 or labels.shape != predictions.shape or not len(labels):
        raise BadInputError(
            f"f1_by_class: expected labels and predictions of one shape (N,), N at least 1, got {labels.shape} and "
            f"{predictions.shape}."
        )
    n, tail = len(labels), tail_of(confidence)
    draw = np.random.default_rng(seed)
    found = {}
    for value in np.unique(labels).tolist():
        true, told = labels == value, predictions == value
        counts = np.array([(true & told).sum(), (true & ~told).sum(), (~true & told).sum(), (~true & ~told).sum()])
        low, high = np.quantile(_f1(draw.multinomial(n, counts / n, size=resamples)), [tail, 1 - tail])
        found[value] = Estimate(float(_f1(counts[None])[0]), float(low), float(high))
    return found


def _f1(counts: np.ndarray) -> np.ndarray:
    """From counts `(B, 4)` of hits, misses and false alarms."""
    hits, misses, alarms = counts[:, 0], counts[:, 1], counts[:, 2]
    return 2 * hits / np.maximum(2 * hits + misses + alarms, 1)
