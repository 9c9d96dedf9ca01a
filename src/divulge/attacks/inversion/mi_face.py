"""Model inversion with the model in hand: down the slope of its confidence."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from divulge.attacks.inversion.base import InversionAttack, Inversions
from divulge.attacks.inversion.costs import COSTS, Cost
from divulge.attacks.inversion.prior import Code, Pixels, PrincipalComponents, code_of, space
from divulge.attacks.inversion.process import Process, denoise_and_sharpen
from divulge.attacks.inversion.selection import robustness
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.releases import Weights

NOTHING = Knowledge()
COMPONENTS = 40
"""Principal components that an adversary who knows of a defense searches among, where there are public records."""


@dataclass(frozen=True)
class MIFace(InversionAttack):
    """Draws a record of each class by gradient steps that raise the model's confidence in it, all classes at once.

    Fredrikson et al. 2015 (doi 10.1145/2810103.2813677). As published: `cost="confidence"`, `unit=False`, `lr=0.1`,
    `steps=5000`, `box=None`. The defaults take steps of equal length down the cross-entropy inside the pixels' range,
    which needs a fiftieth of the steps. The best record seen of each class is kept, as a copy. The search runs on the
    CPU.

    An adversary who knows of a defense in training does not trust a single search: the logit and the Poincare loss are
    tried too, and principal components of public records where there are some, and the drawing of each class is kept
    whose class holds best under small changes.

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
        process: what each step ends with: nothing, taking noise out and sharpening, or the same by way of the code of
            an autoencoder at the entrance of the model, in which the search then goes on; see
            `divulge.attacks.inversion.process`.
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
    process: Process = "identity"
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
        if self.process != "identity" and self.dimensions is not None:
            raise BadInputError(
                f"mi-face: expected a search with {self.process!r} or among principal components, got both. Leave one "
                "out."
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
            knowledge: public records of the same kind, for `dimensions`; what defends, if it is known.
            generator: of further starts.

        Raises:
            BadInputError: a class that the model does not have, images asked of what is no image, a code of a model
                that does not begin with an autoencoder, dimensions without public records, or a model without slopes or
                with other classes than the release says.
        """
        wanted = wanted_classes(classes, release.classes)
        if (self.tv or self.process != "identity") and len(release.shape) != 3:
            raise BadInputError(
                f"mi-face: tv and processing are for images (C, H, W), got records of shape {release.shape}."
            )
        model = copy.deepcopy(release.model).cpu().eval().requires_grad_(False)
        searches = [self, *self._further(knowledge)]
        found = [one._searched(model, release, wanted, knowledge, generator) for one in searches]
        if len(searches) == 1:
            return found[0]
        held = torch.stack([robustness(model, one.inputs, wanted, generator=generator) for one in found])
        chosen = held.argmax(dim=0)
        rows = torch.arange(len(wanted))
        return Inversions(
            torch.stack([one.inputs for one in found])[chosen, rows],
            wanted,
            torch.stack([one.confidence for one in found])[chosen, rows],
            facts={"steps": sum(one.facts["steps"] for one in found), "searches": len(searches)},
        )

    def _further(self, knowledge: Knowledge) -> list["MIFace"]:
        """What else somebody tries who knows that a defense acted in training."""
        if not getattr(knowledge.defense, "in_training", False):
            return []
        costs: tuple[Cost, ...] = ("logit", "poincare")
        further = [replace(self, cost=cost) for cost in costs if cost != self.cost]
        if knowledge.data is not None and len(knowledge.data) > 1 and self.dimensions is None:
            count = min(COMPONENTS, len(knowledge.data) - 1)
            further.append(replace(self, process="identity", dimensions=count, lr=self.lr / 3))
        return further

    def _searched(
        self, model: nn.Module, release: Weights, wanted: Tensor, knowledge: Knowledge, generator: torch.Generator
    ) -> Inversions:
        where: Pixels | PrincipalComponents | Code = (
            code_of(model, release.shape)
            if self.process == "code"
            else space(release.shape, knowledge.data, self.dimensions)
        )
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
            with torch.enable_grad():
                records = where.records(here)
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
            points[moving] = self._processed(here.detach() + along[moving], where)
            moving[numbers[done]] = False
        records = self._boxed(where.records(best))
        confidence = model(records).softmax(dim=1).gather(1, targets[:, None])[:, 0].view(self.starts, -1)
        chosen = confidence.argmax(dim=0) * len(wanted) + torch.arange(len(wanted))
        return Inversions(records[chosen], wanted, confidence.amax(dim=0), facts={"steps": steps})

    def _boxed(self, records: Tensor) -> Tensor:
        return records if self.box is None else records.clamp(*self.box)

    def _processed(self, points: Tensor, where: Pixels | PrincipalComponents | Code) -> Tensor:
        if isinstance(where, Code):
            return where.points(denoise_and_sharpen(where.records(points)))
        if self.dimensions is not None:
            return points
        points = points if self.box is None else points.clamp(*self.box)
        if self.process == "denoise-sharpen":
            points = denoise_and_sharpen(where.records(points)).flatten(1)
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
