"""Model inversion among records that look like public ones: a search in the code of a prior learned from them."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from divulge.attacks.inversion.base import InversionAttack, Inversions
from divulge.attacks.inversion.costs import COSTS, Cost
from divulge.attacks.inversion.mi_face import NOTHING, wanted_classes
from divulge.attacks.inversion.prior import PrincipalComponents
from divulge.attacks.inversion.selection import robustness
from divulge.attacks.inversion.variational import Variational
from divulge.attacks.knowledge import Knowledge
from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.releases import Weights

EPOCHS, WIDTH, BATCH, LR = 30, 256, 64, 1e-3


@dataclass(frozen=True)
class LatentInversion(InversionAttack):
    """Draws each class as a record of a prior, by the logit loss on the network and on students of it.

    Nguyen et al. 2023 (LOMMA, arXiv 2304.01669): the logit of the class is raised rather than its posterior, what the
    last layer is given is kept near what public records give it, and small networks that imitate the target on public
    records judge beside it, since a drawing that pleases all of them owes less to the one's peculiarities. Of several
    starts the drawing is kept whose class holds best under small changes (Struppek et al. 2022, arXiv 2201.12179). An
    adversary who knows of a defense in training tries the cross-entropy and the Poincare loss as well, and keeps the
    same way.

    Args:
        prior: principal components of public records, or a variational autoencoder.
        dimensions: of its code.
        cost: what is lowered; see `divulge.attacks.inversion.costs`.
        near: weight of the squared distance of the last layer's input from its mean over public records, in units of
            their own.
        likely: weight of the code's square, which is small for records as they are found.
        students: how many networks are taught to imitate the target.
        steps: of Adam.
        lr: its learning rate.
        starts: searches of each class; the first is the mean record.
        epochs: of the autoencoder's training.
    """

    name: ClassVar[str] = "lomma"
    source: ClassVar[str] = "Nguyen et al. 2023, arXiv 2304.01669; Struppek et al. 2022, arXiv 2201.12179"

    prior: Literal["pca", "vae"] = "pca"
    dimensions: int = 40
    cost: Cost = "logit"
    near: float = 1.0
    likely: float = 0.01
    students: int = 2
    steps: int = 100
    lr: float = 0.1
    starts: int = 3
    epochs: int = 30

    def __post_init__(self) -> None:
        whole = min(self.dimensions, self.steps, self.starts, self.epochs) >= 1 and self.students >= 0
        if not (whole and 0 < self.lr < math.inf and 0 <= self.near < math.inf and 0 <= self.likely < math.inf):
            raise BadInputError(
                "lomma: expected dimensions, steps, starts and epochs of 1 or more, no negative students, near and "
                f"likely, and a positive lr, got {self.dimensions}, {self.steps}, {self.starts}, {self.epochs}, "
                f"{self.students}, {self.near}, {self.likely} and {self.lr}."
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
            knowledge: public records of the same kind, which are needed; what defends, if it is known.
            generator: of the prior, the students and the starts.

        Raises:
            BadInputError: a class that the model does not have, no public records or some of another shape, or a
                network without a linear layer or with other classes than the release says.
        """
        public, wanted = knowledge.data, wanted_classes(classes, release.classes)
        if public is None or public.shape != release.shape:
            raise BadInputError(
                f"lomma: expected public records of shape {release.shape} as Knowledge(data=...), got "
                f"{'none' if public is None else public.shape}. Without any, take mi-face."
            )
        model = copy.deepcopy(release.model).cpu().eval().requires_grad_(False)
        where = self._prior(public, generator)
        usual, spread = _given(model, public.inputs, release.classes)
        judges = [model, *_students(model, public, self.students, generator)]
        knows = getattr(knowledge.defense, "in_training", False)
        costs: list[Cost] = [self.cost]
        if knows:
            costs += [cost for cost in ("logit", "cross-entropy", "poincare") if cost != self.cost]
        rows = wanted.repeat(self.starts)
        draws = torch.randn(len(rows), where.dimensions, generator=generator)
        draws[: len(wanted)] = 0
        found, held = [], []
        for cost in costs:
            points = self._searched(judges, where.records, draws, rows, cost, usual, spread)
            records = where.records(points).clamp(0, 1)
            found.append(records)
            held.append(robustness(model, records, rows, generator=generator))
        records = torch.cat(found)
        kept = torch.cat(held).view(-1, len(wanted)).argmax(dim=0) * len(wanted) + torch.arange(len(wanted))
        records = records[kept]
        with torch.no_grad():
            confidence = model(records).softmax(dim=1).gather(1, wanted[:, None])[:, 0]
        return Inversions(records, wanted, confidence, facts={"steps": self.steps, "costs": list(costs)})

    def _prior(self, public: Dataset, generator: torch.Generator) -> PrincipalComponents | Variational:
        if self.prior == "pca":
            return PrincipalComponents.of(public, dimensions=self.dimensions)
        return Variational.of(public, dimensions=self.dimensions, epochs=self.epochs, generator=generator)

    def _searched(
        self,
        judges: Sequence[nn.Module],
        records: Callable[[Tensor], Tensor],
        start: Tensor,
        targets: Tensor,
        cost: Cost,
        usual: Tensor,
        spread: Tensor,
    ) -> Tensor:
        points = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([points], lr=self.lr)
        with torch.enable_grad():
            for _ in range(self.steps):
                drawn = records(points).clamp(0, 1)
                given, logits = _watched(judges[0], drawn)
                total = COSTS[cost](logits, targets)
                for student in judges[1:]:
                    total = total + COSTS[cost](student(drawn), targets)
                total = total / len(judges) + self.near * (given - usual).square().sum(dim=1) / spread
                total = total + self.likely * points.square().sum(dim=1)
                (points.grad,) = torch.autograd.grad(total.sum(), points)
                optimizer.step()
        return points.detach()


