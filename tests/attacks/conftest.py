"""Synthetic views: what shadow models and a target would answer, with a leak of known size."""

from collections.abc import Callable

import numpy as np
import pytest

from divulge.attacks.membership import Signals, View, assignment

MakeView = Callable[..., tuple[View, np.ndarray]]


@pytest.fixture(scope="session")
def make_view() -> MakeView:
    """Makes a view of `n` candidates, half of them members, and the truth about them.

    A record's true logit is its own difficulty, plus `leak` in models trained on it, plus noise of the model.
    """

    def make(
        *, leak: float, n: int = 240, population: int = 300, shadows: int = 16, classes: int = 4, seed: int = 0,
        level: float = 0.0, noise: float = 1.0,
    ) -> tuple[View, np.ndarray]:  # fmt: skip
        rng = np.random.default_rng(seed)
        truth = rng.permutation(n) < n // 2
        parts = []
        for count, target in ((n, truth), (population, np.zeros(population, dtype=bool))):
            inputs = rng.normal(size=(count, 6)).astype(np.float32)
            labels = rng.integers(classes, size=count)
            members = assignment(count, shadows, seed=seed)
            answers = rng.normal(size=(shadows + 1, count, classes), scale=noise)
            inside = np.concatenate([members, target[None]])
            answers[:, np.arange(count), labels] += level + inputs[:, 0] + leak * inside
            parts.append(Signals(labels, answers[-1], answers[:-1], members, inputs))
        return View(*parts), truth

    return make
