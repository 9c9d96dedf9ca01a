"""Defenses against inversion: what each does to the loss, the network and its training, and what it refuses."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from divulge.data import load, split
from divulge.defenses.freezing import Freezing
from divulge.defenses.label_smoothing import LabelSmoothing
from divulge.defenses.mid import Mid
from divulge.errors import BadInputError
from divulge.models.mlp import MLP, Softmax
from divulge.models.stochastic import Sample
from divulge.training import Recipe, accuracy

SHAPE = (1, 8, 8)
RECIPE = Recipe(epochs=8, batch_size=64, lr=1e-2, precision="float32")


@pytest.fixture(scope="module")
def parts():
    return split(load("digits"), {"train": 600, "held_out": 500}, seed=0, stratify=True).parts


@pytest.mark.parametrize(
    "defense", [LabelSmoothing(), LabelSmoothing(alpha=0.1), Mid(beta=1e-3), Freezing()], ids=lambda one: one.label
)
def test_defended_networks_still_classify(defense, parts):
    network = MLP(hidden=(64,)).build(SHAPE, 10, seed=0)
    model = defense.architecture(network)
    state = torch.get_rng_state()
    defense.train(model, parts["train"], RECIPE, seed=0)
    assert accuracy(model, parts["held_out"]) > 0.85
    assert torch.equal(torch.get_rng_state(), state)


def test_a_positive_share_is_what_pytorch_smooths_by():
    logits, targets = torch.randn(20, 7, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 7
    expected = functional.cross_entropy(logits, targets, label_smoothing=0.2)
    assert torch.allclose(LabelSmoothing(alpha=0.2).loss(logits, targets), expected)


def test_a_negative_share_pushes_every_other_class_down():
    logits = torch.tensor([[20.0, 0.0, -1.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(LabelSmoothing(alpha=-0.3).loss(logits, torch.tensor([0])), logits)
    assert (slope[0, 1:] > 0.09).all()
    (usual,) = torch.autograd.grad(functional.cross_entropy(logits, torch.tensor([0])), logits)
    assert (usual[0, 1:] < 1e-6).all()


def test_early_layers_stay_as_they_were(parts):
    network = MLP(hidden=(32, 16)).build(SHAPE, 10, seed=0)
    before = [value.clone() for value in network.parameters()]
    model = Freezing(layers=2).architecture(network)
    Freezing(layers=2).train(model, parts["train"], RECIPE, seed=0)
    same = [torch.equal(value, old) for value, old in zip(model.parameters(), before, strict=True)]
    assert same == [True] * 4 + [False] * 2
    assert all(value.requires_grad for value in network.parameters())


def test_a_bottleneck_costs_what_its_code_tells(parts):
    def told(beta: float) -> float:
        model = Mid(beta=beta, width=8).architecture(MLP(hidden=(64,)).build(SHAPE, 10, seed=0))
        Mid(beta=beta, width=8).train(model, parts["train"], RECIPE, seed=0)
        inputs: list[torch.Tensor] = []
        sample = next(layer for layer in model.modules() if isinstance(layer, Sample))
        hook = sample.register_forward_pre_hook(lambda layer, given: inputs.append(given[0]))
        answers = [model(parts["held_out"].inputs).detach().numpy() for _ in range(2)]
        hook.remove()
        assert np.array_equal(*answers)
        return float(sample.penalty(inputs[0]).detach().mean()) / beta

    assert told(0.3) < 0.5 * told(1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LabelSmoothing(alpha=0.0), "not 0"),
        (lambda: LabelSmoothing(alpha=1.0), "between -1 and 1"),
        (lambda: LabelSmoothing(alpha=float("nan")), "alpha"),
        (lambda: Mid(beta=-1.0), "beta"),
        (lambda: Mid(beta=float("nan")), "beta"),
        (lambda: Mid(width=100).architecture(nn.Linear(4, 2)), "width from 1 to the 4"),
        (lambda: Freezing(layers=0), "one layer"),
        (lambda: Freezing().architecture(Softmax().build(SHAPE, 10, seed=0)), "more layers"),
    ],
)
def test_what_cannot_be_done_is_refused(make, message):
    with pytest.raises(BadInputError, match=message):
        make()
