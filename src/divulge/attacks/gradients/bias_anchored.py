"""Bias-anchored inversion: what entered a biased linear layer is known, so only the body below it is searched."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from divulge.attacks.gradients.batch_door import open_door
from divulge.attacks.gradients.believed import TINY
from divulge.attacks.gradients.inverting_gradients import InvertingGradients
from divulge.attacks.gradients.layer_input import signal_below
from divulge.attacks.gradients.layers import Linear, layer, linear_layers
from divulge.attacks.gradients.plan import Plan, stacked
from divulge.attacks.gradients.replay import Replay
from divulge.attacks.gradients.rounds import Round
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError


@dataclass(frozen=True)
class BiasAnchored(InvertingGradients):
    """Matches the body below the first biased linear layer, whose input and incoming signal are exact in closed form.

    The gradient of `<signal, body(x)>` is compared with the body's shared gradient, and `body(x)` with the layer's
    input, as far as a defense left it. Nothing that happens above the layer matters, random or not, and for a batch of
    one no label enters. Larger batches are taken whose records the last layers tell apart, as with labels of their own;
    see `divulge.attacks.gradients.batch_door`.

    The total variation weighs a hundredth of what it does in inverting gradients: so little is left to matching that
    more of it would decide where the search ends.

    Args:
        anchoring: weight of the squared distance between `body(x)` and the input of the layer, relative to its length,
            or to the variance of its entries where the distance is a likelihood.
    """

    name: ClassVar[str] = "bias-anchored"
    nats: ClassVar[bool] = True
    source: ClassVar[str] = ""

    tv: float = 1e-6
    steps: int = 2500
    anchoring: float = 1.0

    def read(self, rounds: Sequence[Round], knowledge: Knowledge) -> Tensor | None:
        """The labels of a batch; none of a batch of one, which needs none."""
        return None if rounds[0].records[0].batch_size == 1 else super().read(rounds, knowledge)

    def plan(self, one: Round, labels: Tensor | None) -> Plan:
        """What is matched of a round: the gradients of the body, and what it gave to the layer above it."""
        first = one.records[0]
        if first.local_steps != 1:
            raise BadInputError(f"{self.name}: expected one step, got {first.local_steps}. Use inverting-gradients.")
        names = list(first.gradients)
        biased = [layer for layer in linear_layers(first, one.model) if layer.bias is not None]
        door = next((layer.name for layer in biased if not f"{layer.name}.bias".startswith(self.ignore)), None)
        body = [] if door is None else names[: names.index(f"{door}.weight")]
        matched = [name for name in body if not name.startswith(self.ignore)]
        if door is None or not matched:
            raise BadInputError(
                f"{self.name}: expected a body with weights and a linear layer above it whose bias gradient is shared, "
                f"found {'no such layer' if door is None else f'nothing below {door}'}. Use inverting-gradients, or "
                "first-layer where that layer sees the record itself."
            )
        shared = stacked([record.gradients for record in one.records], matched)
        like = shared[matched[0]]
        if labels is None:
            doors = [layer(record, one.model, door) for record in one.records]
            anchor, weights = (each[:, None] for each in self._anchor(one, doors))
            top = torch.stack([signal_below(one) for one in doors])[:, None]
        else:
            anchor, weights, top = self._anchors(one, labels, door)
        return Plan(
            Replay(one.model, first, tap=door),
            shared,
            top=top.to(like),
            kept=self.kept(one, matched),
            steps=self.sizes(one, matched),
            anchor=anchor.to(like),
            weights=weights.to(like),
        )

    def _anchors(self, one: Round, labels: Tensor, door: str) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs of the layer, weights of their entries, and signals, `(victims, batch, d)` each.

        A victim whose records are not told apart has neither anchor nor signals.
        """
        if self.noise or self.rounding != "none" or self.zeros == "skip":
            raise BadInputError(
                f"{self.name}: expected batches of 1 where gradients are noisy, rounded or left out, got "
                f"{labels.shape[1]}, whose records take exact gradients to tell apart. Use inverting-gradients."
            )
        opened = [open_door(record, one.model, own, door) for record, own in zip(one.records, labels, strict=True)]
        apart = torch.tensor([door.left < 1 for door in opened])[:, None, None]
        inputs = torch.stack([door.inputs for door in opened])
        signals = torch.stack([door.signals for door in opened])
        weights = (self.anchoring / inputs.square().sum(dim=(1, 2), keepdim=True).clamp(min=TINY)).expand_as(inputs)
        return torch.where(apart, inputs, 0.0), torch.where(apart, weights, 0.0), torch.where(apart, signals, 0.0)

    def _anchor(self, one: Round, doors: list[Linear]) -> tuple[Tensor, Tensor]:
        """The input of the layer from the entries that are believed, and the weight of each, `(victims, d)`.

        Signs tell no ratios, and so no input.
        """
        rows = torch.stack([door.weight for door in doors])
        bias = torch.stack([door.biased() for door in doors])[:, :, None]
        name = f"{doors[0].name}.weight"
        kept = self.kept(one, [name])
        told = torch.ones_like(rows) if kept is None else kept[name].to(rows)
        if self.rounding == "sign" or name.startswith(self.ignore):
            told = torch.zeros_like(rows)
        told = told * bias.square()
        sizes = told.sum(dim=1)
        anchor = (told * rows / bias).nan_to_num().sum(dim=1) / sizes.clamp(min=TINY)
        if self.noise and self.distance != "cosine":
            return anchor, self.anchoring * sizes / (2 * self.noise**2)
        return anchor, self.anchoring * (sizes > 0) / anchor.square().sum(dim=1, keepdim=True).clamp(min=TINY)
