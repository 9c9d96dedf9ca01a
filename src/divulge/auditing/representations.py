"""What each layer of a network makes of records, and the step that reads an attribute off it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from divulge.attacks.attributes import Overlearning
from divulge.auditing.corpus import opened
from divulge.auditing.extraction import fresh, released
from divulge.defenses import Defense
from divulge.errors import BadInputError
from divulge.models import Architecture
from divulge.releases import Representation
from divulge.runs.step import Artifact, Context

INPUT, LABEL = "input", "label"
"""Names of two controls: the records themselves, and nothing of them but their class."""
WIDE = 2048
"""Features of a layer that a probe is given; a layer of more is averaged over neighboring pixels until it fits."""


def layers(model: nn.Module, inputs: Tensor, *, batch_size: int = 512) -> dict[str, np.ndarray]:
    """What the layers of `model` give for records, in evaluation mode, float32 `(N, d)` by the layers' names.

    Kept is what comes out of each activation and of the last layer; of the former, those that are modules of their own.
    The mode and the hooks of the model are left as they were.

    Args:
        model: maps `(N, *shape)` to logits.
        inputs: the records.
        batch_size: how many at once.

    Raises:
        BadInputError: an activation that the model runs several times, or never.
    """
    found: dict[str, list[Tensor]] = {}
    named = [(name, layer) for name, layer in model.named_modules() if name and not list(layer.children())]
    kept = [(name, layer) for name, layer in named if isinstance(layer, (nn.ReLU, nn.Sigmoid, nn.Tanh, nn.GELU))]
    kept += [(name, layer) for name, layer in named[-1:] if (name, layer) not in kept]

    def see(layer: nn.Module, given: tuple[Tensor, ...], out: Tensor, *, name: str) -> None:
        found.setdefault(name, []).append(_narrow(out.detach()).float().cpu())

    place = next((weight.device for weight in model.parameters()), inputs.device)
    hooks = [layer.register_forward_hook(partial(see, name=name)) for name, layer in kept]
    modes = {layer: layer.training for layer in model.modules()}
    model.eval()
    try:
        with torch.inference_mode():
            for batch in inputs.split(batch_size):
                model(batch.to(place))
    finally:
        for layer, mode in modes.items():
            layer.training = mode
        for hook in hooks:
            hook.remove()
    for name, _ in kept:
        if sum(map(len, found.get(name, []))) != len(inputs):
            raise BadInputError(
                f"representations: expected layer {name} to run once for each of {len(inputs)} records, got "
                f"{sum(map(len, found.get(name, [])))} rows. Give each activation a module of its own."
            )
    return {name: torch.cat(parts).numpy() for name, parts in found.items()}


def _narrow(out: Tensor) -> Tensor:
    while out.ndim == 4 and out[0].numel() > WIDE and min(out.shape[2:]) > 1:
        out = nn.functional.avg_pool2d(out, 2, ceil_mode=True)
    return out.flatten(1)


@dataclass(frozen=True)
class Reading:
    """Settings of a step that reads an attribute off every layer of a network.

    Args:
        architecture: of the network.
        attribute: its name in the corpus.
        attack: the probes.
        seed: of a control's first weights.
        control: whether the network has its first weights.
        defense: what acted on the architecture, if anything did.
    """

    architecture: Architecture
    attribute: str
    attack: Overlearning
    seed: int
    control: bool = False
    defense: Defense | None = None


def read_attribute(settings: Reading, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Fit probes on the part `known` and guess the part `test`.

    Returns:
        Arrays `guess/LAYER` int64 and the `truth`, `(n,)`; facts with the probe that was chosen for each layer. A
        control network is joined by the records themselves and by their classes alone.
    """
    corpus = opened(inputs["data"], ("known", "test"))
    known, test = corpus.part("known"), corpus.part("test")
    shape, classes = known.shape, known.num_classes
    if settings.control:
        model = fresh(settings.architecture, shape, classes, seed=settings.seed, defense=settings.defense)
    else:
        model = released(settings.architecture, shape, classes, inputs["target"], defense=settings.defense)
    mine, theirs = layers(model, known.inputs), layers(model, test.inputs)
    if settings.control:
        mine[INPUT], theirs[INPUT] = (_narrow(part.inputs).numpy() for part in (known, test))
        mine[LABEL], theirs[LABEL] = (np.eye(classes, dtype=np.float32)[part.targets] for part in (known, test))
    attribute = known.attributes[settings.attribute].numpy()
    arrays, probes = {"truth": test.attributes[settings.attribute].numpy()}, {}
    for place, name in enumerate(mine):
        found = settings.attack.run(Representation(mine[name], name), attribute, Representation(theirs[name], name))
        arrays[f"guess/{name}"] = found.values
        probes[name] = found.facts["probe"]
        context.progress((place + 1) / len(mine))
    return Artifact(arrays, {"probes": probes})
