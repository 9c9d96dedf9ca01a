"""Descent in steps of bounded length, made differentially private."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.models.layers import measure
from divulge.privacy.ledger import Ledger, Phase
from divulge.training.private.bound import Bound
from divulge.training.private.gradients import Gradients
from divulge.training.private.loop import reseeded
from divulge.training.private.noise import Secret, add_noise
from divulge.training.private.sampling import drawn
from divulge.training.private.settings import Privacy
from divulge.training.recipe import Recipe


@dataclass(frozen=True)
class NoisyDescent:
    """How a network descends by noisy sums of clipped gradients (Abadi et al. 2016, arXiv 1607.00133).

    As in `divulge.training.margin.Descent`, the gradient only says where to; here the length of a step falls along a
    cosine that is known beforehand. It is measured along the noisy sum, which costs no privacy.

    Args:
        noise: standard deviation of the noise over `clip`, the noise multiplier.
        steps: how many.
        length: of the first step, in the norm of all weights together.
        least: norm of the noisy mean gradient below which steps shrink along with it.
        clip: largest norm of one record's gradient.
        rate: share of the records in a step, each drawn by a coin of its own; at 1 every step takes all, and their
            epsilon is that of one Gaussian, exactly.
        noise_seed: of noise and coins, for tests; None draws them from the operating system.
    """

    noise: float
    steps: int = 200
    length: float = 0.3
    least: float = 0.1
    clip: float = 4.0
    rate: float = 1.0
    noise_seed: int | None = None

    def __post_init__(self) -> None:
        given = (self.noise, self.steps, self.length, self.least, self.clip, self.rate)
        if not (all(0 < value < math.inf for value in given) and self.rate <= 1):
            raise BadInputError(
                "noisy descent: expected finite noise, steps, length, least and clip above 0 and a rate above 0 and at "
                f"most 1, got {self}."
            )


@dataclass(frozen=True)
class NoisyDescended:
    """Where a noisy descent ended.

    Args:
        ledger: what was spent.
        noise: standard deviation of what all noisy sums together have added to each weight.
    """

    ledger: Ledger
    noise: float


def fit_noisily(
    model: nn.Module,
    data: Dataset,
    descent: NoisyDescent,
    *,
    watch: Callable[[int], None] = lambda step: None,
) -> NoisyDescended:
    """Train `model` in place and leave it in evaluation mode on the CPU.

    A fresh `Standardize` in it measures `data`, which the ledger does not count: its statistics are taken as public.

    Args:
        model: maps float32 `(N, *shape)` to logits `(N, classes)`, each record's from that record alone.
        data: the private records.
        descent: how.
        watch: called after each step with its number from 1.

    Raises:
        BadInputError: fewer than two records, a layer that mixes records, or weights that are no longer finite.
    """
    measure(model, data.inputs)
    batch = max(1, round(descent.rate * len(data)))
    recipe = Recipe(epochs=1, batch_size=batch, optimizer="sgd", weight_decay=0.0, precision="float32")
    privacy = Privacy(
        noise_multiplier=descent.noise,
        delta=1 / (10 * max(len(data), 1)),
        steps=descent.steps,
        clip=descent.clip,
        noise_seed=descent.noise_seed,
    )
    plan = privacy.plan(len(data), recipe)
    bound, secret = Bound(privacy, descent.noise, batch), Secret(descent.noise_seed)
    gradients = Gradients(model, data, recipe, privacy, torch.device("cpu"))
    weights: list[Tensor] = gradients.parameters
    spread, dropped = 0.0, 0
    with seeded(0), torch.no_grad():
        for step in range(descent.steps):
            draw = secret.at(step)
            rows = drawn(plan, batch, len(data), step, generator=draw, seed=0)
            with torch.enable_grad():
                total = gradients(rows, bound, reseeded(draw))
            sums, dropped = total.sums, dropped + total.dropped
            add_noise(sums, bound.noise, draw)
            norm = float(torch.stack(torch._foreach_norm(sums)).norm())
            if not math.isfinite(norm):
                raise BadInputError(
                    f"noisy descent: the gradient is no longer finite in step {step + 1}. Lower "
                    f"length={descent.length}."
                )
            fade = (1 + math.cos(math.pi * step / descent.steps)) / 2
            rate = fade * descent.length / max(norm, descent.least * batch)
            torch._foreach_add_(weights, sums, alpha=-rate)
            spread += (rate * bound.noise) ** 2
            watch(step + 1)
    model.eval()
    phase = Phase(plan.sampling_rate, descent.noise, descent.steps)
    ledger = Ledger(len(data), (phase,), fixed_noise_seed=descent.noise_seed is not None, dropped=dropped)
    return NoisyDescended(ledger, math.sqrt(spread))
