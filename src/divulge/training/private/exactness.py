"""Whether a method gives what PyTorch's own backward pass gives, example by example, on a few of them."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from divulge.models import seeded
from divulge.training.private.independence import require_own_losses
from divulge.training.private.losses import Loss, answered, for_each_copy, over_copies
from divulge.training.private.parts import Gradients, UnsupportedError

TOLERANCE, FLOOR = 1e-3, 1e-5
"""Of the difference to a parameter's gradient, relative to it and to all: rounding makes less, a wrong formula more."""


@contextlib.contextmanager
def stirred(model: nn.Module) -> Iterator[None]:
    """Move all weights a little inside the block, since fresh ones of zero would hide gradients from a check."""
    kept = [parameter.detach().clone() for parameter in model.parameters()]
    try:
        with seeded(0), torch.no_grad():
            for parameter in model.parameters():
                scale = 0.1 * (float(parameter.square().mean().sqrt()) or 1.0)
                parameter.add_(torch.randn_like(parameter), alpha=scale)
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), kept, strict=True):
                parameter.copy_(value)


@dataclass(frozen=True)
class Trial:
    """A few examples by ordinary means.

    Args:
        inputs: `(n, K, *shape)`.
        targets: `(n, ...)`.
        gradients: of each, one after the other, a tensor `(n, *shape)` a trainable parameter.
        saved: bytes of activations that a backward pass over them needs.
    """

    inputs: Tensor
    targets: Tensor
    gradients: list[Tensor]
    saved: int

    @property
    def finite(self) -> Tensor:
        """Of which examples the gradient is, `(n,)`."""
        return torch.stack([each.flatten(1).isfinite().all(dim=1) for each in self.gradients]).all(dim=0)


def attempted(model: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor) -> Trial:
    """The gradients of a few examples `(n, K, *shape)`, in float32.

    Raises:
        BadInputError: a loss that `require_own_losses` refuses.
    """
    copies = inputs.shape[1]
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            saved[tensor.data_ptr()] = tensor.nbytes
        return tensor

    labels = for_each_copy(targets, copies)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), seeded(0):
        answers = answered(model, inputs.flatten(0, 1), fast=False)
        require_own_losses(loss, answers, labels)
        losses = over_copies(loss(answers, labels), copies)
        rows = [torch.autograd.grad(one, learned, retain_graph=True, materialize_grads=True) for one in losses]
    return Trial(inputs, targets, [torch.stack(of).float() for of in zip(*rows, strict=True)], sum(saved.values()))


def require_exact(found: Gradients, trial: Trial) -> None:
    """Hold what a method found for the examples of a trial against it.

    Raises:
        UnsupportedError: the method is not exact for this model.
    """
    finite = trial.finite
    norms = torch.stack([each.flatten(1).norm(dim=1) for each in trial.gradients]).norm(dim=0)
    pairs = [(found.norms()[finite], norms[finite])]
    if finite.all():
        coefficients = torch.linspace(1, 0.5, len(norms), device=norms.device)
        for place, each in enumerate(trial.gradients):
            total = found.parts[place].total(coefficients) if place in found.parts else torch.zeros_like(each[0])
            pairs.append((total, torch.tensordot(coefficients, each, dims=1)))
    scale = torch.stack([expected.norm() for _, expected in pairs]).norm()
    if any((ours - expected).norm() > TOLERANCE * expected.norm() + FLOOR * scale for ours, expected in pairs):
        raise UnsupportedError("a parameter is used in other ways than by its own layer, once, on each example")
