"""Searches for what stochastic layers drew together with the images."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from divulge.attacks.gradients.adam import Schedule
from divulge.attacks.gradients.inverting_gradients import InvertingGradients
from divulge.attacks.gradients.masks import masks_of
from divulge.attacks.gradients.minimize import Evaluate, Minimized, Project
from divulge.attacks.gradients.plan import Plan, Units
from divulge.attacks.gradients.replay import Replay
from divulge.attacks.gradients.rounds import Round
from divulge.attacks.gradients.variational import bottleneck, open_one
from divulge.errors import BadInputError
from divulge.models.stochastic import MaskedDropout, injectable
from divulge.releases import Tampering


@dataclass(frozen=True)
class NoiseRestoring(InvertingGradients):
    """Inverting gradients with the noise of a variational bottleneck, or the masks of dropout, searched for as well.

    The noise-restoring attack on PRECODE: two sets of variables under one Adam, the images fed by the sign of their
    gradient and the noise by its gradient. The defaults are the authors', whose search leaves the divergence of the
    code out of the loss that it plays again.

    Args:
        penalized: whether what stochastic layers add to the loss is played again.
        noise_lr: step size of the noise; None for that of the images.
        noise_weight: of the prior on the noise: its mean square, or how far masks are from their share.
        noise_start: where the noise starts: `drawn` as a client would, or `read` from the gradients in closed form, for
            batches of one.
    """

    name: ClassVar[str] = "noise-restoring"
    source: ClassVar[str] = "NRA, github.com/ChellyFan/Exp3"

    tv: float = 1e-6
    steps: int = 7000
    lr: float = 0.01
    penalized: bool = False
    noise_lr: float | None = None
    noise_weight: float = 0.0
    noise_start: Literal["drawn", "read"] = "drawn"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise_weight < 0 or (self.noise_lr is not None and self.noise_lr <= 0):
            raise BadInputError(
                f"{self.name}: expected a noise_weight of 0 or more and a positive noise_lr, or none, got "
                f"{self.noise_weight} and {self.noise_lr}."
            )
        if self.optimizer != "adam" or self.labels == "joint":
            raise BadInputError(
                f"{self.name}: expected optimizer='adam' and labels that are read first, got {self.optimizer!r} and "
                f"{self.labels!r}."
            )

    def heeded(self, known: Tampering) -> Tampering:
        """All but what depends on the noise, which is searched for."""
        return replace(known, withheld=(), zeros=False)

    def plan(self, one: Round, labels: Tensor | None) -> Plan:
        """What is matched, with the noise at the end of every point."""
        if one.records[0].training:
            one = replace(one, model=injectable(one.model))
        plan = super().plan(one, labels)
        replay = Replay(one.model, one.records[0], penalized=self.penalized)
        if not replay.layers:
            raise BadInputError(
                f"{self.name}: expected a model that draws, by a variational bottleneck or dropout, and for the latter "
                "a record made in training mode. Use inverting-gradients."
            )
        return replace(plan, replay=replay, restoring=True)

    def extended(
        self, begin: Tensor, rounds: Sequence[Round], plans: Sequence[Plan], generator: torch.Generator
    ) -> Tensor:
        """The starts with that of the noise."""
        plan, one = plans[0], rounds[0]
        if not plan.restoring:
            return begin
        if len(plans) > 1:
            raise BadInputError(
                f"{self.name}: expected one round, got {len(plans)}: each has noise of its own. Use bias-anchored."
            )
        if self.noise_start == "drawn":
            noise = list(plan.replay.fresh(len(begin), generator).values())
        else:
            noise = [part.repeat_interleave(self.restarts, dim=0) for part in self._read(one, plan.replay)]
        return torch.cat([begin, *(part.flatten(1).to(begin) for part in noise)], dim=1)

    def _read(self, one: Round, replay: Replay) -> list[Tensor]:
        """The noise of each layer `(victims, 1, ...)` in closed form."""
        if all(isinstance(layer, MaskedDropout) for layer in replay.layers.values()):
            read = [masks_of(record, replay) for record in one.records]
            return [torch.stack(parts) for parts in zip(*read, strict=True)]
        if list(replay.layers) != [bottleneck(one.records[0], one.model).noise]:
            raise BadInputError(
                f"{self.name}: only the noise of a single bottleneck can be read. Set noise_start='drawn'."
            )
        return [torch.stack([open_one(record, one.model).noise for record in one.records])]

    def _noise_prior(self) -> Callable[[Replay, dict[str, Tensor]], Tensor] | None:
        if not self.noise_weight:
            return None
        return self._surprise

    def _surprise(self, replay: Replay, noise: dict[str, Tensor]) -> Tensor:
        parts = [layer.surprise(noise[name]) for name, layer in replay.layers.items()]
        return self.noise_weight * torch.stack(parts).sum()

    def _project(self, units: Units, shape: tuple[int, ...], begin: Tensor, plans: Sequence[Plan]) -> Project:
        """The box of the images, and masks between 0 and 1."""
        project, entries = super()._project(units, shape, begin, plans), math.prod(shape)
        if not plans[0].restoring:
            return project
        nearest = plans[0].replay.nearest
        return lambda points: torch.cat([project(points)[:, :entries], nearest(points[:, entries:])], dim=1)

    def _minimize(self, evaluate: Evaluate, begin: Tensor, project: Project, entries: int) -> Minimized:
        """Adam's steps are as long as its step size whatever the units, so those of the noise decide its own."""
        unit = torch.ones_like(begin[0])
        unit[entries:] = 1.0 if self.noise_lr is None else self.noise_lr / self.lr

        def scaled(points: Tensor, problems: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            objective, gradient, matching = evaluate(points * unit, problems)
            return objective, gradient * unit, matching

        found = super()._minimize(scaled, begin / unit, lambda points: project(points * unit) / unit, entries)
        return replace(found, points=found.points * unit)

    def _restored(self, plans: Sequence[Plan], points: Tensor) -> dict[str, Tensor]:
        """The noise of each victim, by the name of its layer `(victims, batch, ...)`."""
        if not plans[0].restoring:
            return {}
        parts = [plans[0].replay.parts(point) for point in points]
        return {name: torch.stack([part[name] for part in parts]) for name in plans[0].replay.layers}


@dataclass(frozen=True)
class NoiseRestoringImproved(NoiseRestoring):
    """The noise-restoring attack with the whole loss played again, longer steps and a prior for the noise."""

    name: ClassVar[str] = "noise-restoring-improved"
    source: ClassVar[str] = ""

    tv: float = 1e-4
    lr: float = 0.1
    penalized: bool = True
    noise_lr: float | None = 0.05
    noise_weight: float = 1e-3


@dataclass(frozen=True)
class DropoutInversion(NoiseRestoring):
    """Searches for the masks of dropout together with the images.

    Masks lie between 0 and 1, start as a client would draw them, and are held near the share of units that are kept.
    The authors lower the step size where the loss stalls and stop early; here it falls at fixed marks.
    """

    name: ClassVar[str] = "dropout-inversion"
    source: ClassVar[str] = "Scheliga et al. 2023, arXiv 2208.06163"

    tv: float = 1e-5
    steps: int = 20_000
    lr: float = 0.1
    schedule: Schedule = "steps"
    penalized: bool = True
    noise_weight: float = 1e-4
    enough: float = 1e-5
