"""Reconstruction from weights: a step of the search against differentiating twice, and epochs of the target."""

from dataclasses import replace

import torch

from benchmarks.measure import Row, compare
from benchmarks.records import images
from divulge.attacks.reconstruction.chain import Chain
from divulge.attacks.reconstruction.twice import Twice
from divulge.data import Dataset
from divulge.models.homogeneous import HomogeneousMLP
from divulge.releases import Weights
from divulge.training.margin import Descent, fit_to_margin

RECORDS, CANDIDATES, RUNS = 40, 80, 2
FACTOR = 20
"""How many times fewer epochs are aimed at."""


def reconstruction() -> list[Row]:
    """Both on CIFAR-10 pictures in two groups of classes and the published network."""
    data, which = images("cifar10", RECORDS, (3, 32, 32))
    data = Dataset(data.inputs, (data.targets > 4).long())
    model = HomogeneousMLP().build(data.shape, 2, seed=0)
    ours = fit_to_margin(model, data, Descent(loss=1e-4))
    return [_step(Weights(model, data.shape, 2), which), _epochs(data, ours.steps, which)]


def _step(release: Weights, which: str) -> Row:
    """Value and slopes of all layers in both: the same numbers, in the same precision."""
    draw = torch.Generator().manual_seed(0)
    size = release.shape[0] * release.shape[1] * release.shape[2]
    guess = (
        torch.randn(RUNS, CANDIDATES, size, generator=draw),
        torch.rand(RUNS, CANDIDATES, generator=draw),
        torch.arange(2).repeat_interleave(CANDIDATES // 2).expand(RUNS, -1),
        torch.full((RUNS,), 20.0),
    )
    chain, twice = Chain.of(release, hidden=True), Twice.of(release)
    assert chain is not None
    return compare(
        "KKT, D-1000-1000-1: slopes in closed form against differentiating twice",
        lambda: chain.residual(*guess),
        lambda: twice.residual(*guess),
        repeats=5,
        target=2.0,
        note=f"{RUNS} searches of {CANDIDATES} candidates in float32, all layers matched; network of {which}",
    )


def _epochs(data: Dataset, steps: int, which: str) -> Row:
    """Counted, not timed: plain descent stops where it has had enough epochs to miss the target."""
    model = HomogeneousMLP().build(data.shape, 2, seed=0)
    plain = fit_to_margin(model, data, Descent(loss=1e-4, lr=0.01, steps=FACTOR * steps))
    more = "at least " if not plain.reached else ""
    return replace(
        Row("training to a loss of 1e-4: steps of bounded length against plain descent at 0.01"),
        ratio=plain.steps / steps,
        ratio_range=(plain.steps / steps, plain.steps / steps),
        target=f"ratio >= {FACTOR}",
        met=plain.steps >= FACTOR * steps,
        note=f"epochs: {steps:,} against {more}{plain.steps:,}, where the loss was {plain.loss:.2g}; {which}",
        repeats=1,
    )
