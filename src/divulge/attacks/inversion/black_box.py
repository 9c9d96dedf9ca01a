"""Model inversion by asking: slopes are estimated from answers, in the few directions that public records vary in."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from divulge.attacks.inversion.base import InversionAttack, Inversions
from divulge.attacks.inversion.costs import cross_entropy
from divulge.attacks.inversion.mi_face import NOTHING, wanted_classes
from divulge.attacks.inversion.prior import space
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.releases import FLOOR, Posteriors

AT_ONCE = 256
"""Records that are made before they are asked about: more of them only wait for memory."""
GROWTH, LONGEST = 1.5, 2.0
"""Where no answer differs, steps are made longer by this factor, up to so many standard deviations."""
Ask = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Points `(n, k)` and their classes to their costs, and whether the label is the class."""


class LabelsAloneError(BadInputError):
    """Posteriors are needed, and every answer is a label."""


@dataclass(frozen=True)
class BlackBoxInversion(InversionAttack):
    """Draws a record of each class from answers alone, by natural evolution strategies or at the border of the class.

    With posteriors, Gaussian steps in mirrored pairs estimate the slope of the cross-entropy (Wierstra et al. 2014,
    jmlr.org/papers/v15/wierstra14a), or steps along each direction by itself do. With labels alone, the steps that stay
    in the class show the way to its inside, and their length grows whenever all of them stay (Kahla et al. 2022, arXiv
    2203.06580); the search of a class begins at the first random record that is given its label, and a class that none
    is given is not found.

    An adversary who knows that posteriors are coarsened begins each class where they tell the most of it, for a tenth
    of the queries, every answer of which tells of all classes; makes longer steps where no answer differs; and goes by
    labels if nothing else is left.

    Args:
        answers: what is asked for.
        estimate: of the slope: by random directions, or along one after another, which takes two queries for each.
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
    estimate: Literal["random", "differences"] = "random"
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
            knowledge: public records of the same kind, for `dimensions`; what coarsens the answers, if it is known.
            generator: of every step.

        Raises:
            BadInputError: a class that the model does not have, dimensions without public records, too few queries for
                one estimate by differences, or labels where posteriors are needed.
        """
        wanted = wanted_classes(classes, release.classes)
        where = space(shape, knowledge.data, self.dimensions)
        coarse = getattr(knowledge.defense, "in_response", False)
        if coarse and self.answers == "posteriors" and _leaves_labels(knowledge.defense, release.classes):
            return replace(self, answers="labels").run(
                release, shape=shape, classes=classes, knowledge=knowledge, generator=generator
            )

        def answered(points: Tensor) -> Tensor:
            told = []
            for some in points.split(AT_ONCE):
                records = where.records(some)
                told.append(release.logits(records if self.box is None else records.clamp(*self.box)))
            return torch.from_numpy(np.concatenate(told))

        seen = 0

        def ask(points: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            """Cost and whether the label is the class, for points `(n, k)`."""
            nonlocal seen
            logits = answered(points)
            # later on, a class that is surely found looks the same
            if not seen and self.answers == "posteriors" and not coarse and _labels_alone(logits):
                raise LabelsAloneError(
                    "inversion-by-queries: expected posteriors, and every answer is all of one class. Set answers to "
                    "'labels'."
                )
            seen += len(logits)
            return cross_entropy(logits, targets), logits.argmax(dim=1) == targets

        if self.answers == "posteriors":
            start, spent = torch.zeros(len(wanted), where.dimensions), 0
            if coarse:
                start, spent = self._told_most(wanted, where.dimensions, answered, generator)
            points, confidence, spent = self._by_posteriors(wanted, start, ask, generator, spent=spent, longer=coarse)
        else:
            points, confidence, spent = self._by_labels(wanted, where.dimensions, ask, generator)
        records = where.records(points)
        records = records if self.box is None else records.clamp(*self.box)
        facts = {"not reached": int((confidence == 0).sum())} if self.answers == "labels" else {}
        return Inversions(records, wanted, confidence, queries=spent, facts=facts)

    def _told_most(
        self, wanted: Tensor, dimensions: int, answered: Callable[[Tensor], Tensor], generator: torch.Generator
    ) -> tuple[Tensor, int]:
        """Of random points, the one at which each class is told the most, and the queries of a class."""
        count = min(self.queries // 10, self.queries - self._estimate(dimensions))
        if count < 1:
            return torch.zeros(len(wanted), dimensions), 0
        draws = torch.randn(count * len(wanted), dimensions, generator=generator)
        told = answered(draws).log_softmax(dim=1)[:, wanted]
        return draws[told.argmax(dim=0)], count

    def _estimate(self, dimensions: int) -> int:
        """How many records one estimate of a slope takes."""
        return 1 + 2 * (self.pairs if self.estimate == "random" else dimensions)

    def _by_posteriors(
        self,
        wanted: Tensor,
        points: Tensor,
        ask: Ask,
        generator: torch.Generator,
        *,
        spent: int,
        longer: bool,
    ) -> tuple[Tensor, Tensor, int]:
        """Points, the posterior of the class at each, and how many records each class was asked about."""
        dimensions = points.shape[1]
        each = self._estimate(dimensions)
        pairs = each // 2
        if each > self.queries:
            raise BadInputError(
                f"inversion-by-queries: one estimate takes {each:,} queries, got {self.queries:,} for each class. Ask "
                "more, or search in fewer dimensions."
            )
        best, least = points.clone(), torch.full((len(wanted),), torch.inf, dtype=torch.float64)
        targets = wanted.repeat_interleave(each)
        steps = (self.queries - spent) // each
        spread = torch.full((len(wanted), 1, 1), self.spread)
        for step in range(steps):
            if self.estimate == "random":
                draw = torch.randn(len(wanted), pairs, dimensions, generator=generator)
            else:
                draw = torch.eye(dimensions).expand(len(wanted), -1, -1)
            tried = torch.cat([torch.zeros(len(wanted), 1, dimensions), draw, -draw], dim=1) * spread
            costs, _ = ask((points[:, None] + tried).flatten(0, 1), targets)
            costs = costs.view(len(wanted), -1)
            better = costs[:, 0] < least
            best[better], least[better] = points[better], costs[better, 0]
            apart = (costs[:, 1 : pairs + 1] - costs[:, pairs + 1 :]).float()
            slope = (apart[..., None] * draw).mean(dim=1)
            fade = 1 - step / steps
            points = points - fade * self.lr * slope / slope.norm(dim=1, keepdim=True).clamp_min(1e-20)
            if longer:
                flat = (apart == 0).all(dim=1)
                spread[flat] = (spread[flat] * GROWTH).clamp(max=LONGEST)
        return best, (-least).exp().float(), spent + steps * each

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


def _labels_alone(logits: Tensor) -> bool:
    """Whether every answer is all of one class."""
    second = logits.log_softmax(dim=1).topk(2, dim=1).values[:, 1]
    return bool((second <= math.log(2 * FLOOR)).all())


def _leaves_labels(defense: Any, classes: int) -> bool:
    """Whether a coarsening of posteriors, tried on random ones, leaves nothing but the label."""
    answers = defense.respond(np.random.default_rng(0).dirichlet(np.ones(classes), 64))
    return bool((answers.max(axis=1) == 1).all())
