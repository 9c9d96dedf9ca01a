"""The steps of a study of overlearning: an attribute read off layers, de-censored, and a network re-purposed for it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from divulge.attacks.attributes import Decensoring, Overlearning, Repurposing
from divulge.auditing.corpus import Corpus, opened
from divulge.auditing.extraction import fresh, released
from divulge.auditing.representations import layers, readable, without_model
from divulge.defenses import Defense
from divulge.models import Architecture
from divulge.releases import Representation, Weights
from divulge.runs.step import Artifact, Context

ROLES = ("known", "test")
"""Parts of the corpus: the adversary's records, and those to guess."""


@dataclass(frozen=True)
class Reading:
    """Settings of a step that reads an attribute off layers of a network.

    Args:
        architecture: of the network.
        attribute: its name in the corpus.
        attack: the probes.
        seed: of a control's first weights.
        control: whether the network has its first weights.
        defense: what acted on the architecture, if anything did.
        names: of the layers; those that `readable` names if empty.
    """

    architecture: Architecture
    attribute: str
    attack: Overlearning
    seed: int
    control: bool = False
    defense: Defense | None = None
    names: tuple[str, ...] = ()


def read_attribute(settings: Reading, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Fit probes on the part `known` and guess the part `test`.

    Returns:
        Arrays `guess/LAYER` and, with rare values weighed up, `even/LAYER`, int64, and the `truth`, `(n,)`; facts with
        the probe of each layer, the score it had on the adversary's records, and what the layer is. A control network
        is joined by the records themselves and by their classes alone.
    """
    corpus = opened(inputs["data"], ROLES)
    known, test = (corpus.part(role) for role in ROLES)
    if settings.control:
        model = fresh(
            settings.architecture, known.shape, known.num_classes, seed=settings.seed, defense=settings.defense
        )
    else:
        model = _target(settings.architecture, corpus, inputs["target"], settings.defense)
    names = settings.names or readable(model, known.inputs)[0]
    mine, theirs = (layers(model, part.inputs, names=names) for part in (known, test))
    if settings.control and settings.defense is None:
        count = known.num_classes
        mine, theirs = mine | without_model(known, count), theirs | without_model(test, count)
    attribute = known.attributes[settings.attribute].numpy()
    arrays = {"truth": test.attributes[settings.attribute].numpy()}
    probes, expected = {}, {}
    for place, name in enumerate(mine):
        found = settings.attack.run(Representation(mine[name], name), attribute, Representation(theirs[name], name))
        arrays |= {f"guess/{name}": found.values, f"even/{name}": found.even(attribute)}
        probes[name], expected[name] = found.facts["probe"], found.facts["expected"]
        context.progress((place + 1) / len(mine))
    kinds = {name: _kind(model, name, mine[name].shape[1]) for name in names}
    told = {"probes": probes, "expected": expected, "kinds": kinds, "most": int(np.bincount(attribute).argmax())}
    return Artifact(arrays, told | _values(corpus, settings.attribute))


@dataclass(frozen=True)
class Learning:
    """Settings of a step that makes a network tell an attribute.

    Args:
        architecture: of the network.
        attribute: its name in the corpus.
        attack: how it is re-purposed.
        records: how many of the adversary's records it learns from; None for all.
        seed: of first weights.
        control: whether it begins with its first weights rather than with those of the step `target`.
        defense: what acted on the architecture, if anything did.
    """

    architecture: Architecture
    attribute: str
    attack: Repurposing
    records: int | None
    seed: int
    control: bool = False
    defense: Defense | None = None


def learn_attribute(settings: Learning, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Train the network on the part `known` and guess the part `test`; arrays as of `read_attribute`, and weights."""
    corpus = opened(inputs["data"], ROLES)
    known, test = (corpus.part(role) for role in ROLES)
    if settings.control:
        model = fresh(
            settings.architecture, known.shape, known.num_classes, seed=settings.seed, defense=settings.defense
        )
    else:
        model = _target(settings.architecture, corpus, inputs["target"], settings.defense)
    few = known[: settings.records or len(known)]
    attribute = few.attributes[settings.attribute].numpy()
    tuned = settings.attack.tuned(Weights(model, known.shape, known.num_classes), few.inputs, attribute)
    found = settings.attack.guessed(tuned, test.inputs)
    weights = {f"weight/{name}": value for name, value in tuned.state_dict().items()}
    truth = test.attributes[settings.attribute].numpy()
    return Artifact(
        {"truth": truth, "guess": found.values, "even": found.even(attribute), **weights},
        {"records": len(few)} | _values(corpus, settings.attribute),
    )


@dataclass(frozen=True)
class Clearing:
    """Settings of a step that maps a censored layer to that of a network which tells the attribute, and reads it.

    Args:
        architecture: of both networks.
        attribute: its name in the corpus.
        attack: the map and the probe.
        layer: the censored layer; that before the answer if None.
        defense: what acted on the architecture of the censored network, if anything did.
    """

    architecture: Architecture
    attribute: str
    attack: Decensoring
    layer: str | None = None
    defense: Defense | None = None


def clear(settings: Clearing, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Read the attribute off the network of the step `target` through that of the step `auxiliary`, which
    `learn_attribute` left; arrays as of `read_attribute`, for one layer.
    """
    corpus = opened(inputs["data"], ROLES)
    known, test = (corpus.part(role) for role in ROLES)
    model = _target(settings.architecture, corpus, inputs["target"], settings.defense)
    attribute = known.attributes[settings.attribute].numpy()
    own = released(settings.architecture, known.shape, int(attribute.max()) + 1, inputs["auxiliary"])
    layer = settings.layer or embedding(readable(model, known.inputs)[0])
    mine, theirs = (layers(model, part.inputs, names=(layer,))[layer] for part in (known, test))
    theirs_clear = embedding(readable(own, known.inputs)[0])
    target = Representation(layers(own, known.inputs, names=(theirs_clear,))[theirs_clear], theirs_clear)
    found = settings.attack.run(Representation(mine, layer), target, attribute, Representation(theirs, layer))
    truth = test.attributes[settings.attribute].numpy()
    return Artifact(
        {"truth": truth, "guess": found.values, "even": found.even(attribute)},
        {"probe": found.facts["probe"], "layer": layer} | _values(corpus, settings.attribute),
    )


def embedding(names: tuple[str, ...]) -> str:
    """The layer before the answer, which is what Song and Shmatikov call the representation."""
    return names[-2:][0]


def _target(architecture: Architecture, corpus: Corpus, target: Artifact, defense: Defense | None) -> nn.Module:
    return released(architecture, corpus.data.shape, corpus.data.num_classes, target, defense=defense)


def _values(corpus: Corpus, attribute: str) -> dict[str, list[str]]:
    """The names of the attribute's values, or their numbers."""
    count = int(corpus.data.attributes[attribute].max()) + 1
    return {"values": list(corpus.data.attribute_classes.get(attribute) or map(str, range(count)))}


def _kind(model: nn.Module, name: str, width: int) -> str:
    """What a layer is, such as `ReLU, 64 features`."""
    return f"{type(model.get_submodule(name)).__name__}, {width} features"
