"""All equations of the body at once: the record by Gauss and Newton's method."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import jvp, vmap

from divulge.attacks.gradients.base import GradientAttack, Reconstructions
from divulge.attacks.gradients.batch_door import open_door
from divulge.attacks.gradients.bias_anchored import BiasAnchored
from divulge.attacks.gradients.body import Body, body
from divulge.attacks.gradients.convolution import unit
from divulge.attacks.gradients.labels import labels_by_bias
from divulge.attacks.gradients.layer_input import signal_below
from divulge.attacks.gradients.layers import layer, twin
from divulge.attacks.gradients.levenberg import Minimum, levenberg_marquardt
from divulge.attacks.gradients.peel import Peel, peelable
from divulge.attacks.gradients.replay import Replay
from divulge.attacks.gradients.rounds import Round
from divulge.attacks.gradients.trusted import Trusted, trusted
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.releases import GradientRecord

TOGETHER = 256
"""Directions in which the residuals are differentiated at once."""
CLOSE = 1e-2
"""Share of the equations left over from which on a start needs no better one."""
ENTRIES = 100_000_000
"""Of the Jacobian at most, eight bytes each."""
ROUNDED = 4.0
"""Units of the last place of what was shared, as a share of the equations left over, that are no more than rounding."""


@dataclass(frozen=True)
class GaussNewton(GradientAttack):
    """Solves for the record at which everything that is known of the body below a biased linear layer holds at once.

    That layer's gradients give its input and the signal that reached it, so the body's shared gradients and that input
    are functions of the record alone; nothing above the layer matters. Peeling solves one layer after another, and each
    multiplies the rounding errors of those above; here they are all weighed together, which is what a trained network
    needs. For smooth activations. Works in float64, by dense Jacobians.

    Batches whose records the last layers tell apart, as with labels of their own, are solved for together; the body's
    gradients then have to suffice for them all. See `divulge.attacks.gradients.batch_door`.

    It starts from what `peel` finds, or where that leaves much over, from a short `bias-anchored` search if that leaves
    less. `matching` is the share of the equations left over. A record that shares no signal, or nothing but it, is not
    found.

    Args:
        steps: of Levenberg and Marquardt's method, at most; those that reuse a derivative do not count.
        search: steps of the search that gives another start; none with 0.
        tolerance: the largest `matching`, and the largest error estimated from it, at which records are claimed exact.
    """

    name: ClassVar[str] = "gauss-newton"
    source: ClassVar[str] = ""

    steps: int = 30
    search: int = 1000
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if self.steps < 1 or self.search < 0 or self.tolerance <= 0:
            raise BadInputError(
                f"gauss-newton: expected steps of 1 or more, a search of 0 or more and a positive tolerance, got "
                f"{self.steps}, {self.search} and {self.tolerance}."
            )

    def invert(
        self, records: list[GradientRecord], model: nn.Module, *, knowledge: Knowledge, generator: torch.Generator
    ) -> Reconstructions:
        """Solve for each record."""
        first = records[0]
        if first.local_steps != 1:
            raise BadInputError(f"gauss-newton: expected one step, got {first.local_steps}. Use a search.")
        chain = body(first, model)
        believed, facts = trusted(records, model, knowledge)
        search = BiasAnchored(steps=max(1, self.search))
        labels = search.read([Round(records, model)], knowledge)
        replay = Replay(twin(first, model), first, tap=chain.layer)
        problems = [
            _Problem(one, _door(one, model, chain.layer, None if labels is None else labels[victim]), chain, replay)
            for victim, one in enumerate(believed)
        ]
        points = torch.full((len(records), first.batch_size, *first.shape), 0.5)
        left = torch.tensor([problem.left(point) for problem, point in zip(problems, points, strict=True)])
        attacks = [
            *([Peel()] if first.batch_size == 1 and peelable(chain, first) else []),
            *([search] if self.search else []),
        ]
        for attack in attacks:
            if left.max() <= CLOSE:
                break
            tried = attack.run(records, model, knowledge=knowledge, generator=generator).inputs
            shares = torch.tensor([problem.left(point) for problem, point in zip(problems, tried, strict=True)])
            better = shares < left
            points[better], left[better] = tried[better], shares[better]
        found = torch.tensor([bool(problem.signal.any() and problem.told.any()) for problem in problems])
        inputs, matching, steps = torch.zeros_like(points), torch.ones(len(records)), list[int]()
        sure = torch.zeros_like(found)
        for victim, problem in enumerate(problems):
            if found[victim]:
                solved = problem.solve(points[victim], steps=self.steps)
                inputs[victim] = solved.point.view(inputs[victim].shape).float()
                matching[victim] = solved.left
                sure[victim] = solved.determined and max(solved.left, solved.error) <= self.tolerance
                steps.append(solved.steps)
        return Reconstructions(
            inputs,
            labels_by_bias(records, model) if labels is None else labels,
            matching,
            exact=bool(sure.all()),
            found=found[:, None].expand(inputs.shape[:2]),
            facts={"steps": steps} | facts,
        )


def _door(one: Trusted, model: nn.Module, name: str, labels: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """What entered the linear layer, which entries of it are told, and the signals below it, `(B, d)` each.

    Of a batch whose records are not told apart the signals are zero.
    """
    if labels is None:
        top = layer(one.record, model, name)
        features, counted = one.entered(top)
        return features[None], counted[None], signal_below(top)[None]
    if one.known.zeros or one.known.rounding != "none":
        raise BadInputError(
            f"gauss-newton: expected batches of 1 where gradients are rounded or left out, got {len(labels)}, whose "
            "records take exact gradients to tell apart. Use inverting-gradients."
        )
    opened = open_door(one.record, model, labels, name)
    apart = float(opened.left < 1)
    return opened.inputs, torch.full_like(opened.inputs, apart), opened.signals * apart


class _Problem:
    """What is left over of one victim's equations, as a function of the record."""

    def __init__(self, one: Trusted, door: tuple[Tensor, Tensor, Tensor], chain: Body, replay: Replay) -> None:
        self.shape, self.replay = (one.record.batch_size, *one.record.shape), replay
        self.noise = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in replay.shapes.items()}
        self.enough = ROUNDED * max(torch.finfo(g.dtype).eps for g in one.record.gradients.values())
        features, counted, self.signal = door
        self.names = [
            name for name, gradient in one.record.gradients.items() if name.startswith(chain.learned) and gradient.any()
        ]
        pairs = [tuple(part.flatten() for part in one.tensor(name)) for name in self.names]
        pairs.append((features.flatten(), counted.flatten()))
        self.weights = torch.cat([believed * unit(shared, believed) for shared, believed in pairs])
        self.told = self.weights * torch.cat([shared for shared, _ in pairs])
        self.size = float(self.told.norm()) or 1.0
        unknowns = math.prod(self.shape)
        if unknowns * len(self.told) > ENTRIES:
            raise BadInputError(
                f"gauss-newton: {len(self.told):,} equations with {unknowns:,} unknowns are too many. Use "
                "bias-anchored."
            )

    def residuals(self, point: Tensor) -> Tensor:
        """What a record `(n,)` leaves over."""
        found, seen = self.replay(point.view(self.shape), self.signal, self.noise)
        return self.weights * torch.cat([*(found[name].flatten() for name in self.names), seen.flatten()]) - self.told

    def jacobian(self, point: Tensor) -> Tensor:
        """Its derivative, transposed."""
        along = vmap(lambda direction: jvp(self.residuals, (point,), (direction,))[1], randomness="different")
        directions = torch.eye(len(point), dtype=point.dtype).split(TOGETHER)
        return torch.cat([along(some) for some in directions])

    def left(self, image: Tensor) -> float:
        """The share of the equations that an image leaves over."""
        with seeded(0):
            return float(self.residuals(image.double().flatten()).norm()) / self.size

    def solve(self, image: Tensor, *, steps: int) -> Minimum:
        """Search from an image."""
        start = image.double().flatten()
        with seeded(0):  # a layer above the linear one may draw, to no effect
            return levenberg_marquardt(
                self.residuals, self.jacobian, start, size=self.size, steps=steps, enough=self.enough
            )
