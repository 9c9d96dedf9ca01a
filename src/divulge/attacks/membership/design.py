"""Which shadow model is trained on which records."""

import numpy as np

from divulge.errors import BadInputError


def assignment(n: int, shadows: int, *, seed: int, stratify: np.ndarray | None = None) -> np.ndarray:
    """Balanced training sets for shadow models: each record inside exactly half of them.

    Shadows come in pairs, a random half of the records and the other half, as in Carlini et al. 2022 (arXiv
    2112.03570). The rows of pair `j` depend on `n`, `stratify`, `seed` and `j` alone: asking for more shadows later
    leaves the earlier rows as they were.

    Args:
        n: records.
        shadows: shadow models, even.
        seed: what the halves depend on.
        stratify: labels `(n,)`; every half then holds each label's records to within one.

    Returns:
        bool `(shadows, n)`, True where the shadow trains on the record; every row sums to `n / 2` rounded down or up.

    Raises:
        BadInputError: an odd or negative count of shadows, fewer than two records, or labels of another length.

    Example:
        >>> design = assignment(5, 4, seed=0)
        >>> design.sum(axis=0).tolist(), sorted(design.sum(axis=1).tolist())
        ([2, 2, 2, 2, 2], [2, 2, 3, 3])
        >>> (assignment(5, 6, seed=0)[:4] == design).all()
        np.True_
    """
    if shadows < 0 or shadows % 2:
        raise BadInputError(f"shadows: expected an even count, since they come in complementary pairs, got {shadows}.")
    if n < 2:
        raise BadInputError(f"expected two records or more to split between shadow models, got {n}.")
    if stratify is not None and np.shape(stratify) != (n,):
        raise BadInputError(f"stratify: expected one label for each of {n} records, got shape {np.shape(stratify)}.")
    design = np.zeros((shadows, n), dtype=bool)
    for pair in range(shadows // 2):
        rng = np.random.default_rng([seed, pair])
        order = rng.permutation(n)
        if stratify is not None:
            order = order[np.argsort(np.asarray(stratify)[order], kind="stable")]
        # every other record of a random order sorted by label: a random half of each label
        design[2 * pair, order[rng.integers(2) :: 2]] = True
        design[2 * pair + 1] = ~design[2 * pair]
    return design
