"""What a search makes small: the objective of many guesses at once."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.func import vmap

from divulge.attacks.gradients.believed import Rounding, believed
from divulge.attacks.gradients.distances import Distance
from divulge.attacks.gradients.minimize import Evaluate
from divulge.attacks.gradients.products import spanned
from divulge.attacks.gradients.replay import Replay
from divulge.errors import BadInputError
from divulge.models import Normalize


@dataclass(frozen=True, eq=False)
class Plan:
    """What is matched of one round, for each of `V` victims.

    Args:
        replay: the client played again.
        shared: the tensors to match, by name, `(V, ...)`.
        top: what the replayed loss takes beside the model's answer, `(V, B, ...)`; None where soft labels are searched
            for too.
        kept: which entries of `shared` are believed, bool, by name `(V, ...)`; None for all.
        steps: what the entries of `shared` were rounded to multiples of, by name `(V,)`, if they were.
        anchor: the known input of the tapped layer, `(V, B, d)`, if there is one.
        weights: of the squared distance to each entry of the anchor.
        noise: of the stochastic layers, by name `(V, B, ...)`, where it is known; otherwise they draw afresh for every
            guess.
        restoring: whether noise is searched for; it is then the end of a point.
        spans: of weights that `shared` holds in coordinates, by name, `(V, ...)`; see `products`.
    """

    replay: Replay
    shared: dict[str, Tensor]
    top: Tensor | None
    kept: dict[str, Tensor] | None = None
    steps: dict[str, Tensor] | None = None
    anchor: Tensor | None = None
    weights: Tensor | None = None
    noise: dict[str, Tensor] | None = None
    restoring: bool = False
    spans: dict[str, dict[str, Tensor]] | None = None

    @property
    def known(self) -> dict[str, Any]:
        """All that differs between victims, with the victim first."""
        names = ("shared", "top", "kept", "steps", "anchor", "weights", "noise", "spans")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def shortened(plan: Plan) -> Plan:
    """The same plan with long weight gradients of linear layers in coordinates, which changes no length and no angle.

    Not under masks, which work on entries, and not of several local steps.
    """
    record = plan.replay.record
    if plan.kept is not None or record.local_steps > 1:
        return plan
    replay = plan.replay.only(plan.shared)
    spans, shared = dict[str, dict[str, Tensor]](), dict(plan.shared)
    for name in replay.products():
        spans[name], shared[name] = spanned(plan.shared[name], record.batch_size)
    return replace(plan, replay=replay, shared=shared, spans=spans)


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
    plans: Sequence[Plan],
    units: Units,
    *,
    shape: tuple[int, ...],
    distance: Distance,
    scaled: bool,
    rounding: Rounding,
    prior: Callable[[Tensor], Tensor] | None,
    restarts: int,
    together: int,
    noise_prior: Callable[[Replay, dict[str, Tensor]], Tensor] | None = None,
    generator: Generator,
) -> Evaluate:
    """How to evaluate guesses: points `(m, n)`, each a batch of images, logits where labels are not known, and noise.

    Args:
        plans: what is matched, for each round; the losses of all rounds are added.
        units: of the images in a point.
        shape: of a batch of images, `(B, ...)`.
        distance: between gradients.
        scaled: see `believed`.
        rounding: see `believed`.
        prior: a number that is small for likely images, with its weight.
        restarts: how many problems in a row are of one victim.
        together: how many guesses are evaluated at once, to bound the memory.
        noise_prior: a number that is small for likely noise, with its weight, where noise is searched for.
        generator: of the noise that stochastic layers draw.
    """
    known, entries = {str(number): plan.known for number, plan in enumerate(plans)}, math.prod(shape)
    victims = len(next(iter(plans[0].shared.values())))

    def one(point: Tensor, victim: dict[str, Any]) -> tuple[Tensor, Tensor]:
        images = point[:entries].view(shape)
        matching = likely = point.new_zeros(())
        for plan, told in zip(plans, victim.values(), strict=True):
            rest = point[entries:]
            noise = plan.replay.parts(rest) if plan.restoring else told.get("noise", {})
            if "top" in told:
                top = told["top"]
            else:
                top = rest[: shape[0] * plan.replay.record.classes].view(shape[0], -1).softmax(dim=1)
            found, seen = plan.replay(units.pixels(images), top, noise, told.get("spans", {}))
            compared = believed(
                found,
                told["shared"],
                kept=told.get("kept"),
                scaled=scaled,
                rounding=rounding,
                steps=told.get("steps"),
            )
            matching = matching + distance(compared, told["shared"])
            if "anchor" in told:
                matching = matching + (told["weights"] * (seen - told["anchor"]).square()).sum()
            if plan.restoring and noise_prior is not None:
                likely = likely + noise_prior(plan.replay, noise)
        return likely + (matching if prior is None else matching + prior(images)), matching

    many = vmap(one)

    def evaluate(points: Tensor, problems: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = []
        for some, whose in zip(points.split(together), (problems // restarts).split(together), strict=True):
            guesses = some.detach().requires_grad_()
            with torch.enable_grad():
                everyone = len(whose) == victims and torch.equal(whose, torch.arange(victims, device=whose.device))
                told = {name: dict(part) for name, part in known.items()} if everyone else _rows(known, whose)
                for plan, own in zip(plans, told.values(), strict=True):
                    if plan.replay.layers and plan.noise is None and not plan.restoring:
                        own["noise"] = plan.replay.fresh(len(some), generator)
                total, matching = many(guesses, told)
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
        _, gradient, matching = evaluate(points, torch.arange(len(points), device=points.device))
    except RuntimeError as error:
        raise BadInputError(
            f"{name}: the gradient of the model's gradient cannot be computed; it has to be made of operations that "
            f"torch.func can differentiate twice and batch. PyTorch says: {error}"
        ) from error
    if not gradient.any() and matching.any():
        raise BadInputError(
            f"{name}: the model's gradient does not change with its input, so there is nothing to search along. Is an "
            "operation of it not differentiable, such as rounding or a detach?"
        )


def stacked(tensors: Sequence[Mapping[str, Tensor]], names: list[str]) -> dict[str, Tensor]:
    """The named tensors of all victims, victim first."""
    return {name: torch.stack([one[name].detach() for one in tensors]) for name in names}


def _rows(known: dict[str, Any], rows: Tensor) -> dict[str, Any]:
    return {name: _rows(part, rows) if isinstance(part, dict) else part[rows] for name, part in known.items()}
