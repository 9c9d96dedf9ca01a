"""The main job on real data that ships with a dependency: a digits classifier and a face recognizer."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from divulge.api import audit
from divulge.data import Size, load, split
from divulge.models import Architecture
from divulge.models.cnn import CNN
from divulge.models.mlp import MLP
from divulge.report import Report
from divulge.runs.progress import Progress
from divulge.training import Recipe, fit


@dataclass(frozen=True)
class Example:
    """One model of the demonstration.

    Args:
        title: what to call it.
        data: name of its data set.
        architecture: the model.
        recipe: how it is trained.
        members: records to train on; as many again are the outsiders.
        size: height and width to bring images to; as they are if None.
    """

    title: str
    data: str
    architecture: Architecture
    recipe: Recipe
    members: int
    size: Size | None = None


EXAMPLES = (
    Example("digits classifier", "digits", MLP((128,)), Recipe(epochs=60, batch_size=32), 800),
    Example("face recognizer", "orl", CNN((16, 32), hidden=128), Recipe(epochs=25, batch_size=20), 200, size=(56, 46)),
)


def run(run_dir: Path, *, progress: Progress | None = None, seed: int = 0) -> Iterator[Report]:
    """Train each example's model, audit it, and give its report."""
    for example in EXAMPLES:
        data = load(example.data, size=example.size)
        parts = split(data, {"members": example.members, "nonmembers": len(data) - example.members}, seed=seed)
        model = example.architecture.build(data.shape, data.num_classes, seed=seed)
        fit(model, parts["members"], example.recipe, seed=seed)
        yield audit(
            model,
            members=parts["members"],
            nonmembers=parts["nonmembers"],
            recipe=example.recipe,
            name=example.title,
            run_dir=run_dir,
            progress=progress,
            command="divulge demo",
        )
