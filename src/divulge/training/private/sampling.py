"""Which records take part in a step."""

import math

import numpy as np

from divulge.privacy.ledger import Phase


def drawn(plan: Phase, size: int, records: int, step: int, *, generator: np.random.Generator, seed: int) -> np.ndarray:
    """Row numbers of the batch of `step`: secret ones from `generator` under Poisson sampling, else from `seed`."""
    if plan.sampling == "poisson":
        return poisson(records, plan.sampling_rate, generator)
    return shuffled(records, size, step, seed=seed)


def poisson(records: int, rate: float, generator: np.random.Generator) -> np.ndarray:
    """Row numbers, ascending, of a batch that each of `records` joins by a coin of its own with probability `rate`.

    The number of them is binomial, and may be 0; given their number, every choice is as likely as any other.

    Example:
        >>> len(poisson(100, 1.0, np.random.default_rng(0)))
        100
    """
    size = generator.binomial(records, rate)
    return np.sort(generator.choice(records, size, replace=False, shuffle=False))


def shuffled(records: int, size: int, step: int, *, seed: int) -> np.ndarray:
    """Row numbers of the batch of step `step`, where each pass takes all records in a new order, `size` at a time.

    The last batch of a pass holds what is left. Anybody may know the order: no promise rests on it.

    Example:
        >>> [len(shuffled(10, 4, step, seed=0)) for step in range(4)]
        [4, 4, 2, 4]
    """
    turn, place = divmod(step, math.ceil(records / size))
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(turn,))).permutation(records)
    return order[place * size : (place + 1) * size]
