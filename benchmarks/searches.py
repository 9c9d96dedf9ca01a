"""Searches for private batches: all victims at once, without matrices, and against the plain published loop."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.measure import Row, compare
from benchmarks.records import images
from divulge.attacks.gradients.distances import cosine
from divulge.attacks.gradients.inverting_gradients import InvertingGradients
from divulge.attacks.gradients.noise_restoring import NoiseRestoring
from divulge.attacks.gradients.plan import Plan, Units, objective, shortened
from divulge.attacks.gradients.rounds import Round
from divulge.data import Dataset
from divulge.defenses.precode import Precode
from divulge.metrics.images import psnr
from divulge.metrics.intervals import bootstrap
from divulge.models.image_mlp import ImageMLP
from divulge.models.lenet import LeNet
from divulge.releases import GradientRecord, share

VICTIMS, SAMPLE = 32, 8
BRIEF, STEPS = 20, 300
LR, TV = 0.1, 1e-4


def searches() -> list[Row]:
    """Inverting gradients on LeNet: speed in one comparison, speed and quality in the other."""
    data, which = images("cifar10", VICTIMS, (3, 32, 32))
    model = LeNet().build((3, 32, 32), 10, seed=0)
    records = [share(model, one[None], label[None]) for one, label in zip(data.inputs, data.targets, strict=True)]
    return [
        _at_once(records, model, which),
        _without_matrices(data[:SAMPLE], f"{SAMPLE} records of {which.partition(' records of ')[2]}"),
        _against_loop(records[:SAMPLE], model, data.inputs[:SAMPLE], which),
    ]


def _at_once(records: list[GradientRecord], model: nn.Module, which: str) -> Row:
    attack = InvertingGradients(steps=BRIEF)
    return compare(
        f"inverting gradients, LeNet, {VICTIMS} victims: at once against one after another",
        lambda: attack.run(records, model, generator=torch.Generator().manual_seed(0)),
        lambda: [attack.run(one, model, generator=torch.Generator().manual_seed(0)) for one in records],
        repeats=5,
        target=3.0,
        note=f"{BRIEF} steps; {which}",
    )


def _without_matrices(data: Dataset, which: str) -> Row:
    """One evaluation of the noise-restoring search on the network that PRECODE was published with."""
    model = Precode().architecture(ImageMLP().build((3, 32, 32), 10, seed=0))
    records = [share(model, one[None], label[None]) for one, label in zip(data.inputs, data.targets, strict=True)]
    plan = NoiseRestoring().plan(Round(records, model), data.targets[:, None])
    code = sum(size.numel() for size in plan.replay.shapes.values())
    points = torch.randn(len(records), data.inputs[0].numel() + code, generator=_seed())

    def evaluation(one: Plan) -> Callable[[], object]:
        evaluate = objective(
            [one],
            Units.of(model),
            shape=(1, *data.shape),
            distance=cosine,
            scaled=False,
            rounding="none",
            prior=None,
            restarts=1,
            together=len(records),
            generator=_seed(),
        )
        return lambda: evaluate(points, torch.arange(len(points)))

    return compare(
        f"noise-restoring search, fully connected network, {len(records)} victims: gradients as products against "
        "matrices",
        evaluation(shortened(plan)),
        evaluation(plan),
        repeats=5,
        target=10.0,
        note=f"one evaluation of the objective; {which}",
    )


def _against_loop(records: list[GradientRecord], model: nn.Module, truth: Tensor, which: str) -> Row:
    found: dict[str, Tensor] = {}

    def ours() -> None:
        run = InvertingGradients(steps=STEPS, lr=LR, tv=TV).run(records, model, generator=_seed())
        found["ours"] = run.inputs[:, 0]

    def other() -> None:
        generator = _seed()
        found["other"] = torch.cat([plain_loop(record, model, STEPS, generator) for record in records])

    row = compare(
        f"inverting gradients, LeNet, {SAMPLE} victims: against the plain loop, one after another",
        ours,
        other,
        repeats=3,
        target=3.0,
    )
    gains = (psnr(found["ours"], truth) - psnr(found["other"], truth)).numpy()
    gain = bootstrap(np.mean, gains, seed=0)
    lower = "yes" if gain.high < 0 else "no"
    return replace(
        row,
        note=(
            f"{STEPS} steps from the same starts; PSNR {gain.value:+.2f} dB [{gain.low:+.2f}, {gain.high:+.2f}] in "
            f"pairs (lower: {lower}); {which}"
        ),
    )


def _seed() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def plain_loop(record: GradientRecord, model: nn.Module, steps: int, generator: torch.Generator) -> Tensor:
    """Geiping et al. 2020 (arXiv 2003.14053) for one victim as their paper describes it: images `(1, *shape)`."""
    shared, learned = list(record.gradients.values()), list(model.parameters())
    label = shared[-1].argmin()[None]
    length = torch.stack([one.square().sum() for one in shared]).sum().sqrt()
    x = torch.randn((1, *record.shape), generator=generator).clamp(0, 1).requires_grad_()
    optimizer = torch.optim.Adam([x], lr=LR)
    drops = torch.optim.lr_scheduler.MultiStepLR(optimizer, [steps * part // 8 for part in (3, 5, 7)], gamma=0.1)
    best, least = x.detach().clone(), float("inf")
    for _ in range(steps):
        optimizer.zero_grad()
        gradients = torch.autograd.grad(functional.cross_entropy(model(x), label), learned, create_graph=True)
        inner = torch.stack([(a * b).sum() for a, b in zip(gradients, shared, strict=True)]).sum()
        norm = torch.stack([one.square().sum() for one in gradients]).sum().sqrt()
        variation = x.diff(dim=-1).abs().mean() + x.diff(dim=-2).abs().mean()
        loss = 1 - inner / (norm * length) + TV * variation
        loss.backward(inputs=[x])
        if loss.item() < least:
            best, least = x.detach().clone(), loss.item()
        assert x.grad is not None
        x.grad.sign_()
        optimizer.step()
        drops.step()
        with torch.no_grad():
            x.clamp_(0, 1)
    return best
