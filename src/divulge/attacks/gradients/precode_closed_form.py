"""The closed forms that a variational bottleneck leaves: the record, where the first layer tells it, and the noise."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from divulge.attacks.gradients.active_neurons import ActiveNeurons
from divulge.attacks.gradients.adapt import take_back
from divulge.attacks.gradients.base import GradientAttack, Reconstructions
from divulge.attacks.gradients.entrance import entrance
from divulge.attacks.gradients.first_layer import FirstLayer
from divulge.attacks.gradients.layers import twin
from divulge.attacks.gradients.rounds import Round
from divulge.attacks.gradients.variational import bottleneck, open_batch, open_one
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.releases import GradientRecord


@dataclass(frozen=True)
class PrecodeClosedForm(GradientAttack):
    """Reads the record off the first linear layer, whatever the bottleneck drew, and then what it drew.

    For batches of one the record is a ratio of two gradients, and so are the bottleneck's input and its code; between
    them stands the noise. Under a convolution the record is not told, and the noise is all the same. Of larger batches
    the records that have a neuron to themselves are found; once all of a batch are, so is the noise.

    Args:
        tolerance: see the attacks `first-layer` and `active-neurons`.
    """

    name: ClassVar[str] = "precode-closed-form"
    source: ClassVar[str] = "Balunovic et al. 2022, arXiv 2111.04706, for the record"

    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise BadInputError(f"{self.name}: expected a tolerance in (0, 1), got {self.tolerance}.")

    def invert(
        self, records: list[GradientRecord], model: nn.Module, *, knowledge: Knowledge, generator: torch.Generator
    ) -> Reconstructions:
        """Rebuild each record and its noise; `matching` is the worst share of a layer's gradient left unexplained."""
        first = records[0]
        records, facts = _undisguised(records, model, knowledge)
        name = bottleneck(first, model).noise
        if first.batch_size > 1:
            found = ActiveNeurons(max(self.tolerance, 1e-4)).invert(
                records, model, knowledge=knowledge, generator=generator
            )
            whole = torch.ones(len(records)) if found.found is None else found.found.all(dim=1)
            opened = [
                open_batch(record, model, _entering(record, model, inputs)) if done else None
                for record, inputs, done in zip(records, found.inputs, whole, strict=True)
            ]
        else:
            found = self._one(records, model, knowledge, generator)
            opened = [open_one(record, model) for record in records]
        left = torch.tensor([1.0 if one is None else one.residual for one in opened])
        unknown = torch.full((first.batch_size,), -1)
        targets = torch.stack([unknown if one is None else one.targets for one in opened])
        width = bottleneck(first, model).decoder.module.in_features
        missing = torch.full((first.batch_size, width), torch.nan, dtype=torch.float64)
        noise = torch.stack([missing if one is None else one.noise for one in opened])
        return replace(
            found,
            targets=targets,
            matching=found.matching.maximum(left),
            noise={name: noise.float()},
            facts={**found.facts, **facts},
        )

    def _one(
        self, records: list[GradientRecord], model: nn.Module, knowledge: Knowledge, generator: torch.Generator
    ) -> Reconstructions:
        try:
            entrance(records[0], model)
        except BadInputError:
            return Reconstructions(
                inputs=torch.zeros(len(records), 1, *records[0].shape),
                targets=None,
                matching=torch.zeros(len(records)),
                found=torch.zeros(len(records), 1, dtype=torch.bool),
            )
        return FirstLayer(self.tolerance).invert(records, model, knowledge=knowledge, generator=generator)


def _undisguised(
    records: list[GradientRecord], model: nn.Module, knowledge: Knowledge
) -> tuple[list[GradientRecord], dict[str, object]]:
    """The records without noise that an oracle knows to have been added; and facts on what was known."""
    if knowledge.defense is None:
        return records, {}
    one, known, words = take_back(Round(records, model, knowledge.randomness), knowledge.defense.tampering(model))
    unused = {"not used": f"{known.noise} noise of {known.std:g}"} if known.std else {}
    return list(one.records), {"adapted": words, **unused}


def _entering(record: GradientRecord, model: nn.Module, inputs: Tensor) -> Tensor:
    """What enters the encoder of the bottleneck for records `(B, *shape)`, float64 `(B, d)`."""
    asked, seen = twin(record, model), list[Tensor]()
    encoder = asked.get_submodule(bottleneck(record, model).encoder.name)
    encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad(), seeded(0):
        asked(inputs.double().cpu())
    return seen[0]
