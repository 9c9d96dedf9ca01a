"""The attack model of learned attacks: one hidden layer, trained by hand-written steps.

Attack models are tiny and their batches hold ten rows, so a framework's overhead per operation is most of its time;
these steps write into buffers made once.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Gradient = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Maps outputs `(B, K)` and targets `(B,)` to the gradient of the summed loss with respect to the outputs."""


class Perceptron(NamedTuple):
    """Weights of `features -> ReLU -> outputs`; the last row of each is the bias."""

    hidden: np.ndarray
    out: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Outputs `(N, K)` of features `(N, D)`."""
        active = np.maximum(features @ self.hidden[:-1] + self.hidden[-1], 0)
        return active @ self.out[:-1] + self.out[-1]


def logistic(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Gradient of the binary cross-entropy of logits `(B, 1)`."""
    from scipy.special import expit

    return expit(outputs) - targets[:, None]


def gaussian(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Gradient of the normal negative log-likelihood of outputs (mean, log standard deviation) `(B, 2)`."""
    residual = targets - outputs[:, 0]
    precision = np.exp(-2 * np.clip(outputs[:, 1], -5, 5))
    return np.stack([-residual * precision, 1 - residual**2 * precision], axis=1)


def fit(
    features: np.ndarray,
    targets: np.ndarray,
    *,
    gradient: Gradient = logistic,
    outputs: int = 1,
    hidden: int = 128,
    epochs: int = 50,
    batch_size: int = 10,
    learning_rate: float = 1e-3,
    decay: float = 0.96,
    weight_decay: float = 1e-7,
    seed: int = 0,
) -> Perceptron:
    """Train a perceptron with Adam (Kingma and Ba 2015, arXiv 1412.6980).

    Args:
        features: `(N, D)`.
        targets: `(N,)`.
        gradient: the loss, by its gradient.
        outputs: width of the output.
        hidden: width of the hidden layer.
        epochs: passes over the rows, each in a new random order.
        batch_size: rows a step; the last step of an epoch takes what is left.
        learning_rate: in the first epoch.
        decay: factor on the learning rate after each epoch.
        weight_decay: L2 penalty, added to the gradient.
        seed: what initialization and order depend on.
    """
    rng = np.random.default_rng(seed)
    n, width = features.shape
    parts = ((width + 1, hidden), (hidden + 1, outputs))
    split = parts[0][0] * parts[0][1]
    weights = np.concatenate([rng.uniform(-1, 1, rows * columns) / np.sqrt(rows - 1) for rows, columns in parts])
    slope, first, second, scratch = (np.zeros_like(weights) for _ in range(4))
    into, out = weights[:split].reshape(parts[0]), weights[split:].reshape(parts[1])
    slope_into, slope_out = slope[:split].reshape(parts[0]), slope[split:].reshape(parts[1])
    rows = np.concatenate([np.asarray(features, dtype=np.float64), np.ones((n, 1))], axis=1)  # the ones carry the bias
    targets = np.asarray(targets, dtype=np.float64)
    active_buffer, back_buffer = np.ones((batch_size, hidden + 1)), np.empty((batch_size, hidden))
    beta_1, beta_2, step = 0.9, 0.999, 0
    for _ in range(epochs):
        order = rng.permutation(n)
        shuffled, wanted = rows[order], targets[order]
        for start in range(0, n, batch_size):
            x, y = shuffled[start : start + batch_size], wanted[start : start + batch_size]
            active, back = active_buffer[: len(x)], back_buffer[: len(x)]
            lit = active[:, :-1]
            np.matmul(x, into, out=lit)
            np.maximum(lit, 0, out=lit)
            delta = gradient(active @ out, y)
            delta /= len(x)
            np.matmul(active.T, delta, out=slope_out)
            np.matmul(delta, out[:-1].T, out=back)
            back *= lit > 0
            np.matmul(x.T, back, out=slope_into)
            step += 1
            np.multiply(weights, weight_decay, out=scratch)
            np.add(slope, scratch, out=slope)
            first *= beta_1
            np.multiply(slope, 1 - beta_1, out=scratch)
            first += scratch
            second *= beta_2
            np.multiply(slope, slope, out=scratch)
            scratch *= 1 - beta_2
            second += scratch
            np.sqrt(second, out=scratch)
            correction = np.sqrt(1 - beta_2**step)
            scratch += 1e-8 * correction
            np.divide(first, scratch, out=scratch)
            scratch *= learning_rate * correction / (1 - beta_1**step)
            weights -= scratch
        learning_rate *= decay
    return Perceptron(into.copy(), out.copy())
