"""The steps of an audit of gradients: one attack on some clients, judged by a loss that all attacks share."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from divulge.attacks.gradients import GradientAttack, Reconstructions
from divulge.attacks.gradients.labels import labels_given_inputs
from divulge.attacks.gradients.variational import bottleneck, open_one
from divulge.attacks.knowledge import Knowledge
from divulge.auditing.corpus import opened
from divulge.auditing.gradients.attempt import Attempt, attempt
from divulge.errors import BadInputError
from divulge.models.stochastic import stochastic_layers
from divulge.releases import GradientRecord, Tampering, share
from divulge.releases.gradients import NOTHING
from divulge.runs.step import Artifact, Context

PUBLIC = "public"
"""The part of a corpus that the adversary has of their own, where there is one."""


def victims_of(batch: int) -> str:
    """The part of a corpus whose records clients share in batches of this size."""
    return f"victims-{batch}"


def others_of(batch: int) -> str:
    """The part that holds, for each of these victims, another record of its class."""
    return f"others-{batch}"


@dataclass(frozen=True)
class Judged(GradientAttack):
    """Another attack, whose `matching` becomes a loss that can be compared between attacks, and needs no truth.

    The client is played again with the rebuilt batch; what counts is the share of the length of the shared gradient
    that the best multiple of the replayed one leaves over, 1 for a batch that was not rebuilt as a whole. An adversary
    who knows a defense leaves out what that is known to withhold. Stochastic layers are played with what the attack
    found them to have drawn, or what can be read of it, or what an oracle knows; where nothing tells it they draw anew,
    and even the true batch leaves something over.

    Args:
        inner: the attack.
    """

    name: ClassVar[str] = ""

    inner: GradientAttack

    def invert(
        self, records: list[GradientRecord], model: nn.Module, *, knowledge: Knowledge, generator: torch.Generator
    ) -> Reconstructions:
        """Attack, then judge each victim."""
        found = self.inner.invert(records, model, knowledge=knowledge, generator=generator)
        told = Tampering() if knowledge.defense is None else knowledge.defense.tampering(model)
        tampering = told.of_batch(records[0].batch_size)
        losses = torch.ones(len(records))
        for victim, record in enumerate(records):
            whole = found.found is None or bool(found.found[victim].all())
            targets = None if found.targets is None else found.targets[victim]
            if whole:
                noise = _drawn(record, model, found, knowledge, victim)
                losses[victim] = unexplained(record, model, found.inputs[victim], targets, tampering, noise=noise)
        return replace(found, matching=losses, facts={**found.facts, "own loss": found.matching.tolist()})


def _drawn(
    record: GradientRecord, model: nn.Module, found: Reconstructions, knowledge: Knowledge, victim: int
) -> dict[str, Tensor]:
    """What the stochastic layers of a victim's model drew, by their names, as far as an attacker knows it."""
    layers = stochastic_layers(model)
    if not layers:
        return {}
    own = None if knowledge.randomness is None else knowledge.randomness[victim]
    if isinstance(own, Mapping) and layers.keys() <= own.keys():
        return {name: own[name] for name in layers}
    restored = {name: values[victim] for name, values in found.noise.items()}
    if restored and all(values.isfinite().all() for values in restored.values()):
        return restored
    try:
        return {bottleneck(record, model).noise: open_one(record, model).noise}
    except BadInputError:  # a larger batch, or no bottleneck that closed forms open
        return {}


def unexplained(
    record: GradientRecord,
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor | None,
    tampering: Tampering,
    *,
    noise: Mapping[str, Tensor] = NOTHING,
) -> float:
    """Share of a shared gradient that a batch does not explain, whatever the scale, from 0 to 1.

    Args:
        record: what was shared.
        model: as it was shared.
        inputs: a batch `(B, *shape)`.
        targets: its class numbers `(B,)`; read from the gradient if None.
        tampering: what the adversary knows of how the gradient was changed.
        noise: what stochastic layers drew, by their names; those that are not named draw anew.
    """
    place = next(model.parameters())
    inputs = inputs.to(place.device)
    targets = labels_given_inputs(record, model, inputs) if targets is None else targets
    if not inputs.isfinite().all() or (targets < 0).any():
        return 1.0
    again = share(
        model,
        inputs,
        targets.to(place.device),
        reduction=record.reduction,
        training=record.training,
        noise={name: values.to(place) for name, values in noise.items()},
    )
    names = [name for name in record.gradients if not tampering.withholds(name)]
    sent, played = (
        torch.cat([one[name].double().flatten() for name in names]) for one in (record.gradients, again.gradients)
    )
    if tampering.zeros:
        played = played * (sent != 0)
    sizes = sent.norm() * played.norm()
    agreement = float(sent @ played / sizes) if sizes > 0 else 0.0
    return (1 - min(max(agreement, 0.0), 1.0) ** 2) ** 0.5


