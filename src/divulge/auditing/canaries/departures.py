"""Whether what canaries show of each step is that of the sampling and the scale that a ledger states."""

import numpy as np

DRAWS = 1999
"""Of what the ledger's own training would have shown; the smallest chance that can come of them is 1 in 1000."""


def uneven_noise(outside: np.ndarray, *, seed: int) -> float:
    """Chance of noise whose size differs so much between steps, if it is Gaussian of one size in all.

    Noise that is divided by the size of the batch that was drawn tells that size.

    Args:
        outside: what each step added along gradients that are in no batch, `(steps, N)`.
        seed: of the draws that it is held against.

    Returns:
        A p-value: in training of equal noise it is `p` or less with a chance of at most `p`.
    """
    steps, count = outside.shape
    rng = np.random.default_rng(seed)
    seen = _unevenness((outside**2).sum(axis=1))
    return _share(_unevenness(rng.chisquare(count, size=(DRAWS, steps))) >= seen)


def uneven_turns(inside: np.ndarray, *, each: int, seed: int) -> float:
    """Chance that members take turns so evenly, or so unevenly, if each batch is drawn without a look at the others.

    In a shuffled pass every member takes part once, in Poisson batches more or less often. Which member had which part
    in a step is permuted, step by step, which changes nothing where steps are independent.

    Args:
        inside: what each step added along the members' gradients, `(steps, N)`.
        each: steps in a pass.
        seed: of the permutations.

    Returns:
        A p-value, as of `uneven_noise`.
    """
    rng = np.random.default_rng(seed)
    inside = (inside - inside.mean(axis=1, keepdims=True)) / inside.std(axis=1, keepdims=True)
    passes = inside[: len(inside) // each * each].reshape(-1, each, inside.shape[1])

    def spread(parts: np.ndarray) -> float:
        return float((parts.sum(axis=1) ** 2).sum())

    seen = spread(passes)
    found = np.array([spread(rng.permuted(passes, axis=2)) for _ in range(DRAWS)])
    return min(1.0, 2 * min(_share(found <= seen), _share(found >= seen)))


def _unevenness(sizes: np.ndarray) -> np.ndarray:
    """How far the arithmetic mean exceeds the geometric one along the last axis (Bartlett 1937), on logarithms."""
    return np.log(sizes.mean(axis=-1)) - np.log(sizes).mean(axis=-1)


def _share(as_far: np.ndarray) -> float:
    return float((1 + np.count_nonzero(as_far)) / (1 + as_far.size))
