"""Training throughput of one model: `divulge.training.fit` against the ordinary loop."""

import torch

from benchmarks import ordinary
from benchmarks.measure import Row, compare
from benchmarks.records import images
from divulge.models.cnn import CNN
from divulge.training import Recipe, fit
from divulge.training.loop import has_fast_bfloat16


def cifar_cnn() -> list[Row]:
    """The CIFAR-10 target of the membership studies, 20 steps."""
    return [_cnn("cifar10", 20, (3, 32, 32), CNN((128, 256), hidden=256), target=2.5)]


def mnist_cnn() -> list[Row]:
    """The MNIST target of the membership studies, 100 steps."""
    return [_cnn("mnist", 100, (1, 28, 28), CNN((32, 64), hidden=64), target=3.0)]


def _cnn(name: str, steps: int, shape: tuple[int, int, int], architecture: CNN, *, target: float) -> Row:
    recipe = Recipe(epochs=1)
    data, which = images(name, steps * recipe.batch_size, shape)
    first, second = architecture.channels

    def ours() -> None:
        fit(architecture.build(data.shape, data.num_classes, seed=0), data, recipe, seed=0)

    def other() -> None:
        model = ordinary.cnn(shape, (first, second), architecture.hidden, data.num_classes)
        ordinary.loop(model, data, recipe)

    fast = has_fast_bfloat16(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return compare(
        f"{name} CNN: fit against the ordinary loop",
        ours,
        other,
        repeats=5,
        target=target if fast else None,
        note=f"{steps} steps of {recipe.batch_size} on {which}" + ("" if fast else "; no bfloat16 in hardware here"),
    )
