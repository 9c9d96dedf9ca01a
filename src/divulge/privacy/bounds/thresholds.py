"""Error rates that hold at a threshold even though it was chosen by looking at the scores."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from divulge.metrics import clopper_pearson

Threshold = Literal["joint", "bonferroni", "split", "multi-split"]
Separate = Literal["bonferroni", "split", "multi-split"]
Claim = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""What upper ends of the false-positive and of the false-negative rate prove, elementwise; lower ones prove more."""

SHARES = np.array([0, 1, 2, 4, 8, 16, 32, 48, 56, 60, 62, 63]) / 64
SPLITS = 100


def strongest(
    inside: np.ndarray, outside: np.ndarray, claim: Claim, *, threshold: Separate, alpha: float, seed: int
) -> float:
    """The most that one of a few thresholds proves, wrong with a chance of at most `alpha`.

    A canary is called a member where its score is above the threshold. The thresholds are the outside scores of fixed
    ranks, so that about 0, 1/64, 1/32, ..., 1/2, ..., 63/64 of the outside scores are above.

    Args:
        inside: scores `(N,)`, independent draws of one law.
        outside: scores `(M,)`, independent draws of one law.
        claim: what the two rates prove.
        threshold: `bonferroni`: each threshold is held to its share of `alpha`. Counting the outside scores above one
            of themselves is no mistake: the chance to exceed the score of a fixed rank follows a beta law whatever
            the scores' law, the order of equal ones being drawn, and its quantile is the Clopper-Pearson limit.
            `split`: a random half of the scores chooses, the other half proves. `multi-split`: the median of what 100
            such splits prove, each held to half of `alpha` (Meinshausen, Meier and Buehlmann 2009, arXiv 0811.2177).
        alpha: chance of being wrong.
        seed: what the splits and the order of equal scores depend on.
    """
    if threshold == "bonferroni":
        return over_ranks(*untied(inside, outside, seed=seed), claim, alpha=alpha)
    if threshold == "split":
        return float(over_splits(inside, outside, claim, splits=1, alpha=alpha, seed=seed)[0])
    proved = over_splits(inside, outside, claim, splits=SPLITS, alpha=alpha / 2, seed=seed)
    return float(np.sort(proved)[SPLITS // 2])


def untied(inside: np.ndarray, outside: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of scores `(N,)` and `(M,)` in one rising order, in which that of equal scores is drawn."""
    scores = np.concatenate([inside, outside])
    order = np.lexsort((np.random.default_rng(seed).random(len(scores)), scores))
    places = np.empty(len(scores), dtype=int)
    places[order] = np.arange(len(scores))
    return places[: len(inside)], places[len(inside) :]


def over_ranks(inside: np.ndarray, outside: np.ndarray, claim: Claim, *, alpha: float) -> float:
    """The most that thresholds at fixed ranks of the outside scores, none equal, prove at a joint risk of `alpha`."""
    ranks, thresholds = ranked(outside)
    share = alpha / len(ranks)
    return float(claim(limit(ranks, outside, share), limit(missed_at(inside, thresholds), inside, share)).max())


def over_splits(
    inside: np.ndarray, outside: np.ndarray, claim: Claim, *, splits: int, alpha: float, seed: int
) -> np.ndarray:
    """What each random split proves, `(splits,)`, each wrong with a chance of at most `alpha`."""
    rng = np.random.default_rng(seed)
    choose_in, prove_in = halves(inside, splits, rng)
    choose_out, prove_out = halves(outside, splits, rng)
    ranks, thresholds = ranked(choose_out)
    fpr, fnr = limit(ranks, choose_out, alpha), limit(missed_at(choose_in, thresholds), choose_in, alpha)
    best = claim(fpr, fnr).argmax(axis=1)[:, None]
    chosen = np.take_along_axis(thresholds, best, axis=1)
    positives = prove_out.shape[1] - missed_at(prove_out, chosen)
    return claim(limit(positives, prove_out, alpha), limit(missed_at(prove_in, chosen), prove_in, alpha))[:, 0]


def ranked(outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of the scores `(..., M)` may be above each threshold, `(K,)`, and the thresholds `(..., K)`."""
    ranks = np.unique((SHARES * outside.shape[-1]).astype(int))
    return ranks, -np.sort(-outside, axis=-1)[..., ranks]


def missed_at(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many of the scores `(..., N)` are at or below each threshold `(..., K)`."""
    return (scores[..., None] <= thresholds[..., None, :]).sum(axis=-2)


def limit(errors: np.ndarray, scores: np.ndarray, alpha: float) -> np.ndarray:
    """Clopper-Pearson upper ends of the rate of errors among scores `(..., N)`; two rates share `alpha`."""
    counts, where = np.unique(errors, return_inverse=True)
    return clopper_pearson(counts, scores.shape[-1], confidence=1 - alpha)[1][where].reshape(errors.shape)


def halves(scores: np.ndarray, splits: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random halves of scores `(N,)`, `(splits, N // 2)` and `(splits, N - N // 2)`."""
    shuffled = rng.permuted(np.tile(scores, (splits, 1)), axis=1)
    return shuffled[:, : len(scores) // 2], shuffled[:, len(scores) // 2 :]
