"""Bias-anchored inversion: what entered a biased linear layer is known, so only the body below it is searched."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from divulge.attacks.gradients.inverting_gradients import InvertingGradients
from divulge.attacks.gradients.layer_input import layer_input, signal_below
from divulge.attacks.gradients.layers import linear_layers
from divulge.attacks.gradients.plan import Plan, stacked
from divulge.attacks.gradients.replay import Replay
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.releases import GradientRecord


@dataclass(frozen=True)
class BiasAnchored(InvertingGradients):
    """Matches the body below the first biased linear layer, whose input and incoming signal are exact in closed form.

    For batches of one. The gradient of `<signal, body(x)>` is compared with the body's shared gradient, and `body(x)`
    with the layer's input. No label enters, and nothing that happens above the layer matters, random or not.

    Args:
        anchoring: weight of the squared distance between `body(x)` and the input of the layer, relative to its length.
    """

    name: ClassVar[str] = "bias-anchored"
    source: ClassVar[str] = ""

    steps: int = 2500
    anchoring: float = 1.0

    def plan(self, records: list[GradientRecord], model: nn.Module, knowledge: Knowledge) -> Plan:
        """What is matched: the gradients of the body, and what it gave to the layer above it."""
        first = records[0]
        if first.batch_size != 1 or first.local_steps != 1:
            raise BadInputError(
                f"{self.name}: expected one step on a batch of 1, got {first.local_steps} on {first.batch_size}. Use "
                "inverting-gradients."
            )
        names = list(first.gradients)
        door = next((one for one in linear_layers(first, model) if one.bias is not None), None)
        body = [] if door is None else names[: names.index(f"{door.name}.weight")]
        matched = [name for name in body if not name.startswith(self.ignore)]
        if door is None or not matched:
            raise BadInputError(
                f"{self.name}: expected a body with weights and a biased linear layer above it, found "
                f"{'no such layer' if door is None else f'nothing below {door.name}'}. Use inverting-gradients, or "
                "first-layer where that layer sees the record itself."
            )
        doors = [next(one for one in linear_layers(record, model) if one.name == door.name) for record in records]
        like = first.gradients[body[0]]
        return Plan(
            Replay(model, first, tap=door.name),
            stacked(records, matched),
            top=torch.stack([signal_below(one) for one in doors])[:, None].to(like),
            anchor=torch.stack([layer_input(one).values for one in doors])[:, None].to(like),
            anchoring=self.anchoring,
        )
