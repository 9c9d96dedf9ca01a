"""What a search makes small: the objective of many guesses at once."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from divulge.attacks.gradients.distances import Distance
from divulge.attacks.gradients.minimize import Evaluate
from divulge.attacks.gradients.replay import Replay
from divulge.errors import BadInputError
from divulge.models import Normalize
from divulge.releases import GradientRecord


@dataclass(frozen=True, eq=False)
class Plan:
    """What is matched, for each of `V` victims.

    Args:
        replay: the client played again.
        shared: the tensors to match, by name, `(V, ...)`.
        top: what the replayed loss takes beside the model's answer, `(V, B, ...)`; None where soft labels are searched
            for too.
        labels: class numbers `(V, B)`, where they are known.
        anchor: the known input of the tapped layer, `(V, B, d)`, if there is one.
        anchoring: weight of the squared distance to the anchor, relative to the anchor's length.
    """

    replay: Replay
    shared: dict[str, Tensor]
    top: Tensor | None
    labels: Tensor | None = None
    anchor: Tensor | None = None
    anchoring: float = 0.0

    @property
    def known(self) -> dict[str, Any]:
        """All that differs between victims, with the victim first."""
        rest = {"top": self.top, "anchor": self.anchor}
        return {"shared": self.shared} | {name: value for name, value in rest.items() if value is not None}


@dataclass(frozen=True, eq=False)
class Units:
    """The units that a search moves in: those that the network works in, after its `Normalize` layer.

    Args:
        shift: the pixel that is 0.
        scale: pixels a unit.
    """

    shift: Tensor
    scale: Tensor

    @classmethod
    def of(cls, model: nn.Module) -> "Units":
        """Those of a model's first `Normalize` layer; pixels where it has none."""
        for layer in model.modules():
            if isinstance(layer, Normalize):
                return cls(layer.mean, layer.std)
        like = next(model.parameters())
        return cls(like.new_zeros(()), like.new_ones(()))

    def pixels(self, images: Tensor) -> Tensor:
        """Images `(..., *shape)` in pixels."""
        return images * self.scale + self.shift

    def limits(self, box: tuple[float, float], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """A box of pixels as limits of each entry of images of `shape`, flattened."""
        low, high = ((side - self.shift) / self.scale for side in box)
        return low.expand(shape).flatten(), high.expand(shape).flatten()


def objective(
    plan: Plan,
    units: Units,
    *,
    shape: tuple[int, ...],
    distance: Distance,
    skip_zeros: bool,
    prior: Callable[[Tensor], Tensor] | None,
    restarts: int,
    together: int,
) -> Evaluate:
    """How to evaluate guesses: points `(m, n)`, each a batch of images and, where labels are not known, logits.

    Args:
        plan: what is matched.
        units: of the images in a point.
        shape: of a batch of images, `(B, ...)`.
        distance: between gradients.
        skip_zeros: leave out the entries that are zero in the shared tensors.
        prior: a number that is small for likely images, with its weight.
        restarts: how many problems in a row are of one victim.
        together: how many guesses are evaluated at once, to bound the memory.
    """
    known, entries = plan.known, math.prod(shape)

    def one(point: Tensor, victim: dict[str, Any]) -> tuple[Tensor, Tensor]:
        images, shared = point[:entries].view(shape), victim["shared"]
        top = victim["top"] if "top" in victim else point[entries:].view(shape[0], -1).softmax(dim=1)
        found, seen = plan.replay(units.pixels(images), top)
        if skip_zeros:
            found = {name: found[name] * (shared[name] != 0) for name in shared}
        matching = distance(found, shared)
        if "anchor" in victim:
            anchor = victim["anchor"]
            matching = matching + plan.anchoring * (seen - anchor).square().sum() / anchor.square().sum()
        return (matching if prior is None else matching + prior(images)), matching

    many = vmap(one)

    def evaluate(points: Tensor, problems: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = []
        for some, whose in zip(points.split(together), (problems // restarts).split(together), strict=True):
            guesses = some.detach().requires_grad_()
            with torch.enable_grad():
                total, matching = many(guesses, _rows(known, whose))
                (gradient,) = torch.autograd.grad(total.sum(), guesses)
            parts.append((total.detach(), gradient, matching.detach()))
        total, gradient, matching = (torch.cat(part) for part in zip(*parts, strict=True))
        return total, gradient, matching

    return evaluate


def probe(name: str, evaluate: Evaluate, points: Tensor) -> None:
    """See that a gradient reaches the guess.

    Raises:
        BadInputError: it does not, or the model cannot be differentiated or batched.
    """
    try:
        _, gradient, _ = evaluate(points, torch.arange(len(points), device=points.device))
    except RuntimeError as error:
        raise BadInputError(
            f"{name}: the gradient of the model's gradient cannot be computed; it has to be made of operations that "
            f"torch.func can differentiate twice and batch. PyTorch says: {error}"
        ) from error
    if not gradient.any():
        raise BadInputError(
            f"{name}: the model's gradient does not change with its input, so there is nothing to search along. Is an "
            "operation of it not differentiable, such as rounding or a detach?"
        )


def stacked(records: list[GradientRecord], names: list[str]) -> dict[str, Tensor]:
    """The named tensors of all victims, victim first."""
    return {name: torch.stack([record.gradients[name].detach() for record in records]) for name in names}


def _rows(known: dict[str, Any], rows: Tensor) -> dict[str, Any]:
    return {name: _rows(part, rows) if isinstance(part, dict) else part[rows] for name, part in known.items()}
