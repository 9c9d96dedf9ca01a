"""Model inversion of every class: all at once against ART's MIFace at as many steps, and who is recognized."""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measure import Row, alternate, summarize
from benchmarks.peer_environment import NotRunError, ask, environment
from divulge.attacks.inversion import MIFace
from divulge.data import Dataset, load, split
from divulge.errors import MissingDataError
from divulge.metrics.recognition import recognize
from divulge.models.base import Architecture
from divulge.models.mlp import MLP, Softmax
from divulge.releases import Weights
from divulge.training import Recipe, fit

STEPS = 100
NETWORKS: dict[str, tuple[Architecture, int]] = {
    "softmax regression": (Softmax(), 60),
    "MLP of 300 sigmoids": (MLP(hidden=(300,), activation="sigmoid"), 60),
}


def inversions() -> list[Row]:
    """One row a network: the published steps of both, and beside them divulge's steps of equal length."""
    data, which = _records()
    parts = split(data, {"train": 0.7, "held_out": 0.3}, seed=0, stratify=True).parts
    try:
        python = environment()
    except NotRunError as error:
        return [Row(f"inversion of {name} against ART", note=f"not run: {error}") for name in NETWORKS]
    return [_row(name, python, parts, which) for name in NETWORKS]


def _row(name: str, python: Path, parts: dict[str, Dataset], which: str) -> Row:
    architecture, epochs = NETWORKS[name]
    train = parts["train"]
    model = architecture.build(train.shape, train.num_classes, seed=0)
    fit(model, train, Recipe(epochs=epochs, batch_size=64, lr_decay=1.0, weight_decay=0.0, precision="float32"), seed=0)
    release = Weights(model, train.shape, train.num_classes)
    published = MIFace(cost="confidence", unit=False, lr=0.1, steps=STEPS)
    drawn: dict[str, Tensor] = {}

    def ours() -> float:
        start = time.perf_counter()
        drawn["ours"] = published.run(release, generator=_seed()).inputs
        return time.perf_counter() - start

    with tempfile.TemporaryDirectory() as folder:
        task, answer = Path(folder) / "task.npz", Path(folder) / "drawn.npy"
        _write(task, model, train.shape)

        def other() -> float:
            seconds = float(ask(python, "inversion_peer.py", str(task), str(answer))["seconds"])
            drawn["other"] = torch.from_numpy(np.load(answer, allow_pickle=False))
            return seconds

        try:
            row = summarize(
                f"inversion of {name}, {train.num_classes} classes, against ART 1.20.1 MIFace",
                alternate(ours, other, repeats=3),
                target=10.0,
            )
        except NotRunError as error:
            return Row(f"inversion of {name} against ART", note=f"not run: {error}")
    drawn["equal"] = MIFace(steps=STEPS).run(release, generator=_seed()).inputs
    named = {which: _named(images, parts["held_out"]) for which, images in drawn.items()}
    return replace(
        row,
        note=(
            f"{STEPS} steps of both from zeros within the pixels' range; recognized by held-out photographs: ours "
            f"{named['ours']:.1%}, ART's {named['other']:.1%}, ours with steps of equal length {named['equal']:.1%}; "
            f"{which}"
        ),
    )


def _records() -> tuple[Dataset, str]:
    try:
        return load("orl"), "ORL faces"
    except MissingDataError:
        return load("digits"), "digits"


def _write(task: Path, model: nn.Module, shape: tuple[int, ...]) -> None:
    tensors = {f"tensor{number}": value.detach().numpy() for number, value in enumerate(model.parameters())}
    np.savez(task, shape=np.array(shape), steps=STEPS, tensors=len(tensors), **tensors)


def _named(drawings: Tensor, held_out: Dataset) -> float:
    people = torch.arange(len(drawings))
    return recognize(drawings, people, held_out.inputs, held_out.targets).top(1).value


def _seed() -> torch.Generator:
    return torch.Generator().manual_seed(0)
