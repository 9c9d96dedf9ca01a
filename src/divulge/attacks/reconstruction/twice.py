"""The same distance for any ReLU network, by differentiating it twice."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from divulge.attacks.reconstruction.chain import shift
from divulge.attacks.reconstruction.stationarity import Residual, margin_slopes
from divulge.errors import BadInputError
from divulge.models.layers import Normalize, Standardize
from divulge.releases import Weights


class _Smooth(torch.autograd.Function):
    """ReLU whose slope is a sigmoid: a step would have no slope of its own to differentiate."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sharpness: Tensor) -> Tensor:
        ctx.save_for_backward(x, sharpness)
        return x.relu()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        x, sharpness = ctx.saved_tensors
        return slopes[0] * torch.sigmoid(sharpness * x), None


class SmoothReLU(nn.Module):
    """ReLU forward, and the slope `sigmoid(sharpness * x)` backward (Haim et al. 2022, arXiv 2206.07758)."""

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = torch.tensor(1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Rectify any tensor."""
        return _Smooth.apply(x, self.sharpness)


@dataclass(frozen=True, eq=False)
class Twice:
    """A network in evaluation mode whose ReLUs are smooth, on records that were shifted and scaled.

    Args:
        model: maps shifted and scaled records `(N, *shape)` to logits.
        shape: of a record.
        mean: what is taken from a record `(D,)`.
        std: what it is then divided by `(D,)`.
    """

    model: nn.Module
    shape: tuple[int, ...]
    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, release: Weights) -> "Twice":
        """A copy of the network, where it is; the one released stays as it is."""
        model = copy.deepcopy(release.model).eval()
        if type(model) is nn.Sequential and isinstance(model[0], (Normalize, Standardize)):
            model = model[1:]
        for parent in list(model.modules()):
            for name, child in parent._modules.items():  # named_children leaves out a layer's second place
                if isinstance(child, nn.ReLU):
                    setattr(parent, name, SmoothReLU())
        return cls(model, release.shape, *shift(release))

    def inside(self, records: Tensor) -> Tensor:
        """Shifted and scaled records `(..., D)`, as they are."""
        return records

    def outside(self, points: Tensor) -> Tensor:
        """The same."""
        return points

    def residual(self, points: Tensor, multipliers: Tensor, targets: Tensor, sharpness: Tensor) -> Residual:
        """One run after another; see `divulge.attacks.reconstruction.stationarity`.

        Raises:
            BadInputError: an answer that has no logit for some class.
        """
        smooth = [layer for layer in self.model.modules() if isinstance(layer, SmoothReLU)]
        weights: dict[str, Tensor] = {
            name: weight for name, weight in self.model.named_parameters() if weight.requires_grad
        }
        found = []
        for run in range(len(points)):
            for layer in smooth:
                layer.sharpness = sharpness[run]
            point, multiplier = points[run].requires_grad_(), multipliers[run].requires_grad_()
            with torch.enable_grad():
                logits = functional_call(self.model, weights, (point.view(-1, *self.shape),))
                if logits.ndim != 2 or int(targets.max()) >= max(logits.shape[1], 2):
                    raise BadInputError(
                        f"kkt: expected a logit for each of {int(targets.max()) + 1} classes, got answers of shape "
                        f"{tuple(logits.shape)}."
                    )
                margins = (margin_slopes(logits.detach(), targets[run]) * logits).sum(1)
                sums = torch.autograd.grad(
                    (multiplier * margins).sum(), list(weights.values()), create_graph=True, materialize_grads=True
                )
                value = torch.stack(
                    [
                        (weight.detach() - part).square().sum()
                        for weight, part in zip(weights.values(), sums, strict=True)
                    ]
                ).sum()
                slopes = torch.autograd.grad(value, (point, multiplier), materialize_grads=True)
                found.append((value.detach(), *slopes))
        return Residual(*(torch.stack(parts) for parts in zip(*found, strict=True)))
