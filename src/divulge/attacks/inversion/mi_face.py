"""Model inversion with the model in hand: down the slope of its confidence."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from divulge.attacks.inversion.base import InversionAttack, Inversions
from divulge.attacks.inversion.costs import COSTS, Cost
from divulge.attacks.inversion.prior import space
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.releases import Weights

NOTHING = Knowledge()


@dataclass(frozen=True)
class MIFace(InversionAttack):
    """Draws a record of each class by gradient steps that raise the model's confidence in it, all classes at once.

    Fredrikson et al. 2015 (doi 10.1145/2810103.2813677). As published: `cost="confidence"`, `unit=False`, `lr=0.1`,
    `steps=5000`, `box=None`. The defaults take steps of equal length down the cross-entropy inside the pixels' range,
    which needs a fiftieth of the steps. The best record seen of each class is kept, as a copy. The search runs on the
    CPU.

    Args:
        cost: what is lowered; see `divulge.attacks.inversion.costs`.
        steps: at most.
        lr: length of a step, or the factor on the gradient if not `unit`.
        unit: whether the gradient of each class is brought to length 1.
        momentum: share of the last step that is taken again.
        patience: a class is done after this many steps without a lower cost.
        target_confidence: a class is done at this posterior.
        tv: weight of the total variation of images, mean over pixels.
        box: the entries that are allowed; None for all.
        smooth: whether each step ends by mixing every pixel with its neighbors, as the published processing step
            denoises.
        dimensions: principal components of public records to search in; None for the entries themselves.
        starts: searches of each class from different points; the first is zeros, and the most confident is kept.
    """

    name: ClassVar[str] = "mi-face"
    source: ClassVar[str] = "Fredrikson et al. 2015, doi 10.1145/2810103.2813677"

    cost: Cost = "cross-entropy"
    steps: int = 100
    lr: float = 1.0
    unit: bool = True
    momentum: float = 0.0
    patience: int = 100
    target_confidence: float = 1.0
    tv: float = 0.0
    box: tuple[float, float] | None = (0.0, 1.0)
    smooth: bool = False
    dimensions: int | None = None
    starts: int = 1

    def __post_init__(self) -> None:
        whole = min(self.steps, self.patience, self.starts) >= 1
        if not (whole and 0 < self.lr < math.inf and 0 <= self.tv < math.inf and 0 <= self.momentum < 1):
            raise BadInputError(
                "mi-face: expected steps, patience and starts of 1 or more, a positive lr, no negative tv and a "
                f"momentum from 0 to below 1, got {self.steps}, {self.patience}, {self.starts}, {self.lr}, {self.tv} "
                f"and {self.momentum}."
            )
        if not 0 < self.target_confidence <= 1 or (self.box is not None and not self.box[0] < self.box[1]):
            raise BadInputError(
                f"mi-face: expected a target_confidence in (0, 1] and a box of a lower and a higher value, got "
                f"{self.target_confidence} and {self.box}."
            )

    def run(
        self,
        release: Weights,
        *,
        classes: Sequence[int] | None = None,
        knowledge: Knowledge = NOTHING,
        generator: torch.Generator,
    ) -> Inversions:
        """Draw a record of each class; the model stays as it is.

        Args:
            release: the trained classifier.
            classes: which; all by default.
            knowledge: public records of the same kind, for `dimensions`.
            generator: of further starts.

        Raises:
            BadInputError: a class that the model does not have, images asked of what is no image, dimensions without
                public records, or a model without slopes or with other classes than the release says.
        """
        wanted = wanted_classes(classes, release.classes)
        if (self.tv or self.smooth) and len(release.shape) != 3:
            raise BadInputError(f"mi-face: tv and smooth are for images (C, H, W), got records of {release.shape}.")
        model = copy.deepcopy(release.model).cpu().eval().requires_grad_(False)
        where = space(release.shape, knowledge.data, self.dimensions)
        targets = wanted.repeat(self.starts)
        points = torch.zeros(len(targets), where.dimensions)
        points[len(wanted) :] = torch.randn(len(targets) - len(wanted), where.dimensions, generator=generator)
        along = torch.zeros_like(points)
        best, least = points.clone(), torch.full((len(targets),), torch.inf)
        waited = torch.zeros(len(targets), dtype=torch.long)
        moving = torch.ones(len(targets), dtype=torch.bool)
        steps = 0
        while True:
            here = points[moving].requires_grad_()
            records = where.records(here)
            with torch.enable_grad():
                logits = model(self._boxed(records))
                if not logits.requires_grad:
                    raise BadInputError("mi-face: the model's answer has no slope. Use inversion-by-queries.")
                if logits.ndim != 2 or logits.shape[1] != release.classes:
                    raise BadInputError(
                        f"mi-face: expected logits of {release.classes} classes, got shape {tuple(logits.shape)}."
                    )
                values = COSTS[self.cost](logits, targets[moving])
                total = values + self.tv * _variation(records) if self.tv else values
                (slope,) = torch.autograd.grad(total.sum(), here)
            values = total.detach()
            better = values < least[moving]
            numbers = moving.nonzero()[:, 0]
            best[numbers[better]], least[numbers[better]] = here.detach()[better], values[better]
            waited[numbers] = torch.where(better, 0, waited[numbers] + 1)
            posterior = logits.detach().softmax(dim=1).gather(1, targets[moving][:, None])[:, 0]
            done = (waited[numbers] >= self.patience) | (posterior >= self.target_confidence)
            if steps == self.steps or done.all():
                break
            steps += 1
            if self.unit:
                slope = slope / slope.norm(dim=1, keepdim=True).clamp_min(1e-20)
            along[moving] = self.momentum * along[moving] - self.lr * slope
            points[moving] = self._processed(here.detach() + along[moving], release.shape)
            moving[numbers[done]] = False
        records = self._boxed(where.records(best))
        confidence = model(records).softmax(dim=1).gather(1, targets[:, None])[:, 0].view(self.starts, -1)
        chosen = confidence.argmax(dim=0) * len(wanted) + torch.arange(len(wanted))
        return Inversions(records[chosen], wanted, confidence.amax(dim=0), facts={"steps": steps})

    def _boxed(self, records: Tensor) -> Tensor:
        return records if self.box is None else records.clamp(*self.box)

    def _processed(self, points: Tensor, shape: tuple[int, ...]) -> Tensor:
        if self.dimensions is not None:
            return points
        points = points if self.box is None else points.clamp(*self.box)
        if self.smooth:
            images = points.view(-1, *shape)
            around = functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
            points = (0.5 * images + 0.5 * around).flatten(1)
        return points


def wanted_classes(classes: Sequence[int] | None, known: int) -> Tensor:
    """The classes that are asked for, checked; all `known` ones if None."""
    wanted = torch.arange(known) if classes is None else torch.tensor(list(classes), dtype=torch.long)
    if len(wanted) == 0 or not (wanted.min() >= 0 and wanted.max() < known):
        raise BadInputError(f"inversion: expected classes from 0 to {known - 1}, one or more, got {wanted.tolist()}.")
    return wanted


def _variation(images: Tensor) -> Tensor:
    across = images.diff(dim=-1).abs().flatten(1).mean(dim=1)
    return across + images.diff(dim=-2).abs().flatten(1).mean(dim=1)
