"""Searches for baskets: the gradient of a relaxed basket is turned towards the one that was shared."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from divulge.attacks.gradients.adam import adam
from divulge.attacks.knowledge import Knowledge
from divulge.attacks.recommenders.base import Baskets, RecommenderAttack, entry
from divulge.errors import BadInputError
from divulge.models.stochastic import MaskedDropout, injectable, noise_inputs, penalties, stochastic_layers
from divulge.releases import GradientRecord

TURNS = 10
"""Rounds of power iteration for a layer's leading direction."""


@dataclass(frozen=True, eq=False)
class Outer:
    """The gradient of one linear layer by its leading direction, for several victims: `signal x entered`.

    Args:
        signal: by the layer's outputs `(victims, out)`.
        entered: what entered the layer `(victims, in)`.
        bias: the gradient of the bias `(victims, out)`; None for a layer without one.
    """

    signal: Tensor
    entered: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class BasketInvertingGradients(RecommenderAttack):
    """Matches the gradient's direction over baskets between 0 and 1 by signed Adam, with nothing drawn.

    Inverting gradients as it was put to recommenders, without total variation. A linear layer's gradient is a product
    of what entered it and the signal at its outputs, so the angle between two gradients follows from these alone, and
    no gradient is written out; noise that was added is cut down to what lies in the leading direction.

    The search plays the client without dropout and with the mean of the code, as in evaluation mode.

    Args:
        steps: of Adam.
        lr: its step size.
        threshold: of the items that are named.
        at_once: victims in one batch.
    """

    name: ClassVar[str] = "basket-inverting-gradients"
    source: ClassVar[str] = "Geiping et al. 2020, arXiv 2003.14053; github.com/ChellyFan/Exp3"

    steps: int = 3000
    lr: float = 0.01
    threshold: float = 0.6
    at_once: int = 16

    def __post_init__(self) -> None:
        if min(self.steps, self.at_once) < 1 or not self.lr > 0 or not 0 < self.threshold < 1:
            raise BadInputError(
                f"{self.name}: expected steps and at_once of 1 or more, a positive lr and a threshold in (0, 1), got "
                f"{self.steps}, {self.at_once}, {self.lr} and {self.threshold}."
            )

    @property
    def together(self) -> int:
        """As many as it says."""
        return self.at_once

    def read(
        self, records: list[GradientRecord], model: nn.Module, *, knowledge: Knowledge, generator: torch.Generator
    ) -> Baskets:
        """Search for all baskets side by side; `matching` is one minus the cosine of the angle that is left.

        Raises:
            BadInputError: records of several users, or a model that learns outside of linear layers called once.
        """
        if records[0].batch_size != 1:
            raise BadInputError(
                f"{self.name}: expected the record of one user, got one of {records[0].batch_size}. Use "
                "basket-separation, or encoder-columns for their union."
            )
        asked = injectable(copy.deepcopy(model)).eval().float()
        for parameter in asked.parameters():
            parameter.requires_grad_(False)
        count, items = len(records), records[0].classes
        known = _leading(self.name, records, asked)
        given, layers = noise_inputs(asked, torch.ones(count, items)), stochastic_layers(asked)
        shapes = {name: layer.shape(given[name])[1:] for name, layer in layers.items()}
        parts = [torch.randn(count, items, generator=generator), *self._starts(asked, given, generator)]
        widths = [part.shape[1] for part in parts]

        def evaluate(points: Tensor, problems: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            moving = points.detach().requires_grad_()
            baskets, *drawn = moving.split(widths, dim=1)
            noise = self._noise(asked, len(points), shapes, drawn)
            rows = {
                name: Outer(
                    one.signal[problems], one.entered[problems], None if one.bias is None else one.bias[problems]
                )
                for name, one in known.items()
            }
            with torch.enable_grad():
                apart = _angle(asked, baskets, noise, rows)
                (gradient,) = torch.autograd.grad(apart.sum(), moving)
            return apart.detach(), gradient, apart.detach()

        def project(points: Tensor) -> Tensor:
            baskets, *drawn = points.split(widths, dim=1)
            return torch.cat([baskets.clamp(0, 1), *self._nearest(asked, drawn)], dim=1)

        start = project(torch.cat(parts, dim=1))
        found = adam(
            evaluate, start, steps=self.steps, lr=self.lr, project=project, sign="hard", signed=items, schedule="steps"
        )
        scores = found.points[:, None, :items]
        return Baskets(scores > self.threshold, scores, found.matching, facts={"evaluations": found.evaluations})

    def _starts(self, model: nn.Module, given: Mapping[str, Tensor], generator: torch.Generator) -> list[Tensor]:
        """What is searched for besides baskets, from what enters each stochastic layer."""
        return []

    def _noise(
        self, model: nn.Module, count: int, shapes: Mapping[str, torch.Size], drawn: list[Tensor]
    ) -> dict[str, Tensor]:
        """What stochastic layers use: all units as they are, and the mean of the code."""
        return {
            name: torch.full((count, *shapes[name]), 1 - layer.p if isinstance(layer, MaskedDropout) else 0.0)
            for name, layer in stochastic_layers(model).items()
        }

    def _nearest(self, model: nn.Module, drawn: list[Tensor]) -> list[Tensor]:
        return drawn


@dataclass(frozen=True)
class BasketNoiseRestoring(BasketInvertingGradients):
    """The noise-restoring attack on baskets: the code's noise and the masks of dropout are searched for as well.

    The same signed Adam for the baskets, fed by the gradient for what was drawn. The client's model draws here, as it
    does when it trains.
    """

    name: ClassVar[str] = "basket-noise-restoring"
    source: ClassVar[str] = "NRA, github.com/ChellyFan/Exp3"

    def _starts(self, model: nn.Module, given: Mapping[str, Tensor], generator: torch.Generator) -> list[Tensor]:
        layers = stochastic_layers(model)
        if not layers:
            raise BadInputError(
                f"{self.name}: expected a model that draws, by dropout or a variational code, and this one has no such "
                "layer. Use basket-inverting-gradients."
            )
        return [layer.draw(given[name], generator).flatten(1) for name, layer in layers.items()]

    def _noise(
        self, model: nn.Module, count: int, shapes: Mapping[str, torch.Size], drawn: list[Tensor]
    ) -> dict[str, Tensor]:
        """What is searched for."""
        return {name: one.unflatten(1, shapes[name]) for name, one in zip(stochastic_layers(model), drawn, strict=True)}

    def _nearest(self, model: nn.Module, drawn: list[Tensor]) -> list[Tensor]:
        return [layer.nearest(one) for layer, one in zip(stochastic_layers(model).values(), drawn, strict=True)]


def _leading(name: str, records: list[GradientRecord], model: nn.Module) -> dict[str, Outer]:
    """Each linear layer's gradient by its leading direction.

    Raises:
        BadInputError: a model that learns outside of linear layers.
    """
    layers = {own: layer for own, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    owned = {entry(own, what) for own, layer in layers.items() for what, _ in layer.named_parameters()}
    if other := [own for own in records[0].gradients if own not in owned]:
        raise BadInputError(
            f"{name}: expected a model that learns in linear layers alone, got {other[0]}. Use basket-closed-form."
        )
    found = {}
    for own, layer in layers.items():
        parts = [_outer(record, own, layer.bias is not None) for record in records]
        signals, entered, biases = zip(*parts, strict=True)
        bias = None if layer.bias is None else torch.stack(biases)
        found[own] = Outer(torch.stack(signals), torch.stack(entered), bias)
    return found


def _outer(record: GradientRecord, place: str, biased: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    weight = record.gradients[entry(place, "weight")].float()
    entered = weight[weight.square().sum(dim=1).argmax()]
    for _ in range(TURNS):
        entered = weight.T @ (weight @ (entered / entered.norm().clamp(min=1e-30)))
    entered = entered / entered.norm().clamp(min=1e-30)
    return weight @ entered, entered, record.gradients[entry(place, "bias")].float() if biased else None


def _angle(model: nn.Module, baskets: Tensor, noise: Mapping[str, Tensor], known: Mapping[str, Outer]) -> Tensor:
    """One minus the cosine of the angle between each basket's gradient and the one that was shared `(victims,)`."""
    calls: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda _, given, out, name=name: calls.update({name: (given[0], out)})
        )
        for name in known
    ]
    try:
        with penalties(model) as extra:
            logits = functional_call(model, dict(noise), (baskets,))
    finally:
        for hook in hooks:
            hook.remove()
    losses = sum(extra, start=-(baskets * logits.log_softmax(dim=1)).sum(dim=1))
    signals = torch.autograd.grad(losses.sum(), [out for _, out in calls.values()], create_graph=True)
    common, own, shared = (baskets.new_zeros(len(baskets)) for _ in range(3))
    for (name, (entered, _)), signal in zip(calls.items(), signals, strict=True):
        other = known[name]
        common = common + (signal * other.signal).sum(dim=1) * (entered * other.entered).sum(dim=1)
        own = own + signal.square().sum(dim=1) * (entered.square().sum(dim=1) + (other.bias is not None))
        shared = shared + other.signal.square().sum(dim=1) * other.entered.square().sum(dim=1)
        if other.bias is not None:
            common = common + (signal * other.bias).sum(dim=1)
            shared = shared + other.bias.square().sum(dim=1)
    return 1 - common / (own * shared).sqrt().clamp(min=1e-30)
