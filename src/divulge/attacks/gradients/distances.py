"""How far the gradients of a guess are from the shared ones: what a search makes small."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]
Distance = Callable[[Tensors, Tensors], Tensor]
"""Gradients of a guess and shared gradients, by parameter name, to one number that is 0 where they agree."""


def squared(found: Tensors, shared: Tensors) -> Tensor:
    """Sum of squared differences over all tensors (Zhu et al. 2019, arXiv 1906.08935)."""
    return total((found[name] - shared[name]).square() for name in shared)


def absolute(found: Tensors, shared: Tensors) -> Tensor:
    """Sum of absolute differences over all tensors, which forgives a few entries that are far off."""
    return total((found[name] - shared[name]).abs() for name in shared)


def cosine(found: Tensors, shared: Tensors) -> Tensor:
    """One minus the cosine of the angle between all tensors concatenated (Geiping et al. 2020, arXiv 2003.14053).

    It does not change when either side is scaled.

    Example:
        >>> one = {"w": torch.tensor([3.0]), "b": torch.tensor([4.0])}
        >>> cosine(one, {"w": torch.tensor([30.0]), "b": torch.tensor([40.0])}).item()
        0.0
    """
    lengths = [total(side[name].square() for name in shared).sqrt() for side in (found, shared)]
    # half the squared distance of the unit vectors is the same number, without the cancellation of 1 - cosine
    return total((found[name] / lengths[0] - shared[name] / lengths[1]).square() for name in shared) / 2


DISTANCES: dict[str, Distance] = {"l2": squared, "l1": absolute, "cosine": cosine}


def likelihood(law: str, deviation: float) -> Distance:
    """Negative log-likelihood of the shared gradients when independent noise of a known law was added to them.

    Balunovic et al. 2022 (arXiv 2111.04706): with the right law, no other distance does better on average.

    Args:
        law: `gaussian` or `laplace`.
        deviation: the noise's standard deviation.

    Returns:
        The likelihood up to a constant, in nats.
    """
    if law == "gaussian":
        return lambda found, shared: squared(found, shared) / (2 * deviation**2)
    return lambda found, shared: absolute(found, shared) * (2**0.5 / deviation)


def total(parts: Iterable[Tensor]) -> Tensor:
    """The sum over all entries of some tensors."""
    return torch.stack([part.sum() for part in parts]).sum()
