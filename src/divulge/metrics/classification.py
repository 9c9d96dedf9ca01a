"""How well decisions match labels: accuracy and macro-averaged precision, recall and F1."""

from typing import NamedTuple

import numpy as np

from divulge.errors import BadInputError
from divulge.metrics.intervals import Estimate, clopper_pearson


class MacroScores(NamedTuple):
    """Unweighted means over classes."""

    precision: Estimate
    recall: Estimate
    f1: Estimate


def accuracy(labels: np.ndarray, predictions: np.ndarray, *, confidence: float = 0.95) -> Estimate:
    """Share of right predictions, with its Clopper-Pearson interval.

    Raises:
        BadInputError: shapes that differ, or no records.

    Example:
        >>> accuracy(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])).value
        0.75
    """
    labels, predictions = _check(labels, predictions)
    right = int((labels == predictions).sum())
    low, high = clopper_pearson(right, len(labels), confidence=confidence)
    return Estimate(right / len(labels), float(low), float(high))


def macro_scores(
    labels: np.ndarray, predictions: np.ndarray, *, seed: int = 0, resamples: int = 1000, confidence: float = 0.95
) -> MacroScores:
    """Macro-averaged precision, recall and F1 over the classes that occur, 0 where a class has no denominator.

    The intervals are bootstrap percentiles over records (drawn as cells of the confusion matrix, which is the same).

    Args:
        labels: true classes, integers or bool `(N,)`.
        predictions: predicted classes, the same.
        seed: what the bootstrap depends on.
        resamples: how many bootstrap draws.
        confidence: two-sided level.

    Raises:
        BadInputError: shapes that differ, or no records.
    """
    labels, predictions = _check(labels, predictions)
    classes, codes = np.unique(np.concatenate([labels, predictions]), return_inverse=True)
    k, n = len(classes), len(labels)
    confusion = np.bincount(codes[:n] * k + codes[n:], minlength=k * k)
    draws = np.random.default_rng(seed).multinomial(n, confusion / n, size=resamples)
    values = _macro(confusion[None].reshape(1, k, k))[0]
    tail = (1 - confidence) / 2
    low, high = np.quantile(_macro(draws.reshape(resamples, k, k)), [tail, 1 - tail], axis=0)
    return MacroScores(*(Estimate(*(float(part) for part in triple)) for triple in zip(values, low, high, strict=True)))


def _macro(confusion: np.ndarray) -> np.ndarray:
    """Macro precision, recall and F1 `(B, 3)` of confusion matrices `(B, true, predicted)`."""
    right = np.diagonal(confusion, axis1=1, axis2=2).astype(np.float64)
    predicted, true = confusion.sum(axis=1), confusion.sum(axis=2)
    occurs = np.maximum(((predicted + true) > 0).sum(axis=1), 1)
    ratios = (
        right / np.maximum(predicted, 1),
        right / np.maximum(true, 1),
        2 * right / np.maximum(predicted + true, 1),
    )
    return np.stack([ratio.sum(axis=1) / occurs for ratio in ratios], axis=1)


def _check(labels: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.ndim != 1 or labels.shape != predictions.shape or not len(labels):
        raise BadInputError(
            "expected labels and predictions of one shape (N,), N at least 1, got "
            f"{labels.shape} and {predictions.shape}."
        )
    return labels, predictions
