"""Whether a record can be of as many records as it states."""

import torch
from torch import Tensor, nn

from divulge.attacks.gradients.layers import Linear, linear_layers, twin
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.releases import GradientRecord

CLEAN = 1e-5
"""Share of its length up to which the sum over the classes of an untouched gradient is rounding."""
PRESENT = 1e-3
"""Share of the largest singular value from which on another one is none of rounding."""


def require_stated_batch(record: GradientRecord, model: nn.Module) -> None:
    """See that no more records stand behind the last linear layer's gradients than the record states.

    Each record adds a product of what it is to the layer and the error of its answer, so the rank of the gradient is
    the number of records at most. The errors of a cross-entropy sum to zero over the classes, and so do the gradients
    that come of them, unless somebody changed them: then nothing can be told, and nothing is said. Nor is it of an
    update over local steps; and a batch stated too large cannot be told from copies of a record.

    Raises:
        BadInputError: more records, or more labels, than it states.
    """
    layers = linear_layers(record, model)
    if not layers or layers[-1].bias is None or layers[-1].module.out_features != record.classes:
        return
    last, seen = layers[-1], record.batch_size
    both = torch.cat([last.weight, last.biased()[:, None]], dim=1)
    if record.kind == "update" or seen >= min(both.shape) or both.sum(dim=0).norm() > CLEAN * both.norm():
        return
    sizes = torch.linalg.svdvals(both)
    rank = int((sizes > PRESENT * sizes[0]).sum())
    if rank > seen and _one_row_a_record(record, model, last):
        labels = int((last.biased() < 0).sum())
        raise BadInputError(
            f"gradient record: {rank} records or more stand behind the gradients of {last.name}, of {labels} labels or "
            f"more, which contradicts the stated batch of {seen}. State the batch size that the client had."
        )


def _one_row_a_record(record: GradientRecord, model: nn.Module, layer: Linear) -> bool:
    """Whether a linear layer sees each record as one row, once."""
    asked = twin(record, model)
    rows: list[torch.Size] = []

    def see(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        rows.append(given[0].shape)

    asked.get_submodule(layer.name).register_forward_pre_hook(see)
    with torch.no_grad(), seeded(0):
        asked(torch.zeros((record.batch_size, *record.shape), dtype=torch.float64))
    return rows == [torch.Size((record.batch_size, layer.module.in_features))]