def _last(model: nn.Module) -> nn.Linear:
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise BadInputError("lomma: expected a network whose last layer is linear, and it has no linear layer.")
    return layers[-1]


def _watched(model: nn.Module, records: Tensor) -> tuple[Tensor, Tensor]:
    """What the last linear layer is given `(n, F)`, and the logits."""
    seen: list[Tensor] = []
    hook = _last(model).register_forward_pre_hook(lambda layer, given: seen.append(given[0].flatten(1)))
    try:
        logits = model(records)
    finally:
        hook.remove()
    if not seen:
        raise BadInputError("lomma: the last linear layer of the network takes no part in its answer.")
    return seen[-1], logits


def _given(model: nn.Module, records: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Mean of what public records give the last layer, and their mean squared distance from it."""
    with torch.no_grad():
        given, logits = _watched(model, records)
    if logits.ndim != 2 or logits.shape[1] != classes:
        raise BadInputError(f"lomma: expected logits of {classes} classes, got shape {tuple(logits.shape)}.")
    mean = given.mean(dim=0)
    return mean, (given - mean).square().sum(dim=1).mean().clamp_min(1e-12)


def _students(model: nn.Module, public: Dataset, count: int, generator: torch.Generator) -> list[nn.Module]:
    """Networks of one hidden layer that give public records the posteriors that the target gives them."""
    flat = public.inputs.flatten(1)
    with torch.no_grad():
        told = model(public.inputs).softmax(dim=1)
    students: list[nn.Module] = []
    for _ in range(count):
        with seeded(int(torch.randint(2**31, (), generator=generator))):
            student = nn.Sequential(
                nn.Flatten(), nn.Linear(flat.shape[1], WIDTH), nn.ReLU(), nn.Linear(WIDTH, told.shape[1])
            )
        optimizer = torch.optim.Adam(student.parameters(), lr=LR)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(flat), generator=generator).split(BATCH):
                loss = functional.cross_entropy(student(flat[rows]), told[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        students.append(student.eval().requires_grad_(False))
    return students
