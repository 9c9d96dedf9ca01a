"""The search behind most gradient inversion: guess a batch, compare what it would have shared, improve the guess."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from divulge.attacks.gradients.adam import Schedule, Sign, adam
from divulge.attacks.gradients.base import GradientAttack, Reconstructions
from divulge.attacks.gradients.distances import DISTANCES, Distance, likelihood
from divulge.attacks.gradients.labels import label_by_bias, label_by_weight, label_counts
from divulge.attacks.gradients.lbfgs import lbfgs
from divulge.attacks.gradients.minimize import Project
from divulge.attacks.gradients.plan import Plan, Units, objective, probe, stacked
from divulge.attacks.gradients.priors import VARIATIONS
from divulge.attacks.gradients.replay import Replay
from divulge.attacks.gradients.starts import STARTS
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.releases import GradientRecord

PUBLIC = 256
"""Records that the mean answer of the model is taken over, where labels of a batch are read."""


@dataclass(frozen=True)
class Search(GradientAttack):
    """Searches for batches whose gradients match, with every part of the search a setting.

    All restarts of all victims are searched side by side. A restart gives the best point that it saw, and stops there
    if it meets a value that is not finite, which `facts` counts as `diverged`. Of a victim's restarts the one with the
    least matching loss is kept, without a look at priors or at the truth; a victim all of whose restarts stopped at
    once is not found. The search moves in the units that the network works in: those after its `Normalize` layer, where
    it has one. Batch norm in training mode is played again with the statistics of the guess.

    Args:
        distance: between the gradients of a guess and the shared ones; `gaussian` and `laplace` are the likelihood
            under noise that is known.
        noise: the standard deviation of that noise.
        zeros: whether entries that are exactly zero in the record are matched, or taken as withheld and skipped.
        ignore: parameters that are not matched, by the beginnings of their names.
        labels: read from the last layer's gradients, that of its `bias` (any batch) or of its `weight` (a batch of one,
            as iDLG does); or `joint`, soft labels that are searched for with the images.
        targets: the class numbers of each victim's batch, where they are known; `labels` has no say then.
        tv: weight of the total variation.
        variation: which; see `divulge.attacks.gradients.priors`.
        box: the pixels that are allowed; None for all.
        start: where the search starts; see `divulge.attacks.gradients.starts`.
        restarts: how many starts for each victim.
        optimizer: `adam`, or `lbfgs`, whose steps are up to 20 iterations each.
        steps: how many.
        lr: step size.
        sign: what Adam is fed for the images: the gradient, its `hard` sign or a `soft` one.
        schedule: of Adam's step size; `steps` is a tenth after 3/8, 5/8 and 7/8 of the steps each.
        warmup: steps over which Adam's step size first grows.
        enough: a matching loss at which a restart is done.
        together: how many restarts are evaluated at once, which bounds the memory.
    """

    name: ClassVar[str] = "gradient-search"

    distance: Literal["l2", "l1", "cosine", "gaussian", "laplace"] = "cosine"
    noise: float | None = None
    zeros: Literal["match", "skip"] = "match"
    ignore: tuple[str, ...] = ()
    labels: Literal["bias", "weight", "joint"] = "bias"
    targets: tuple[tuple[int, ...], ...] | None = None
    tv: float = 0.0
    variation: Literal["anisotropic", "color"] = "anisotropic"
    box: tuple[float, float] | None = (0.0, 1.0)
    start: Literal["uniform", "normal", "patterned"] = "normal"
    restarts: int = 1
    optimizer: Literal["adam", "lbfgs"] = "adam"
    steps: int = 2000
    lr: float = 0.1
    sign: Sign = "none"
    schedule: Schedule = "constant"
    warmup: int = 0
    enough: float = 0.0
    together: int = 64

    def __post_init__(self) -> None:
        if min(self.restarts, self.steps, self.together) < 1 or self.lr <= 0 or min(self.tv, self.warmup) < 0:
            raise BadInputError(
                f"{self.name}: expected restarts, steps and together of 1 or more, a positive lr and no negative tv or "
                f"warmup, got {self.restarts}, {self.steps}, {self.together}, {self.lr}, {self.tv} and {self.warmup}."
            )
        if (self.distance in ("gaussian", "laplace")) != (self.noise is not None and self.noise > 0):
            raise BadInputError(
                f"{self.name}: the distances gaussian and laplace need noise, a positive standard deviation, and the "
                f"others take none; got distance={self.distance!r} and noise={self.noise}."
            )
        if self.box is not None and not self.box[0] < self.box[1]:
            raise BadInputError(f"{self.name}: expected a box of a lower and a higher pixel, got {self.box}.")
        if self.optimizer == "lbfgs" and (self.sign, self.schedule, self.warmup) != ("none", "constant", 0):
            raise BadInputError(
                f"{self.name}: sign, schedule and warmup are Adam's and lbfgs has no use for them; got {self.sign!r}, "
                f"{self.schedule!r} and {self.warmup}. Leave them out or take optimizer='adam'."
            )

    def invert(
        self, records: list[GradientRecord], model: nn.Module, *, knowledge: Knowledge, generator: torch.Generator
    ) -> Reconstructions:
        """Search from every start of every victim, and keep the best of each victim."""
        first = records[0]
        if len(first.shape) != 3 and (self.tv or self.start == "patterned"):
            raise BadInputError(
                f"{self.name}: total variation and patterned starts are for images (C, H, W), got records of shape "
                f"{first.shape}. Set tv=0 and start='normal'."
            )
        plan, units = self.plan(records, model, knowledge), Units.of(model)
        shape = (first.batch_size, *first.shape)
        entries = math.prod(shape)
        # drawn for one victim after another, so that no victim's depend on who is attacked with it
        starts = [self._begin(first, joint=plan.top is None, generator=generator) for _ in records]
        begin = torch.cat(starts).to(next(iter(plan.shared.values())))
        evaluate = objective(
            plan,
            units,
            shape=shape,
            distance=self._distance(),
            skip_zeros=self.zeros == "skip",
            prior=self._prior(),
            restarts=self.restarts,
            together=self.together,
        )
        project = self._project(units, shape, begin)
        begin = project(begin)
        probe(self.name, evaluate, begin[: self.restarts])
        if self.optimizer == "lbfgs":
            found = lbfgs(evaluate, begin, steps=self.steps, lr=self.lr, project=project, enough=self.enough)
        else:
            found = adam(
                evaluate,
                begin,
                steps=self.steps,
                lr=self.lr,
                project=project,
                sign=self.sign,
                signed=entries,
                schedule=self.schedule,
                warmup=self.warmup,
                enough=self.enough,
            )
        matching, chosen = found.matching.view(len(records), self.restarts).min(dim=1)
        points = found.points.view(len(records), self.restarts, -1)[torch.arange(len(records)), chosen]
        images, logits = units.pixels(points[:, :entries].unflatten(1, shape)).float(), points[:, entries:]
        alive = matching.isfinite()
        images[~alive] = 0
        return Reconstructions(
            inputs=images,
            targets=plan.labels if plan.top is not None else logits.unflatten(1, (first.batch_size, -1)).argmax(dim=2),
            matching=matching,
            found=None if alive.all() else alive[:, None].expand(images.shape[:2]),
            facts={"diverged": int(found.diverged.sum()), "evaluations": found.evaluations},
        )

    def plan(self, records: list[GradientRecord], model: nn.Module, knowledge: Knowledge) -> Plan:
        """What is matched: every shared tensor, save those to ignore, given the labels."""
        names = [name for name in records[0].gradients if not name.startswith(self.ignore)]
        if not names:
            raise BadInputError(f"{self.name}: ignore={self.ignore} leaves no tensor to match.")
        shared, labels = stacked(records, names), self._labels(records, model, knowledge)
        if labels is not None:
            labels = labels.to(shared[names[0]].device)
        return Plan(Replay(model, records[0]), shared, top=labels, labels=labels)

    def _labels(self, records: list[GradientRecord], model: nn.Module, knowledge: Knowledge) -> Tensor | None:
        first = records[0]
        if self.targets is not None:
            sizes = [len(batch) for batch in self.targets]
            if sizes != [first.batch_size] * len(records) or not all(
                0 <= label < first.classes for batch in self.targets for label in batch
            ):
                raise BadInputError(
                    f"{self.name}: expected targets for {len(records)} victims with batches of {first.batch_size} and "
                    f"{first.classes} classes, got {self.targets}."
                )
            return torch.tensor(self.targets)
        if self.labels == "joint":
            return None
        if self.labels == "weight":
            return torch.tensor([[label_by_weight(record, model)] for record in records])
        if first.batch_size == 1:
            return torch.tensor([[label_by_bias(record, model)] for record in records])
        if knowledge.data is not None:
            public = knowledge.data.inputs[:PUBLIC]
        else:
            public = torch.rand((PUBLIC, *first.shape), generator=torch.Generator().manual_seed(0))
        counts = torch.stack([label_counts(record, model, public) for record in records])
        return torch.stack([torch.arange(first.classes).repeat_interleave(count) for count in counts.cpu()])

    def _begin(self, record: GradientRecord, *, joint: bool, generator: torch.Generator) -> Tensor:
        """The starts of one victim `(restarts, n)`."""
        shape = (self.restarts, record.batch_size, *record.shape)
        images = STARTS[self.start](shape, generator).flatten(1)
        if not joint:
            return images
        logits = torch.randn((self.restarts, record.batch_size * record.classes), generator=generator)
        return torch.cat([images, logits], dim=1)

    def _distance(self) -> Distance:
        return likelihood(self.distance, self.noise) if self.noise else DISTANCES[self.distance]

    def _prior(self) -> Callable[[Tensor], Tensor] | None:
        variation = VARIATIONS[self.variation]
        return (lambda images: self.tv * variation(images)) if self.tv else None

    def _project(self, units: Units, shape: tuple[int, ...], begin: Tensor) -> Project:
        """Clamp the images of points to the box, and leave logits as they are."""
        if self.box is None:
            return lambda points: points
        low, high = units.limits(self.box, shape)
        entries = len(low)
        if not ((begin[:, :entries] >= low) & (begin[:, :entries] <= high)).any():
            raise BadInputError(
                f"{self.name}: no pixel of the {self.start} start lies in the box {self.box}. Pixels are in [0, 1] "
                "throughout divulge, and a Normalize layer of the model maps them to its own units."
            )
        return lambda points: torch.cat([points[:, :entries].clamp(low, high), points[:, entries:]], dim=1)
