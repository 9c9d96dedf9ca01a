"""Bias-anchored inversion: what entered a biased linear layer is known, so only the body below it is searched."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

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

    For batches of one. The gradient of `<signal, body(x)>` is compared with the body's shared gradient, and `body(x)`
    with the layer's input, as far as a defense left it. No label enters, and nothing that happens above the layer
    matters, random or not. The total variation weighs a hundredth of what it does in inverting gradients: so little is
    left to matching that more of it would decide where the search ends.

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

    def read(self, rounds: Sequence[Round], knowledge: Knowledge) -> None:
        """No labels: none is needed."""

    def plan(self, one: Round, labels: Tensor | None) -> Plan:
        """What is matched of a round: the gradients of the body, and what it gave to the layer above it."""
        first = one.records[0]
        if first.batch_size != 1 or first.local_steps != 1:
            raise BadInputError(
                f"{self.name}: expected one step on a batch of 1, got {first.local_steps} on {first.batch_size}. Use "
                "inverting-gradients."
            )
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
        doors = [layer(record, one.model, door) for record in one.records]
        anchor, weights = self._anchor(one, doors)
        return Plan(
            Replay(one.model, first, tap=door),
            shared,
            top=torch.stack([signal_below(one) for one in doors])[:, None].to(like),
            kept=self.kept(one, matched),
            steps=self.sizes(one, matched),
            anchor=anchor[:, None].to(like),
            weights=weights[:, None].to(like),
        )

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
