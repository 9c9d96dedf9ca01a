"""What an adversary who knows a defense changes in a search, and what one who knows its randomness takes back."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from divulge.attacks.gradients.believed import step_sizes
from divulge.attacks.gradients.layers import head
from divulge.attacks.gradients.rounds import Round
from divulge.errors import BadInputError
from divulge.models.stochastic import stochastic_layers
from divulge.releases import GradientRecord, Tampering

if TYPE_CHECKING:
    from divulge.attacks.gradients.search import Search

LIKELY = 10.0
"""Nats that a mean total variation of 1 costs a pixel: between the 3 and the 30 that did best on four pictures."""


def adapt(search: "Search", known: Tampering, one: Round) -> tuple["Search", tuple[str, ...]]:
    """The same search with a comparison that fits a defense, and what that changed, in words.

    Withheld tensors are left out and zeros skipped. Noise of a known law is matched by its likelihood, beside which a
    prior has its weight in nats (Balunovic et al. 2022, arXiv 2111.04706). A search by the cosine keeps that: squared
    lengths over twice the variance times it are the likelihood of Gaussian noise at the best scale, which is easier to
    search along than either law's own; the prior weighs what it does in nats, and no less than without noise. An
    unknown scale is solved for, unless the distance is a cosine and forgives it, and rounded entries contradict a guess
    outside of what rounds to them alone.

    Args:
        search: as it would run against no defense.
        known: what is publicly known of the defense.
        one: any of the rounds observed.
    """
    record, changes, words = one.records[0], dict[str, Any](), list[str]()
    if known.withheld:
        changes["ignore"] = (*search.ignore, *filter(known.withholds, record.gradients))
        words.append(f"left out {', '.join(known.withheld)}")
        changes |= _labels(search, record, one.model)
    if known.zeros:
        changes["zeros"] = "skip"
        words.append("skipped zeros")
    if known.rounding != "none":
        changes["rounding"] = known.rounding
        words.append("compared signs" if known.rounding == "sign" else "forgave half a step")
    if known.noise != "none" and known.rounding == "none" and search.distance == "cosine" and not search.nats:
        changes["noise"] = known.std
        words.append(f"matched by the angle, under {known.noise} noise of {known.std:g}")
        if search.tv:
            nats = LIKELY * record.batch_size * torch.Size(record.shape).numel()
            changes["tv"] = max(search.tv, nats * known.std**2 / _squared_length(one, known))
            words.append(f"weighted the total variation by {changes['tv']:g}, {nats:g} nats or more")
    elif known.noise != "none" and known.rounding == "none":
        changes |= {"distance": known.noise, "noise": known.std}
        words.append(f"matched by the likelihood of {known.noise} noise of {known.std:g}")
        if search.tv:
            changes["tv"] = LIKELY * record.batch_size * torch.Size(record.shape).numel()
            words.append(f"weighted the total variation by {changes['tv']:g} nats")
    elif known.noise != "none":
        words.append(f"made no use of the {known.noise} noise before the rounding")
    if known.scaled and changes.get("distance", search.distance) != "cosine":
        changes["scaled"] = True
        words.append("solved for the scale")
    return dataclasses.replace(search, **changes), tuple(words)


def take_back(one: Round, known: Tampering) -> tuple[Round, Tampering, tuple[str, ...]]:
    """A round as an oracle adversary has it: without noise that was added, and with masks that were laid.

    What is known of the defense is brought to the batch size at hand, for every adversary.

    Args:
        one: whose `randomness` holds, for each record, tensors by parameter name, at any depth: floating-point ones
            were added, before any rounding, and bool ones say which entries were left.
        known: what is publicly known of the defense.

    Returns:
        The round, what is publicly known of the rest, and what was done, in words.

    Raises:
        BadInputError: randomness of another number of records.
    """
    known = known.of_batch(one.records[0].batch_size)
    if one.randomness is None:
        return one, known, ()
    drawn = [one.randomness] if isinstance(one.randomness, Mapping) else one.randomness
    if not isinstance(drawn, Sequence) or len(drawn) != len(one.records):
        raise BadInputError(
            f"expected what the defense drew for each of {len(one.records)} records, got "
            f"{len(drawn) if isinstance(drawn, Sequence) else type(drawn).__name__}."
        )
    tensors = [dict(_tensors(draw, record)) for draw, record in zip(drawn, one.records, strict=True)]
    noise = [{name: one for name, one in each.items() if one.is_floating_point()} for each in tensors]
    masks = [{name: one for name, one in each.items() if one.dtype == torch.bool} for each in tensors]
    words = list[str]()
    if any(noise):
        known = dataclasses.replace(known, noise="none", std=0.0)
        words.append("took the noise back")
    if any(masks):
        words.append("knew the masks")
    layers = stochastic_layers(one.model).keys()
    if layers and all(layers <= draw.keys() for draw in drawn):
        known = dataclasses.replace(known, withheld=(), zeros=False)
        words.append("played again what the layers drew")
    steps = [step_sizes(record.gradients) for record in one.records] if known.rounding == "steps" else None
    records = [
        dataclasses.replace(
            record,
            gradients={name: one - added[name] if name in added else one for name, one in record.gradients.items()},
        )
        for record, added in zip(one.records, noise, strict=True)
    ]
    return dataclasses.replace(one, records=records, kept=masks, steps=steps), known, tuple(words)


def _tensors(drawn: Any, record: GradientRecord) -> list[tuple[str, Tensor]]:
    found = []
    for name, value in drawn.items() if isinstance(drawn, Mapping) else ():
        if isinstance(value, Tensor) and name in record.gradients:
            found.append((name, value.to(record.gradients[name].device).expand_as(record.gradients[name])))
        else:
            found += _tensors(value, record)
    return found


def _squared_length(one: Round, known: Tampering) -> float:
    """Of what is matched, in the mean over the records."""
    sizes = [
        sum(float(g.double().square().sum()) for name, g in record.gradients.items() if not known.withholds(name))
        for record in one.records
    ]
    return sum(sizes) / len(sizes)


def _labels(search: "Search", record: GradientRecord, model: nn.Module) -> dict[str, Any]:
    """How labels are read where nothing came of the last layer's bias or weight."""
    if search.targets is not None or search.labels == "joint":
        return {}
    last = head(record, model)
    weight, bias = bool(last.weight.any()), last.bias is not None and bool(last.bias.any())
    if weight and bias:
        return {}
    return {"labels": "bias" if bias else "weight" if weight and record.batch_size == 1 else "joint"}
