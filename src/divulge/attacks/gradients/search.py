"""The search behind most gradient inversion: guess a batch, compare what it would have shared, improve the guess."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from divulge.attacks.gradients.adam import Schedule, Sign, adam
from divulge.attacks.gradients.adapt import adapt, take_back
from divulge.attacks.gradients.base import NOTHING, GradientAttack, Reconstructions
from divulge.attacks.gradients.believed import Rounding, step_sizes
from divulge.attacks.gradients.distances import DISTANCES, likelihood
from divulge.attacks.gradients.labels import label_by_bias, label_by_direction, label_by_weight, label_counts
from divulge.attacks.gradients.lbfgs import lbfgs
from divulge.attacks.gradients.minimize import Evaluate, Minimized, Project, in_turn
from divulge.attacks.gradients.noise import knowing
from divulge.attacks.gradients.plan import Plan, Units, objective, probe, shortened, stacked
from divulge.attacks.gradients.priors import VARIATIONS
from divulge.attacks.gradients.replay import Replay
from divulge.attacks.gradients.rounds import Round, mean_record
from divulge.attacks.gradients.starts import STARTS
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.releases import GradientRecord, Tampering

LAWS = ("gaussian", "laplace")
Labels = Literal["bias", "weight", "joint"]
PUBLIC = 256
"""Records that the mean answer of the model is taken over, where labels of a batch are read."""


@dataclass(frozen=True)
class Search(GradientAttack):
    """Searches for batches whose gradients match, with every part of the search a setting.

    It adapts itself to a defense that `knowledge` names, and says in `facts` how (`adapted`).

    All restarts of all victims are searched side by side. A restart gives the best point that it saw, and stops there
    if it meets a value that is not finite, which `facts` counts as `diverged`. Of a victim's restarts the one with the
    least matching loss is kept, without a look at priors or at the truth; a victim all of whose restarts stopped at
    once is not found. The search moves in the units that the network works in: those after its `Normalize` layer, where
    it has one. Batch norm in training mode is played again with the statistics of the guess.

    Args:
        distance: between the gradients of a guess and the shared ones; `gaussian` and `laplace` are the likelihood
            under noise that is known.
        noise: the standard deviation of that noise. With `cosine`, which is the likelihood of Gaussian noise at the
            scale that fits best, it says no more than how labels are read.
        zeros: whether entries that are exactly zero in the record are matched, or taken as withheld and skipped.
        ignore: parameters that are not matched, by the beginnings of their names.
        scaled: whether the shared gradients may have been shrunk by a factor, which is then solved for.
        rounding: whether shared entries were rounded to their sign times one magnitude, or to multiples of a step; a
            guess that would have been rounded to the same matches.
        labels: read from the last layer's gradients, that of its `bias` (any batch; for a batch of one under known
            noise, of its weight as well) or of its `weight` (a batch of one, as iDLG does); or `joint`, soft labels
            that are searched for with the images.
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
        enough: a matching loss at which a restart is done, and its victim with it: restarts then run one after another.
        together: how many restarts are evaluated at once, which bounds the memory.
    """

    name: ClassVar[str] = "gradient-search"
    nats: ClassVar[bool] = False
    """Whether more than gradients and priors is weighed, so that under known noise all has to be in nats."""

    distance: Literal["l2", "l1", "cosine", "gaussian", "laplace"] = "cosine"
    noise: float | None = None
    zeros: Literal["match", "skip"] = "match"
    ignore: tuple[str, ...] = ()
    scaled: bool = False
    rounding: Rounding = "none"
    labels: Labels = "bias"
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
        if self.noise is None:
            fits = self.distance not in LAWS
        else:
            fits = self.noise > 0 and self.distance in (*LAWS, "cosine")
        if not fits:
            raise BadInputError(
                f"{self.name}: the distances gaussian and laplace need noise, a positive standard deviation; cosine "
                f"may have one, and the others take none; got distance={self.distance!r} and noise={self.noise}."
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
        return self.combine([Round(records, model, knowledge.randomness)], knowledge=knowledge, generator=generator)

    def combine(
        self, rounds: Sequence[Round], *, knowledge: Knowledge = NOTHING, generator: torch.Generator
    ) -> Reconstructions:
        """Rebuild the batches behind what several rounds showed of them: the losses of all rounds are added.

        Args:
            rounds: with the victims in one order; their models may differ in their weights, the records in what the
                clients did. What a defense drew is each round's own.
            knowledge: what the adversary knows besides.
            generator: of everything that the attack draws.

        Raises:
            BadInputError: as `run`, and rounds of different victims.
        """
        if len({(len(one.records), *one.records[0].facts[:3]) for one in rounds}) != 1:
            raise BadInputError(
                f"{self.name}: expected one round or more, in which the same victims share batches of one size, shape "
                f"and number of classes; got {len(rounds)} rounds of {[len(one.records) for one in rounds]} victims."
            )
        if knowledge.defense is None:
            return self._search(rounds, knowledge, generator)
        known = knowledge.defense.tampering(rounds[0].model)
        taken = [take_back(one, known) for one in rounds]
        rounds, (_, known, told) = [one for one, _, _ in taken], taken[0]
        search, changed = adapt(self, self.heeded(known), rounds[0])
        found = search._search(rounds, knowledge, generator)
        return replace(found, facts={**found.facts, "adapted": (*told, *changed)})

    def heeded(self, known: Tampering) -> Tampering:
        """What of all that is publicly known of a defense matters to this search."""
        return known

    def _search(self, rounds: Sequence[Round], knowledge: Knowledge, generator: torch.Generator) -> Reconstructions:
        first = rounds[0].records[0]
        if len(first.shape) != 3 and (self.tv or self.start == "patterned"):
            raise BadInputError(
                f"{self.name}: total variation and patterned starts are for images (C, H, W), got records of shape "
                f"{first.shape}. Set tv=0 and start='normal'."
            )
        labels, units = self.read(rounds, knowledge), Units.of(rounds[0].model)
        plans = [knowing(self.plan(one, labels), one) for one in rounds]
        if self.distance in ("l2", "cosine", "gaussian") and self.rounding == "none":
            plans = [shortened(plan) for plan in plans]
        victims, joint = len(rounds[0].records), plans[0].top is None
        shape = (first.batch_size, *first.shape)
        entries = math.prod(shape)
        # drawn for one victim after another, so that no victim's depend on who is attacked with it
        starts = [self._begin(first, joint=joint, generator=generator) for _ in range(victims)]
        begin = self.extended(torch.cat(starts).to(next(iter(plans[0].shared.values()))), rounds, plans, generator)
        evaluate = objective(
            plans,
            units,
            shape=shape,
            distance=likelihood(self.distance, self.noise)
            if self.noise and self.distance in LAWS
            else DISTANCES[self.distance],
            scaled=self.scaled,
            rounding=self.rounding,
            prior=self._prior(),
            restarts=self.restarts,
            together=self.together,
            noise_prior=self._noise_prior(),
            generator=generator,
        )
        project = self._project(units, shape, begin, plans)
        begin = project(begin)
        probe(self.name, evaluate, begin[: self.restarts])
        found = self._minimize(evaluate, begin, project, entries)
        matching, chosen = found.matching.view(victims, self.restarts).min(dim=1)
        points = found.points.view(victims, self.restarts, -1)[torch.arange(victims), chosen]
        images = units.pixels(points[:, :entries].unflatten(1, shape)).float()
        logits = points[:, entries : entries + first.batch_size * first.classes]
        alive = matching.isfinite()
        images[~alive] = 0
        return Reconstructions(
            inputs=images,
            targets=logits.unflatten(1, (first.batch_size, -1)).argmax(dim=2) if joint else labels,
            matching=matching,
            found=None if alive.all() else alive[:, None].expand(images.shape[:2]),
            noise=self._restored(plans, points),
            facts={"diverged": int(found.diverged.sum()), "evaluations": found.evaluations},
        )

    def plan(self, one: Round, labels: Tensor | None) -> Plan:
        """What is matched of a round: every shared tensor, save those to ignore, given the labels."""
        names = [name for name in one.records[0].gradients if not name.startswith(self.ignore)]
        if not names:
            raise BadInputError(f"{self.name}: ignore={self.ignore} leaves no tensor to match.")
        shared = stacked([record.gradients for record in one.records], names)
        return Plan(
            Replay(one.model, one.records[0]),
            shared,
            top=None if labels is None else labels.to(shared[names[0]].device),
            kept=self.kept(one, names),
            steps=self.sizes(one, names),
        )

    def sizes(self, one: Round, names: list[str]) -> dict[str, Tensor] | None:
        """What tensors were rounded to multiples of, `(victims,)`; None if they were not."""
        if self.rounding != "steps":
            return None
        return stacked(one.steps or [step_sizes(record.gradients) for record in one.records], names)

    def kept(self, one: Round, names: list[str]) -> dict[str, Tensor] | None:
        """Which entries are believed: those that are not zero, unless more is known; None for all of them."""
        if self.zeros == "match":
            return None
        masks: Sequence[Mapping[str, Tensor]] = [{}] * len(one.records) if one.kept is None else one.kept
        return {
            name: torch.stack(
                [mask.get(name, record.gradients[name] != 0) for mask, record in zip(masks, one.records, strict=True)]
            )
            for name in names
        }

    def read(self, rounds: Sequence[Round], knowledge: Knowledge) -> Tensor | None:
        """The labels `(victims, batch)`; None where they are searched for.

        Of a batch of one, those that the mean record of all rounds tells; of larger ones those of the first round,
        since counts depend on what its model answers.
        """
        first, model = rounds[0].records[0], rounds[0].model
        victims = len(rounds[0].records)
        if self.targets is not None:
            sizes = [len(batch) for batch in self.targets]
            if sizes != [first.batch_size] * victims or not all(
                0 <= label < first.classes for batch in self.targets for label in batch
            ):
                raise BadInputError(
                    f"{self.name}: expected targets for {victims} victims with batches of {first.batch_size} and "
                    f"{first.classes} classes, got {self.targets}."
                )
            return torch.tensor(self.targets)
        if self.labels == "joint":
            return None
        if self.labels != "bias" or first.batch_size == 1:
            means = [mean_record(records) for records in zip(*(one.records for one in rounds), strict=True)]
            rule = label_by_weight if self.labels == "weight" else label_by_direction if self.noise else label_by_bias
            return torch.tensor([[rule(record, model)] for record in means])
        if knowledge.data is not None:
            public = knowledge.data.inputs[:PUBLIC]
        else:
            public = torch.rand((PUBLIC, *first.shape), generator=torch.Generator().manual_seed(0))
        counts = torch.stack([label_counts(record, model, public) for record in rounds[0].records])
        return torch.stack([torch.arange(first.classes).repeat_interleave(count) for count in counts.cpu()])

    def _minimize(self, evaluate: Evaluate, begin: Tensor, project: Project, entries: int) -> Minimized:
        """All restarts at once; or where one can be good enough, one after another for victims that none was for."""

        def minimize(rows: Tensor) -> Minimized:
            def of_rows(points: Tensor, problems: Tensor) -> tuple[Tensor, Tensor, Tensor]:
                return evaluate(points, rows[problems])

            if self.optimizer == "lbfgs":
                return lbfgs(of_rows, begin[rows], steps=self.steps, lr=self.lr, project=project, enough=self.enough)
            return adam(
                of_rows,
                begin[rows],
                steps=self.steps,
                lr=self.lr,
                project=project,
                sign=self.sign,
                signed=entries,
                schedule=self.schedule,
                warmup=self.warmup,
                enough=self.enough,
            )

        everything = torch.arange(len(begin), device=begin.device)
        if not self.enough:
            return minimize(everything)
        return in_turn(minimize, everything.view(-1, self.restarts), begin, enough=self.enough)

    def _begin(self, record: GradientRecord, *, joint: bool, generator: torch.Generator) -> Tensor:
        """The starts of one victim `(restarts, n)`."""
        shape = (self.restarts, record.batch_size, *record.shape)
        images = STARTS[self.start](shape, generator).flatten(1)
        if not joint:
            return images
        logits = torch.randn((self.restarts, record.batch_size * record.classes), generator=generator)
        return torch.cat([images, logits], dim=1)

    def extended(
        self, begin: Tensor, rounds: Sequence[Round], plans: Sequence[Plan], generator: torch.Generator
    ) -> Tensor:
        """The starts of all victims `(victims * restarts, n)`, with that of whatever else is searched for."""
        return begin

    def _noise_prior(self) -> Callable[[Replay, dict[str, Tensor]], Tensor] | None:
        return None

    def _restored(self, plans: Sequence[Plan], points: Tensor) -> dict[str, Tensor]:
        """The noise of stochastic layers in the best point of each victim, where it was searched for."""
        return {}

    def _prior(self) -> Callable[[Tensor], Tensor] | None:
        variation = VARIATIONS[self.variation]
        return (lambda images: self.tv * variation(images)) if self.tv else None

    def _project(self, units: Units, shape: tuple[int, ...], begin: Tensor, plans: Sequence[Plan]) -> Project:
        """Clamp the images of points to the box, and leave the rest as it is."""
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
