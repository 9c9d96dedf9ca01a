"""How much of a difference to believe, where a defense changed what was shared."""

import math
from typing import Literal

from torch import Tensor

from divulge.attacks.gradients.distances import Tensors, total

Rounding = Literal["none", "sign", "steps"]
SAME = 1e-5
"""Values closer than this share of a tensor's largest magnitude are one level of its rounding."""
TINY = 1e-30


def believed(
    found: Tensors,
    shared: Tensors,
    *,
    kept: Tensors | None = None,
    scaled: bool = False,
    rounding: Rounding = "none",
    steps: Tensors | None = None,
) -> Tensors:
    """The gradients of a guess, with all that does not contradict the shared ones brought to them.

    What comes back is to be compared with `shared` by a distance.

    Args:
        found: gradients of the guess, by parameter name.
        shared: what the client shared.
        kept: which entries are believed, bool, where the others are zero in `shared`; None for all.
        scaled: whether all that is shared was shrunk by one factor in (0, 1], for which the best is taken.
        rounding: `sign`, where an entry tells its sign alone, or `steps`, where half a step either way tells nothing.
        steps: the size of the steps of each tensor.

    Example:
        >>> import torch
        >>> found, shared = {"w": torch.tensor([2.0, 4.2])}, {"w": torch.tensor([1.0, 2.0])}
        >>> believed(found, shared, scaled=True, rounding="steps", steps={"w": torch.tensor(0.5)})["w"].tolist()
        [1.0, 2.0]
    """
    found = {name: found[name] for name in shared}
    if kept is not None:
        found = {name: found[name] * kept[name] for name in shared}
    if rounding == "sign":
        return {name: _sign_violated(found[name], shared[name]) for name in shared}
    if scaled:
        along = total(found[name] * shared[name] for name in shared)
        factor = (along / total(found[name].square() for name in shared).clamp(min=TINY)).clamp(0, 1)
        found = {name: factor * found[name] for name in shared}
    if rounding == "steps" and steps is not None:
        apart = {name: (found[name] - shared[name], steps[name] / 2) for name in shared}
        found = {name: shared[name] + (one - one.clamp(-half, half)) for name, (one, half) in apart.items()}
    return found


def step_sizes(shared: Tensors) -> dict[str, Tensor]:
    """What the entries of each tensor are multiples of: the smallest distance between two of its values.

    Infinite for a tensor with one value, which tells no size.

    Example:
        >>> import torch
        >>> step_sizes({"w": torch.tensor([[-0.5, 1.0], [1.0, 0.0]])})["w"].item()
        0.5
    """
    return {name: _step(tensor) for name, tensor in shared.items()}


def _sign_violated(found: Tensor, shared: Tensor) -> Tensor:
    """`shared` where the signs agree, and off by as much as they disagree, relative to the mean square of `found`."""
    sign = shared.sign()
    size = found.square().mean().clamp(min=TINY).sqrt()
    return shared - sign * shared.abs().amax() * (-sign * found / size).relu()


def _step(values: Tensor) -> Tensor:
    gaps = values.flatten().sort().values.diff()
    gaps = gaps[gaps > SAME * values.abs().amax()]
    return gaps.min() if len(gaps) else values.new_full((), math.inf)
