"""Soteria's scores against a loop of backward passes, on the network and the kind of picture it was published on."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.measure import Row, compare
from benchmarks.records import images
from divulge.defenses.soteria import Soteria
from divulge.models.lenet import LeNet

TARGET = 10


def soteria_scores() -> list[Row]:
    """The scores of a picture on LeNet, by two loops: with the gradients of the weights, as published, and lean."""
    data, which = images("cifar10", 1, (3, 32, 32))
    model = LeNet(convolutions=4).build((3, 32, 32), 10, seed=0)
    ours = Soteria().scores(model, data.inputs)
    rows = []
    for weights in (True, False):
        theirs = looped(model, data.inputs, weights=weights)
        apart = float(((ours - theirs) / theirs).abs().max())
        row = compare(
            f"Soteria's scores against backward passes in a loop, {'as published' if weights else 'lean'}",
            lambda: Soteria().scores(model, data.inputs),
            lambda weights=weights: looped(model, data.inputs, weights=weights),
            repeats=7,
            target=TARGET,
            note=f"768 features, {which}; scores differ by {apart:.1e} of themselves at most",
        )
        rows.append(row if apart < 1e-4 else replace(row, met=False))
    return rows


def looped(model: nn.Module, inputs: Tensor, *, weights: bool) -> Tensor:
    """The scores `(1, d)` by one backward pass a feature: through the network's weights too, or to the record alone."""
    record = inputs.clone().requires_grad_()
    features = model[:-1](record)  # type: ignore[index]
    lengths = []
    for feature in features[0]:
        if weights:
            model.zero_grad()
            record.grad = None
            feature.backward(retain_graph=True)
            assert record.grad is not None
            lengths.append(record.grad.norm())
        else:
            lengths.append(torch.autograd.grad(feature, record, retain_graph=True)[0].norm())
    model.zero_grad()
    return (torch.stack(lengths) / features.detach().abs())[:1]