@dataclass(frozen=True, eq=False)
class Carried:
    """A network that may travel to another process, by value: its class may live in a file that cannot be imported."""

    module: nn.Module

    def __reduce__(self) -> tuple[type["Carried"], tuple[Any]]:
        from joblib import wrap_non_picklable_objects  # type: ignore[import-untyped]

        return Carried, (wrap_non_picklable_objects(self.module, keep_wrapper=False),)


@dataclass(frozen=True)
class Trying:
    """Settings of a step that runs one attack on some clients.

    Args:
        identity: stands for the model in a run's keys.
        attempt: attack, defense and adversary; the attack is judged by the step.
        batch: records that each client has.
        window: which clients, from one number to before another.
        model: what the clients were given.
    """

    identity: str
    attempt: Attempt
    batch: int
    window: tuple[int, int]
    model: Carried = field(compare=False)


def pursue(settings: Trying, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Run one attack on the clients of a window of the corpus `data`.

    Returns:
        Arrays `reconstructions` float32 `(clients, batch, *shape)` in the order of the true records, `found` bool
        `(clients, batch)`, `unexplained` `(clients,)` and, where the attack names labels, `labels`, the share of right
        ones `(clients,)`; facts `seconds` and what the attack said. Of an attack that cannot be run on these records,
        no arrays and the fact `refused`.
    """
    batch, one = settings.batch, settings.attempt
    parts = [victims_of(batch), *([PUBLIC] if f"part/{PUBLIC}" in inputs["data"].arrays else [])]
    corpus = opened(inputs["data"], parts)
    rows = slice(settings.window[0] * batch, settings.window[1] * batch)
    model = copy.deepcopy(settings.model.module)
    if torch.cuda.is_available():
        model = model.to("cuda")
    try:
        outcome = attempt(
            model,
            corpus.part(victims_of(batch))[rows],
            replace(one, attack=Judged(one.attack)),
            batch=batch,
            public=corpus.part(PUBLIC) if PUBLIC in corpus.parts else None,
        )
    except (BadInputError, RuntimeError, ArithmeticError) as error:  # a person's network may be out of its reach
        return Artifact({}, {"refused": str(error) or type(error).__name__})
    arrays = {
        "reconstructions": outcome.reconstructions.float(),
        "found": outcome.found,
        "unexplained": outcome.matching,
    }
    if "label accuracy" in outcome.scores:
        arrays["labels"] = outcome.scores["label accuracy"]
    return Artifact(arrays, {"seconds": outcome.seconds, **outcome.facts})


@dataclass(frozen=True)
class Pricing:
    """Settings of a step that says what a defense does to the gradients that some clients share.

    Args:
        identity: stands for the model in a run's keys.
        attempt: defense, mode and seed; of the rest nothing is used.
        batch: records that each client has.
        window: which clients.
        model: what the clients were given.
    """

    identity: str
    attempt: Attempt
    batch: int
    window: tuple[int, int]
    model: Carried = field(compare=False)


def price(settings: Pricing, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """How far what leaves each client is from its gradient.

    Returns:
        Arrays `cosine`, of the angle between the two, and `error`, the length of the difference as a share of the
        gradient's, both float64 `(clients,)`.
    """
    one, batch, model = settings.attempt, settings.batch, settings.model.module
    data = opened(inputs["data"], [victims_of(batch)]).data[settings.window[0] * batch : settings.window[1] * batch]
    place = next(model.parameters()).device
    generator = torch.Generator().manual_seed(one.seed)
    cosines, errors = [], []
    for number in range(len(data) // batch):
        own = data[number * batch : (number + 1) * batch]
        records, labels = own.inputs.to(place), own.targets.to(place)
        honest = share(model, records, labels, training=one.training, seed=one.seed + number)
        sent = one.defense.share(honest, model=model, inputs=records, targets=labels, generator=generator).record
        before, after = (
            torch.cat([gradient.double().flatten() for gradient in side.gradients.values()]) for side in (honest, sent)
        )
        cosines.append(float(before @ after / (before.norm() * after.norm()).clamp(min=1e-300)))
        errors.append(float((after - before).norm() / before.norm()))
    return Artifact({"cosine": torch.tensor(cosines).double(), "error": torch.tensor(errors).double()})
