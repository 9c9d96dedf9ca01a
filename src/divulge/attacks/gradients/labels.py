"""Which labels were in the batch: what the last layer tells under cross-entropy."""

import torch
from torch import Tensor, nn

from divulge.attacks.gradients.layers import head, twin
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.releases import GradientRecord


def label_by_bias(record: GradientRecord, model: nn.Module) -> int:
    """The label of a batch of one: the only class whose last bias gradient, `p_c - 1[c = y]`, is negative.

    Always right for an undefended gradient, whatever the features are.

    Raises:
        BadInputError: more than one record, or a last layer without a bias.
    """
    _one(record)
    return int(head(record, model).biased().argmin())


def labels_by_bias(records: list[GradientRecord], model: nn.Module) -> Tensor | None:
    """The labels of victims with batches of one, int64 `(victims, 1)`; None if the last layer has no bias."""
    if head(records[0], model).bias is None:
        return None
    return torch.tensor([[label_by_bias(record, model)] for record in records])


def label_by_weight(record: GradientRecord, model: nn.Module) -> int:
    """The label of a batch of one: the class whose last weight gradient, `(p_c - 1[c = y]) h`, has the smallest sum.

    Zhao, Mopuri and Bilen 2020 (arXiv 2001.02610). Right where the features `h` have a positive sum, as after a
    sigmoid or ReLU; for features of both signs prefer `label_by_bias`.

    Raises:
        BadInputError: more than one record, or no last linear layer.
    """
    _one(record)
    return int(head(record, model).weight.sum(dim=1).argmin())


def label_by_direction(record: GradientRecord, model: nn.Module) -> int:
    """The label of a batch of one, read off all of the last layer's gradients at once, for records under noise.

    Weight and bias gradient together are the outer product of `p - 1[y]` and the features: the leading left singular
    vector is the former up to its sign, and its largest entry, the sum of all the others, is the label's.

    Raises:
        BadInputError: more than one record, or no last linear layer.
    """
    _one(record)
    last = head(record, model)
    columns = last.weight if last.bias is None else torch.cat([last.weight, last.bias[:, None]], dim=1)
    return int(torch.linalg.svd(columns, full_matrices=False).U[:, 0].abs().argmax())


def label_counts(record: GradientRecord, model: nn.Module, public: Tensor) -> Tensor:
    """How often each class is in the batch, from the last bias gradient.

    Summed over a batch it is the posteriors less the counts; the posteriors are taken to be those of `public` records
    in the mean, in every step of an update. Every class with a negative entry is in the batch. The counts are rounded
    so as to fill it.

    Args:
        record: of one batch.
        model: as it was shared.
        public: records `(N, *shape)` like the private ones, or noise, which is as good while a model is untrained.

    Returns:
        int64 `(classes,)`, with the sum `batch_size`.

    Raises:
        BadInputError: a last layer without a bias.
    """
    bias = head(record, model).biased()
    mean = _answers(record, model, public)[0].softmax(dim=1).mean(dim=0)
    total = bias * (record.batch_size if record.reduction == "mean" else 1) / record.local_steps
    expected = record.batch_size * mean - total
    counts = expected.floor().clamp(min=0)
    if (bias < 0).sum() <= record.batch_size:
        counts = counts.maximum((bias < 0).double())
    while (missing := record.batch_size - int(counts.sum())) != 0:
        if missing > 0:
            counts[(expected - counts).argmax()] += 1
        else:
            counts[(counts - expected).masked_fill(counts <= (bias < 0), -torch.inf).argmax()] -= 1
    return counts.long()


def labels_given_inputs(record: GradientRecord, model: nn.Module, inputs: Tensor) -> Tensor:
    """The label of each record of a batch whose inputs are known.

    Their features are then known too, and with them the last layer's gradients are linear in each record's share,
    `p_c - 1[c = y]`: the label is where the share is negative.

    Args:
        record: of the batch.
        model: as it was shared.
        inputs: `(batch, *shape)`.

    Returns:
        int64 `(batch,)`, in the order of `inputs`.
    """
    last = head(record, model)
    features = _answers(record, model, inputs)[1]
    shared = last.weight
    if last.bias is not None:
        features = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
        shared = torch.cat([shared, last.bias[:, None]], dim=1)
    return torch.linalg.lstsq(features.T, shared.T).solution.argmin(dim=1)


def _answers(record: GradientRecord, model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and the last layer's inputs, float64 `(N, classes)` and `(N, F)`."""
    asked = twin(record, model)
    last = asked.get_submodule(head(record, model).name)
    seen: list[Tensor] = []
    last.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad(), seeded(0):
        logits = asked(inputs.to(next(asked.parameters())))
    return logits, seen[0]


def _one(record: GradientRecord) -> None:
    if record.batch_size != 1:
        raise BadInputError(f"expected the record of a batch of 1, got {record.batch_size}. Use label_counts.")
