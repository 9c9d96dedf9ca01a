"""A private training step against a plain one, and against Opacus: time, memory, and the same clipped sums."""

import copy
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.measure import Row, compare
from benchmarks.records import images
from divulge.training.loop import has_fast_bfloat16
from divulge.training.private.clipping import clipper, flat
from divulge.training.private.noise import Secret, add_noise

CLIP, SIGMA, RATE = 1.0, 1.0, 0.1
LARGE = 4096
MODES = {"hooks": "hooks", "functorch": "functorch", "ghost": "ghost clipping"}
Step = Callable[[], None]


def softmax() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


MODELS: dict[str, Callable[[], nn.Module]] = {"softmax": softmax, "mlp": mlp, "cnn": cnn}
WORDS = {"softmax": "softmax regression 784-10", "mlp": "MLP 784-256-10", "cnn": "CNN of 32 and 64 channels"}
STEPS = {"softmax": 200, "mlp": 60, "cnn": 4}
LIMITS = {"softmax": 1.3, "mlp": 1.3, "cnn": 1.6}


def private_steps() -> list[Row]:
    """A private step (clipped sum, noise, optimizer) of each model against a plain step and against Opacus."""
    torch.manual_seed(0)
    rows = []
    for kind, build in MODELS.items():
        model = build()
        for batch in (256, 1024) if kind != "cnn" else (256,):
            data, which = images("mnist", batch, (1, 28, 28))
            rows += _against_plain(kind, model, data.inputs, data.targets, f"batch {batch}, {which}")
        data, which = images("mnist", 256, (1, 28, 28))
        rows += _against_opacus(kind, model, data.inputs, data.targets, f"batch 256, {which}")
        rows.append(_memory(kind))
    return rows


def _against_plain(kind: str, model: nn.Module, inputs: Tensor, targets: Tensor, note: str) -> list[Row]:
    fast = has_fast_bfloat16(inputs.device)
    rows = []
    for precision in ("float32", "fast") if fast else ("float32",):
        row = compare(
            f"{WORDS[kind]}: private step against a plain one, {precision}",
            _times(private_step(model, inputs, targets, precision=precision), STEPS[kind]),
            _times(plain_step(model, inputs, targets, precision=precision), STEPS[kind]),
            repeats=9,
            target=1 / LIMITS[kind] if precision == "float32" else None,
        )
        assert row.ratio is not None
        note_too = f"the private step takes {1 / row.ratio:.2f} of the plain one; both channels-last; {note}"
        limit = f"at most {LIMITS[kind]:g}x a plain step" if row.target else None
        rows.append(replace(row, target=limit, note=note_too))
    return rows


def _against_opacus(kind: str, model: nn.Module, inputs: Tensor, targets: Tensor, note: str) -> list[Row]:
    names = {mode: f"{WORDS[kind]}: private step against Opacus, {words}" for mode, words in MODES.items()}
    if not find_spec("opacus"):
        return [Row(name, note="not run: opacus is not installed") for name in names.values()]
    sums = clipper(model)(inputs, targets, flat(CLIP)).sums
    rows = []
    for mode, name in names.items():
        theirs = opacus_sums(model, inputs, targets, mode)
        apart = max(float((a - b).norm() / b.norm()) for a, b in zip(sums, theirs, strict=True))
        rows.append(
            compare(
                name,
                _times(private_step(model, inputs, targets), STEPS[kind]),
                _times(opacus_step(copy.deepcopy(model), inputs, targets, mode), STEPS[kind]),
                repeats=5,
                target=1.5,
                note=f"clipped sums differ by {apart:.1e} (at most 1e-5: {'yes' if apart <= 1e-5 else 'no'}); {note}",
            )
        )
    return rows


def plain_step(model: nn.Module, inputs: Tensor, targets: Tensor, *, precision: str = "float32") -> Step:
    """Forward, backward and an SGD step, in channels-last memory."""
    model = copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs = torch.empty_like(inputs, memory_format=torch.channels_last).copy_(inputs)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "fast"):
            answers = model(inputs).float()
        functional.cross_entropy(answers, targets).backward()
        optimizer.step()

    return step


