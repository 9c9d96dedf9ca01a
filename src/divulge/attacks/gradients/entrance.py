"""How the record enters the first linear layer of a model, found by asking the model."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from divulge.attacks.gradients.layers import twin
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.releases import GradientRecord


@dataclass(frozen=True, eq=False)
class Entrance:
    """A linear layer whose every input is one entry of the record, scaled and shifted.

    Args:
        layer: its name.
        shape: of a record.
        places: which entry of the flat record each input of the layer holds, a permutation, int64 `(D,)`.
        scale: what the entry is multiplied by, float64 `(D,)`.
        shift: what is added then, float64 `(D,)`.
    """

    layer: str
    shape: tuple[int, ...]
    places: Tensor
    scale: Tensor
    shift: Tensor

    def records(self, inputs: Tensor) -> Tensor:
        """The records `(..., *shape)` behind float64 inputs of the layer `(..., D)`."""
        entries = torch.empty_like(inputs)
        entries[..., self.places] = (inputs - self.shift) / self.scale
        return entries.unflatten(-1, self.shape)

    def inputs(self, records: Tensor) -> Tensor:
        """The inputs of the layer `(..., D)` for records `(..., *shape)`."""
        return records.flatten(-len(self.shape))[..., self.places] * self.scale + self.shift


def entrance(record: GradientRecord, model: nn.Module) -> Entrance:
    """Find the linear layer that sees the record entry by entry, whatever flattens or standardizes it before.

    Made-up records are sent through a float64 copy of the model in the record's mode: none, all ones and a ramp tell
    shift, scale and order, and random ones, in a batch of their own, check them.

    Raises:
        BadInputError: the model has no such layer with a bias, as where a convolution comes first.
    """
    asked = twin(record, model)
    seen: dict[str, list[Tensor]] = {}
    for name, module in asked.named_modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.register_forward_pre_hook(lambda _, args, name=name: seen.setdefault(name, []).append(args[0]))
    size = math.prod(record.shape)
    ramp = torch.arange(size, dtype=torch.float64) / size
    probes = torch.stack([torch.zeros_like(ramp), torch.ones_like(ramp), ramp])
    check = torch.rand(2, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad(), seeded(0):
        for batch in (probes, check):
            asked(batch.view(-1, *record.shape))
    for name, given in seen.items():
        if len(given) != 2 or given[0].shape != (3, size):
            continue
        shift, ones, steps = given[0]
        scale = ones - shift
        if (scale == 0).any():
            continue
        places = ((steps - shift) / scale * size).round().long()
        if torch.equal(places.sort().values, torch.arange(size)) and torch.allclose(
            given[1], check[:, places] * scale + shift
        ):
            return Entrance(name, record.shape, places, scale, shift)
    raise BadInputError(
        "expected a model whose first layer with weights is linear, has a bias and sees the record entry by entry. "
        "Where a convolution or batch norm comes first, use an attack that searches."
    )
