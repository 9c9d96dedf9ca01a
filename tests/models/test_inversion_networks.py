"""The networks of the studies of inversion, and the greedy training of a stack of autoencoders."""

import pytest
import torch
from torch import nn

from divulge.data import Dataset, load, split
from divulge.errors import BadInputError
from divulge.models.denoising import Autoencoder, DenoisingStack, StackedDenoising
from divulge.models.one_convolution import OneConvolution
from divulge.training import Recipe, accuracy, fit
from divulge.training.pretrain import pretrain

SHAPE = (1, 8, 8)
STACK = StackedDenoising(hidden=(60, 30), pretraining=20, lr=1e-2)


@pytest.fixture(scope="module")
def parts():
    return split(load("digits"), {"train": 600, "held_out": 500}, seed=0, stratify=True).parts


def error(layer: Autoencoder, records: torch.Tensor) -> float:
    with torch.no_grad():
        return float((layer.decode(layer.encode(records)) - records.flatten(1)).square().mean())


@pytest.mark.parametrize(
    ("architecture", "count"),
    [
        (OneConvolution(), 26 + 10 * 64 + 10),
        (OneConvolution(channels=3), 3 * 26 + 10 * 3 * 64 + 10),
        (StackedDenoising(hidden=(20, 5)), 20 * 65 + 5 * 21 + 10 * 6),
    ],
    ids=lambda one: str(one),
)
def test_networks_are_as_large_as_they_say(architecture, count):
    model = architecture.build(SHAPE, 10, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert model(torch.rand(3, *SHAPE)).shape == (3, 10)


def test_autoencoders_learn_to_give_records_back_before_the_network_is_trained(parts):
    model = STACK.build(SHAPE, 10, seed=0)
    first, second = model[0].layers
    records = parts["held_out"].inputs
    before = error(first, records)
    state = torch.get_rng_state()
    pretrain(model, parts["train"].inputs, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    variance = float(records.flatten(1).var(dim=0).mean())
    assert error(first, records) < 0.4 * min(before, variance)
    code = first(records).detach()
    assert error(second, code) < 0.5 * float(code.var(dim=0).mean())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_stack_is_pretrained_once_and_takes_its_decoder_along(parts):
    model = STACK.build(SHAPE, 10, seed=0)
    recipe = Recipe(epochs=5, batch_size=64, lr=1e-2, precision="float32")
    fit(model, parts["train"], recipe, seed=0)
    assert accuracy(model, parts["held_out"]) > 0.85
    again = STACK.build(SHAPE, 10, seed=1)
    again.load_state_dict(model.state_dict())
    visible = again[0].layers[0].visible.clone()
    fit(again, parts["train"], recipe, seed=1)
    assert torch.equal(again[0].layers[0].visible, visible)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneConvolution(kernel=4), "odd kernel"),
        (lambda: OneConvolution(channels=0), "one channel"),
        (lambda: OneConvolution().build((5,), 2, seed=0), "expected images"),
        (lambda: StackedDenoising(hidden=()), "hidden layers"),
        (lambda: StackedDenoising(corruption=1.0), "corruption"),
        (lambda: StackedDenoising(lr=float("nan")), "positive lr"),
        (lambda: pretrain(STACK.build(SHAPE, 2, seed=0), torch.rand(4, *SHAPE) * 2, seed=0), "in \\[0, 1\\]"),
        (
            lambda: pretrain(
                nn.Sequential(nn.Linear(5, 4), DenoisingStack(4, (2,), corruption=0.0, epochs=1, lr=0.1)),
                torch.rand(4, 5),
                seed=0,
            ),
            "entrance",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(make, message):
    with pytest.raises(BadInputError, match=message):
        make()


def test_records_outside_of_pixels_need_no_stack():
    records = Dataset(torch.randn(20, 4), torch.arange(20) % 2)
    model = nn.Linear(4, 2)
    fit(model, records, Recipe(epochs=1), seed=0)
