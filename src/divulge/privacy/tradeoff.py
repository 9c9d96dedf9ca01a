"""What an epsilon stops: the best any adversary can do, from the whole privacy loss and not from epsilon alone."""

from collections.abc import Sequence
from typing import overload

import numpy as np

from divulge.errors import BadInputError
from divulge.privacy.ledger import Ledger, Phase
from divulge.privacy.loss import PrivacyLoss, privacy_loss


def most_true_positives(what: Ledger | Sequence[Phase] | PrivacyLoss, fpr: np.ndarray) -> np.ndarray:
    """The largest true positive rate that any test of membership can have at each false positive rate.

    `B(kappa) = min over epsilon of e^epsilon kappa + delta(epsilon)`, for epsilons of either sign and both directions
    of the adjacency: the Neyman-Pearson tests of the worst case (Dong, Roth and Su 2019, arXiv 1905.02383), in which
    the adversary knows all other records and sees every noisy sum. The larger direction is taken, so the same curve
    bounds whoever points to outsiders; above a rate of about 0.3 that may be more than members can lose.

    Args:
        what: a ledger, phases, or their `privacy_loss`, which to ask several things of costs one composition.
        fpr: false positive rates, 0 to 1, any shape.

    Returns:
        Rates of the same shape, no lower than `fpr`.

    Raises:
        BadInputError: a rate outside 0 to 1.

    Example:
        >>> most_true_positives([Phase(1, 1.0, 1)], np.array([0.01, 0.1])).round(3).tolist()
        [0.092, 0.389]
    """
    rates = np.asarray(fpr, dtype=np.float64)
    if not ((rates >= 0) & (rates <= 1)).all():
        raise BadInputError(f"expected rates from 0 to 1, got {rates.min():g} to {rates.max():g}.")
    return privacy_loss(what).most(rates)


@overload
def most_reconstruction(what: Ledger | Sequence[Phase] | PrivacyLoss, prior: float) -> float: ...
@overload
def most_reconstruction(what: Ledger | Sequence[Phase] | PrivacyLoss, prior: np.ndarray) -> np.ndarray: ...
def most_reconstruction(what: Ledger | Sequence[Phase] | PrivacyLoss, prior: float | np.ndarray) -> float | np.ndarray:
    """The largest chance that anybody reconstructs a record, given the chance to guess it right without the model.

    The same curve as `most_true_positives` (Hayes, Mahloujifar and Balle 2023, arXiv 2302.07225; Kaissis et al. 2023,
    arXiv 2307.03928).

    Args:
        what: see `most_true_positives`.
        prior: chance of the best guess before seeing the model, 0 to 1: a tenth for ten equally likely candidates.

    Raises:
        BadInputError: a prior outside 0 to 1.

    Example:
        >>> round(most_reconstruction([Phase(1, 1.0, 1)], 1 / 10), 3)
        0.389
    """
    chances = most_true_positives(what, np.asarray(prior))
    return chances if isinstance(prior, np.ndarray) else float(chances)


def most_advantage(what: Ledger | Sequence[Phase] | PrivacyLoss) -> float:
    """The largest membership advantage, true minus false positive rate, of any test: delta at epsilon 0.

    Yeom et al. 2018 (arXiv 1709.01604).

    Example:
        >>> round(most_advantage([Phase(1, 1.0, 1)]), 3)
        0.383
    """
    return privacy_loss(what).delta(0.0)
