"""Training records out of a trained network's weights, through the condition that training leads to."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from divulge.attacks.base import Attack
from divulge.attacks.reconstruction.chain import Chain
from divulge.attacks.reconstruction.theory import departures
from divulge.attacks.reconstruction.twice import Twice
from divulge.errors import BadInputError
from divulge.releases import Weights

PENALTY = 5.0
"""Weight of multipliers below the least one that is allowed, as published."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """What an attack says that training records were; most are none, and the truth is not here.

    Args:
        inputs: float32 `(n, *shape)`, in the units of records.
        targets: class numbers `(n,)`.
        multipliers: how much of the weights each explains `(n,)`.
        run: the number of the search that each comes from `(n,)`.
        losses: the attacker's own loss at the last step of each search `(runs,)`; infinite for one that diverged.
        facts: what else there is to say.
    """

    inputs: Tensor
    targets: Tensor
    multipliers: Tensor
    run: Tensor
    losses: Tensor
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class KKT(Attack):
    """Searches for records and multipliers whose weighted gradients add up to the weights.

    Haim et al. 2022 (arXiv 2206.07758) for two classes; Buzaglo et al. 2023 (arXiv 2307.01827) for several, by the
    margin to the likeliest other class, and for training with weight decay, where multipliers may have either sign.
    Gradient descent takes a homogeneous network there in direction once every record is classified; only records on
    the margin are part of the sum.

    Fully connected networks are searched with exact slopes in closed form, many runs side by side, and in the few
    dimensions that their first layer was trained in, where these stand out; any other network whose ReLUs are modules
    by differentiating twice. Every run draws its own settings, and only the attacker's loss ranks them. The search
    runs where the network is; what it finds is on the CPU.

    Args:
        candidates: of each class; twice its training records, as published.
        runs: searches.
        steps: of each.
        multipliers: `positive`, for the margin of a network that classifies; `free` for one trained with weight decay.
        optimizer: `adam`, whose rates fall to zero along a cosine; or `sgd` with momentum 0.9, as published.
        lr: range of the candidates' learning rate, drawn evenly by order of magnitude.
        multiplier_lr: likewise of the multipliers, which begin between 0 and 1.
        start: range of the standard deviation of the candidates' first values, drawn likewise.
        least: range of the least multiplier.
        sharpness: range of the smooth ReLU's.
        hidden: of a fully connected network, whether the layers between the first and the last are matched; they began
            at random, and little of them is the records' unless training was long. All layers of any other are.
        narrow: of a fully connected network, whether to search only in the dimensions that stand out, where some do.
        limits: range of a record's entries, toward which candidates are drawn; None where it is not known.
    """

    name: ClassVar[str] = "kkt"
    source: ClassVar[str] = "Haim et al. 2022, arXiv 2206.07758; Buzaglo et al. 2023, arXiv 2307.01827"

    candidates: int = 100
    runs: int = 8
    steps: int = 1000
    multipliers: Literal["positive", "free"] = "positive"
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: tuple[float, float] = (3e-3, 3e-2)
    multiplier_lr: tuple[float, float] = (3e-3, 3e-2)
    start: tuple[float, float] = (1e-3, 1e-1)
    least: tuple[float, float] = (0.01, 0.5)
    sharpness: tuple[float, float] = (10.0, 200.0)
    hidden: bool = False
    narrow: bool = True
    limits: tuple[float, float] | None = (0.0, 1.0)

    def __post_init__(self) -> None:
        if min(self.candidates, self.runs, self.steps) < 1:
            raise BadInputError(
                f"kkt: expected 1 or more candidates, runs and steps, got {self.candidates}, {self.runs} and "
                f"{self.steps}."
            )
        for name in ("lr", "multiplier_lr", "start", "least", "sharpness"):
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf:
                raise BadInputError(f"kkt: expected a range of {name} from above 0 upward, got {low} to {high}.")
        if self.limits is not None and not -math.inf < self.limits[0] < self.limits[1] < math.inf:
            raise BadInputError(
                f"kkt: expected the least and the largest entry of a record, or none where they are not known, got "
                f"limits {self.limits[0]} to {self.limits[1]}."
            )

    def run(
        self,
        release: Weights,
        *,
        generator: torch.Generator,
        noise: float = 0.0,
        watch: Callable[[float], None] = lambda done: None,
    ) -> Candidates:
        """Search; the released network stays as it is.

        Args:
            release: the trained network.
            generator: of everything that is drawn.
            noise: standard deviation of what private training has added to each weight, if the adversary knows it; see
                `divulge.attacks.reconstruction.noise.weight_noise`. The first layer's is then taken out.
            watch: called now and then with the share that is done.

        Raises:
            BadInputError: a network without weights to explain, of records of another shape, for other classes, or
                with layers such as batch norm unless multipliers are free; or noise in one that is not fully
                connected, or below 0.
        """
        if not 0 <= noise < math.inf:
            raise BadInputError(f"kkt: expected noise as a finite standard deviation of 0 or more, got {noise}.")
        if not any(weight.requires_grad for weight in release.model.parameters()):
            raise BadInputError("kkt: no weights of the network were trained, so there is nothing to explain.")
        parted = departures(release.model)
        if parted.parts and self.multipliers == "positive":
            raise BadInputError(
                f"kkt: {parted.told()[-1]} If it was trained with weight decay, search by the general form: "
                "multipliers='free'."
            )
        system = self._system(release, noise)
        place = system.mean.device
        targets = torch.arange(release.classes).repeat_interleave(self.candidates).expand(self.runs, -1)
        ranges = (self.lr, self.multiplier_lr, self.start)
        lr, multiplier_lr, start = (_log_uniform(limits, self.runs, generator).to(place) for limits in ranges)
        least, sharpness = (_uniform(limits, self.runs, generator).to(place) for limits in (self.least, self.sharpness))
        first = torch.randn(*targets.shape, math.prod(release.shape), generator=generator)
        move = _Adam if self.optimizer == "adam" else _Momentum
        points = move(system.inside(first.to(place) * start[:, None, None]))
        draw = torch.rand if self.multipliers == "positive" else torch.randn
        multipliers = move(draw(targets.shape, generator=generator).to(place))
        targets = targets.to(place)
        low, high = ((edge - system.mean) / system.std for edge in self.limits or (-math.inf, math.inf))
        count, restarts = targets.shape[1], 0
        for step in range(self.steps):
            # as published, a multiplier counts once for all candidates together
            found = system.residual(points.at, multipliers.at / count, targets, sharpness)
            records = system.outside(points.at)
            beyond = records - records.clamp(low, high)
            losses, slope = found.value + beyond.square().sum((1, 2)), found.multipliers / count
            if self.multipliers == "positive":
                short = (least[:, None] - multipliers.at).relu()
                losses, slope = losses + PENALTY * short.square().sum(1), slope - 2 * PENALTY * short
            fade = 0.5 * (1 + math.cos(math.pi * step / self.steps)) if self.optimizer == "adam" else 1.0
            points.step(found.points + 2 * system.inside(beyond), fade * lr[:, None, None])
            multipliers.step(slope, fade * multiplier_lr[:, None])
            lost = ~(losses.isfinite() & points.at.isfinite().all(2).all(1) & multipliers.at.isfinite().all(1))
            if lost.any():
                restarts += int(lost.sum())
                lr[lost] /= 10
                multiplier_lr[lost] /= 10
                points.again(lost)
                multipliers.again(lost)
            watch((step + 1) / self.steps)
        return Candidates(
            (system.outside(points.at) * system.std + system.mean).view(-1, *release.shape).cpu(),
            targets.flatten().cpu(),
            multipliers.at.flatten().cpu(),
            torch.arange(self.runs).repeat_interleave(count),
            losses.masked_fill(lost, torch.inf).cpu(),
            {"restarts": restarts, "dimensions": points.at.shape[2], "caveats": list(parted.told())},
        )

    def _system(self, release: Weights, noise: float) -> Chain | Twice:
        """The equations of a network, in as few unknowns as it allows."""
        chain = Chain.of(release, hidden=self.hidden)
        if noise:
            if chain is None:
                raise BadInputError(
                    "kkt: noise is taken out of the first layer of a fully connected ReLU network whose weights were "
                    "all trained; this is another one. Leave noise out."
                )
            return chain.denoised(noise)
        if chain is None:
            return Twice.of(release)
        return chain.narrowed() if self.narrow else chain


class _Momentum:
    """Points that move by SGD with momentum 0.9."""

    def __init__(self, at: Tensor) -> None:
        self.first = at
        self.at = at
        self.along = torch.zeros_like(at)

    def again(self, runs: Tensor) -> None:
        """Put some runs back to where they began, at rest."""
        self.at[runs], self.along[runs] = self.first[runs], 0.0

    def step(self, slope: Tensor, rate: Tensor | float) -> None:
        """Move down."""
        self.along = 0.9 * self.along + slope
        self.at = self.at - rate * self.along


class _Adam(_Momentum):
    """Points that move by Adam (Kingma and Ba 2015, arXiv 1412.6980)."""

    def __init__(self, at: Tensor) -> None:
        super().__init__(at)
        self.spread = torch.zeros_like(at)
        self.steps = at.new_zeros(len(at), *(1 for _ in at.shape[1:]))

    def again(self, runs: Tensor) -> None:
        super().again(runs)
        self.spread[runs], self.steps[runs] = 0.0, 0.0

    def step(self, slope: Tensor, rate: Tensor | float) -> None:
        self.steps = self.steps + 1
        self.along = 0.9 * self.along + 0.1 * slope
        self.spread = 0.999 * self.spread + 0.001 * slope.square()
        along, spread = self.along / (1 - 0.9**self.steps), self.spread / (1 - 0.999**self.steps)
        self.at = self.at - rate * along / (spread.sqrt() + 1e-12)


def _uniform(limits: tuple[float, float], count: int, generator: torch.Generator) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * torch.rand(count, generator=generator)


def _log_uniform(limits: tuple[float, float], count: int, generator: torch.Generator) -> Tensor:
    return _uniform((math.log(limits[0]), math.log(limits[1])), count, generator).exp()