def private_step(model: nn.Module, inputs: Tensor, targets: Tensor, *, precision: Any = "float32") -> Step:
    """The clipped sum, noise and an SGD step, as `divulge.training.private` takes them."""
    model = copy.deepcopy(model)
    parameters = list(model.parameters())
    clipped, rule = clipper(model, precision=precision), flat(CLIP)
    optimizer, secret = torch.optim.SGD(parameters, lr=RATE), Secret(None)

    def step() -> None:
        sums = clipped(inputs, targets, rule).sums
        add_noise(sums, SIGMA * CLIP, secret.at(0))
        for parameter, noisy in zip(parameters, sums, strict=True):
            parameter.grad = noisy.div_(len(inputs))
        optimizer.step()

    return step


def opacus_step(
    model: nn.Module, inputs: Tensor, targets: Tensor, mode: str, *, noise: float = SIGMA, rate: float = RATE
) -> Step:
    """The same step in one of the modes of Opacus, of the model itself."""
    from opacus.grad_sample import GradSampleModule
    from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizer
    from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    warnings.filterwarnings("ignore", module="opacus")
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    settings = {"noise_multiplier": noise, "max_grad_norm": CLIP, "expected_batch_size": len(inputs)}
    inner, criterion = torch.optim.SGD(model.parameters(), lr=rate), nn.CrossEntropyLoss()
    if mode == "ghost":
        wrapped = GradSampleModuleFastGradientClipping(model, max_grad_norm=CLIP, use_ghost_clipping=True)
        optimizer = DPOptimizerFastGradientClipping(inner, **settings)
        criterion = DPLossFastGradientClipping(wrapped, optimizer, criterion)
    else:
        wrapped = GradSampleModule(model, force_functorch=mode == "functorch")
        optimizer = DPOptimizer(inner, **settings)

    def step() -> None:
        optimizer.zero_grad()
        criterion(wrapped(inputs), targets).backward()
        optimizer.step()

    return step


def opacus_sums(model: nn.Module, inputs: Tensor, targets: Tensor, mode: str) -> list[Tensor]:
    """The clipped sums of Opacus: its gradient without noise, times the batch size."""
    model = copy.deepcopy(model)
    opacus_step(model, inputs, targets, mode, noise=0.0, rate=0.0)()
    return [parameter.grad * len(inputs) for parameter in model.parameters() if parameter.grad is not None]


def _times(step: Step, count: int) -> Step:
    def steps() -> None:
        for _ in range(count):
            step()

    return steps


def _memory(kind: str) -> Row:
    """Peak memory of a step at a large batch, each in a fresh process."""
    name = f"{WORDS[kind]}: peak memory of a private step against Opacus, ghost clipping"
    if not find_spec("opacus"):
        return Row(name, note="not run: opacus is not installed")
    if not Path("/proc/self/clear_refs").exists():
        return Row(name, note="not run: peaks are read from Linux's proc file system")
    ours, other, plain = (_peak(kind, way) for way in ("ours", "ghost", "plain"))
    return Row(
        name,
        ratio=other / ours,
        ratio_range=(other / ours, other / ours),
        target="ratio > 1",
        met=other > ours,
        note=f"batch {LARGE:,}: {ours:.1f} MB, Opacus {other:.1f} MB, plain {plain:.1f} MB",
        repeats=1,
    )


def _peak(kind: str, way: str) -> float:
    # Every larger block gets pages of its own and gives them back, so that resident memory is memory in use.
    settings = os.environ | {"MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, "-m", "benchmarks.private", kind, way]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, env=settings).stdout)


def peak(kind: str, way: str) -> float:
    """Megabytes by which the second step of `LARGE` raises the memory of this process, at most."""
    inputs, targets = torch.rand(LARGE, 1, 28, 28), torch.arange(LARGE) % 10
    make = {"ours": private_step, "plain": plain_step, "ghost": partial(opacus_step, mode="ghost")}[way]
    small, large = (make(MODELS[kind](), inputs[:batch], targets[:batch]) for batch in (8, LARGE))
    small()
    before = _memory_of_this("VmRSS")
    large()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    large()
    return _memory_of_this("VmHWM") - before


def _memory_of_this(what: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


if __name__ == "__main__":
    print(peak(*sys.argv[1:]))
