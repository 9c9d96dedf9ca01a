"""Model inversion by asking: slopes are estimated from answers, in the few directions that public records vary in."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from divulge.attacks.inversion.base import InversionAttack, Inversions
from divulge.attacks.inversion.costs import cross_entropy
from divulge.attacks.inversion.mi_face import NOTHING, wanted_classes
from divulge.attacks.inversion.prior import space
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.releases import Posteriors

Ask = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Points `(n, k)` and their classes to their costs, and whether the label is the class."""


@dataclass(frozen=True)
class BlackBoxInversion(InversionAttack):
    """Draws a record of each class from answers alone, by natural evolution strategies or at the border of the class.

    With posteriors, Gaussian steps in mirrored pairs estimate the slope of the cross-entropy (Wierstra et al. 2014,
    jmlr.org/papers/v15/wierstra14a). With labels alone, the steps that stay in the class show the way to its inside,
    and their length grows whenever all of them stay (Kahla et al. 2022, arXiv 2203.06580); the search of a class begins
    at the first random record that is given its label, and a class that none is given is not found.

    Args:
        answers: what is asked for.
        queries: records asked about for each class, at most.
        pairs: mirrored pairs of steps that one estimate is made of.
        spread: length of those steps, in standard deviations of the public records.
        lr: length of a move, likewise; with posteriors it falls to zero along the search.
        dimensions: principal components of public records to search in; None for the entries themselves.
        box: the entries that are allowed; None for all.
    """

    name: ClassVar[str] = "inversion-by-queries"
    source: ClassVar[str] = "Fredrikson et al. 2015, doi 10.1145/2810103.2813677; Kahla et al. 2022, arXiv 2203.06580"

    answers: Literal["posteriors", "labels"] = "posteriors"
    queries: int = 5000
    pairs: int = 20
    spread: float = 0.3
    lr: float = 0.3
    dimensions: int | None = 40
    box: tuple[float, float] | None = (0.0, 1.0)

    def __post_init__(self) -> None:
        positive = self.pairs > 0 and 0 < self.spread < math.inf and 0 < self.lr < math.inf
        if not positive or self.queries < 2 * self.pairs + 1:
            raise BadInputError(
                f"inversion-by-queries: expected positive pairs, spread and lr, and queries for one estimate or more "
                f"({2 * self.pairs + 1}), got {self.pairs}, {self.spread}, {self.lr} and {self.queries}."
            )

    def run(
        self,
        release: Posteriors,
        *,
        shape: tuple[int, ...],
        classes: Sequence[int] | None = None,
        knowledge: Knowledge = NOTHING,
        generator: torch.Generator,
    ) -> Inversions:
        """Draw a record of each class.

        Args:
            release: what answers.
            shape: of a record.
            classes: which; all by default.
            knowledge: public records of the same kind, for `dimensions`.
            generator: of every step.

        Raises:
            BadInputError: a class that the model does not have, or dimensions without public records.
        """
        wanted = wanted_classes(classes, release.classes)
        where = space(shape, knowledge.data, self.dimensions)

        def ask(points: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            """Cost and whether the label is the class, for points `(n, k)`."""
            records = where.records(points)
            records = records if self.box is None else records.clamp(*self.box)
            logits = torch.from_numpy(release.logits(records))
            return cross_entropy(logits, targets), logits.argmax(dim=1) == targets

        found = self._by_posteriors if self.answers == "posteriors" else self._by_labels
        points, confidence, spent = found(wanted, where.dimensions, ask, generator)
        records = where.records(points)
        records = records if self.box is None else records.clamp(*self.box)
        facts = {"not reached": int((confidence == 0).sum())} if self.answers == "labels" else {}
        return Inversions(records, wanted, confidence, queries=spent, facts=facts)

    def _by_posteriors(
        self, wanted: Tensor, dimensions: int, ask: Ask, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, int]:
        """Points, the posterior of the class at each, and how many records each class was asked about."""
        points = torch.zeros(len(wanted), dimensions)
        best, least = points.clone(), torch.full((len(wanted),), torch.inf, dtype=torch.float64)
        targets = wanted.repeat_interleave(2 * self.pairs + 1)
        steps = self.queries // (2 * self.pairs + 1)
        for step in range(steps):
            draw = torch.randn(len(wanted), self.pairs, dimensions, generator=generator)
            tried = torch.cat([torch.zeros(len(wanted), 1, dimensions), draw, -draw], dim=1) * self.spread
            costs, _ = ask((points[:, None] + tried).flatten(0, 1), targets)
            costs = costs.view(len(wanted), -1)
            better = costs[:, 0] < least
            best[better], least[better] = points[better], costs[better, 0]
            apart = (costs[:, 1 : self.pairs + 1] - costs[:, self.pairs + 1 :]).float()
            slope = (apart[..., None] * draw).mean(dim=1)
            fade = 1 - step / steps
            points = points - fade * self.lr * slope / slope.norm(dim=1, keepdim=True).clamp_min(1e-20)
        return best, (-least).exp().float(), steps * (2 * self.pairs + 1)

    def _by_labels(
        self, wanted: Tensor, dimensions: int, ask: Ask, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, int]:
        """The same; in place of the posterior 1 where a point is given the label and 0 where none was found."""
        points, spent = torch.zeros(len(wanted), dimensions), 0
        reached = torch.zeros(len(wanted), dtype=torch.bool)
        while not reached.all() and spent + self.pairs <= self.queries // 4:
            left = wanted[~reached]
            drawn = torch.randn(len(left), self.pairs, dimensions, generator=generator)
            _, hit = ask(drawn.flatten(0, 1), left.repeat_interleave(self.pairs))
            hit = hit.view(len(left), -1)
            some = hit.any(dim=1)
            rows = (~reached).nonzero()[:, 0][some]
            points[rows] = drawn[some, hit[some].float().argmax(dim=1)]
            reached[rows] = True
            spent += self.pairs
        radius = torch.full((len(wanted),), self.spread)
        count = 2 * self.pairs
        while spent + count < self.queries and reached.any():
            drawn = torch.randn(len(wanted), count, dimensions, generator=generator)
            drawn = drawn / drawn.norm(dim=2, keepdim=True)
            _, hit = ask(
                (points[:, None] + radius[:, None, None] * drawn).flatten(0, 1), wanted.repeat_interleave(count)
            )
            hit = hit.view(len(wanted), -1)
            spent += count
            inside = reached & hit.all(dim=1)
            radius = torch.where(inside, radius * 1.3, radius)
            away = ((hit.float()[..., None] - 0.5) * drawn).mean(dim=1)
            step = self.lr * away / away.norm(dim=1, keepdim=True).clamp_min(1e-20)
            # a move that leaves the class is not made
            _, stays = ask(points + step, wanted)
            spent += 1
            points = torch.where((reached & stays & ~inside)[:, None], points + step, points)
        return points, reached.float(), spent
