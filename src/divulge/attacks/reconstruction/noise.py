"""How much of trained weights is the noise of private training, and what is left of a matrix without it."""

import math

import torch
from torch import Tensor

from divulge.errors import BadInputError
from divulge.privacy.ledger import Ledger
from divulge.training import Recipe
from divulge.training.private import Privacy


def weight_noise(recipe: Recipe, privacy: Privacy, ledger: Ledger) -> float:
    """Standard deviation of what all noisy steps together have added to each weight; public, like the recipe.

    The noise of a step goes on through momentum and shrinks by weight decay; what it changes in later gradients is not
    counted.

    Args:
        recipe: how the network was trained, by SGD.
        privacy: what made the training private.
        ledger: sampling rate, noise and number of its steps.

    Raises:
        BadInputError: trained with Adam, averaged weights, or clipping that adapts to the records.
    """
    if recipe.optimizer != "sgd" or privacy.averaging is not None or privacy.clipping == "adaptive":
        raise BadInputError(
            "noise: expected training by SGD with a fixed clip and without averaging, got the optimizer "
            f"{recipe.optimizer}, averaging {privacy.averaging} and {privacy.clipping} clipping."
        )
    noises = [phase.noise_multiplier for phase in ledger.phases for _ in range(phase.steps)]
    total, by_weight, by_momentum = 0.0, 1.0, 0.0
    # backwards through the optimizer: what the last weights change by with those, and the momentum, of a step
    for step, noise in reversed(list(enumerate(noises))):
        by_gradient = by_momentum - recipe.lr * privacy.pace(step / len(noises)) * by_weight
        total += (by_gradient * noise * privacy.clip / recipe.batch_size) ** 2
        by_weight += recipe.weight_decay * by_gradient
        by_momentum = recipe.momentum * by_gradient
    return math.sqrt(total)


def without_noise(matrix: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """A matrix of low rank out of its sum with independent normal noise: the estimate with the least squared error.

    Gavish and Donoho 2017 (arXiv 1405.7511): a singular value below the edge of the noise's own says nothing, and one
    above it is too large.

    Args:
        matrix: the sum `(m, n)`.
        noise: standard deviation of each entry's.

    Returns:
        The estimate `(m, n)`, and orthonormal rows that span its rows `(rank, n)`.

    Raises:
        BadInputError: no noise.
    """
    if not noise > 0:
        raise BadInputError(f"noise: expected a standard deviation above 0, got {noise}.")
    left, sizes, rows = torch.linalg.svd(matrix, full_matrices=False)
    short, long = min(matrix.shape), max(matrix.shape)
    unit = noise * math.sqrt(long)
    shape, relative = short / long, sizes / unit
    count = int((relative > 1 + math.sqrt(shape)).sum())
    kept = relative[:count]
    shrunk = unit * ((kept.square() - shape - 1).square() - 4 * shape).sqrt() / kept
    return (left[:, :count] * shrunk) @ rows[:count], rows[:count]
