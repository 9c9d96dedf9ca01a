"""Peeling: exact where the equations suffice, honest where they do not, and refused where they cannot be written."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from divulge.attacks import ATTACKS
from divulge.attacks.gradients.peel import _solve
from divulge.errors import BadInputError
from divulge.metrics.images import psnr
from divulge.models.lenet import LeNet
from divulge.models.mlp import MLP
from divulge.releases import share


def victims(n, shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, *shape, generator=generator), torch.randint(10, (n,), generator=generator)


def peel(records, model):
    return ATTACKS["peel"]().run(records, model, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("spread", [0.5, None])
@pytest.mark.parametrize("convolutions", [3, 4])
def test_sigmoid_lenets_give_their_records_exactly(convolutions, spread):
    model = LeNet(convolutions, spread=spread, mean=(0.5,), std=(0.25,)).build((1, 12, 12), 10, seed=0)
    inputs, targets = victims(2, (1, 12, 12))
    state = copy.deepcopy(model.state_dict())
    found = peel([share(model, inputs[i : i + 1], targets[i : i + 1]) for i in range(2)], model)
    assert psnr(found.inputs[:, 0], inputs).min() > 80
    assert torch.equal(found.targets[:, 0], targets)
    assert found.exact
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("kept", [0.5, 1.0])
def test_what_lies_above_the_linear_layer_does_not_matter(kept):
    torch.manual_seed(0)
    body = list(LeNet(spread=None).build((1, 10, 10), 10, seed=0))[:-1]
    above = [nn.Linear(12 * 9, 32), nn.ReLU(), nn.Dropout(1 - kept), nn.Linear(32, 10)]
    model = nn.Sequential(*body, *above)
    inputs, targets = victims(1, (1, 10, 10))
    found = peel(share(model, inputs, targets, training=True, seed=5), model)
    assert psnr(found.inputs[0], inputs).min() > 80


@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_is_solved_to_the_least_squares_answer(bias):
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=bias).double()
    true = torch.rand(2, 6, 6, generator=generator, dtype=torch.float64)
    signal = torch.rand(3, 3, 3, generator=generator, dtype=torch.float64)
    output = layer(true[None])[0].detach()
    slopes = torch.nn.grad.conv2d_weight(true[None], layer.weight.shape, signal[None], 2, 1)
    value, left = _solve(layer, (2, 6, 6), output, signal, slopes)
    assert left < 1e-10
    assert torch.allclose(layer(value[None])[0], output, atol=1e-9)
    assert torch.allclose(torch.nn.grad.conv2d_weight(value[None], layer.weight.shape, signal[None], 2, 1), slopes)


def test_noise_and_withheld_tensors_are_seen_in_the_matching():
    model = LeNet().build((1, 12, 12), 10, seed=0)
    inputs, targets = victims(1, (1, 12, 12))
    record = share(model, inputs, targets)
    noise = {name: g + 0.1 * g.std() * torch.randn(g.shape) for name, g in record.gradients.items()}
    assert not peel(replace(record, gradients=noise), model).exact
    withheld = {**record.gradients, "4.weight": torch.zeros_like(record.gradients["4.weight"])}
    found = peel(replace(record, gradients=withheld), model)
    assert torch.isfinite(found.inputs).all()


def test_the_record_of_another_image_gives_the_other_image():
    model = LeNet().build((1, 12, 12), 10, seed=0)
    inputs, targets = victims(2, (1, 12, 12))
    found = peel(share(model, inputs[:1], targets[:1]), model)
    assert psnr(found.inputs[0], inputs[1:]).max() < 12


def test_without_a_signal_nothing_is_found():
    model = LeNet().build((1, 12, 12), 10, seed=0)
    record = share(model, *victims(1, (1, 12, 12)))
    silent = {name: g if name == "0.weight" else torch.zeros_like(g) for name, g in record.gradients.items()}
    found = peel(replace(record, gradients=silent), model)
    assert not found.found.any()
    assert not found.exact


class Wrapped(nn.Module):
    """A network that does not show its order."""

    def __init__(self):
        super().__init__()
        self.inner = MLP((8,)).build((1, 12, 12), 10, seed=0)

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize(
    ("model", "batch", "words"),
    [
        (LeNet().build((1, 12, 12), 10, seed=0), 2, "batches of 1, got 2"),
        (LeNet(activation="relu").build((1, 12, 12), 10, seed=0), 1, "got ReLU. Use a search"),
        (nn.Sequential(nn.Conv2d(1, 2, 3, padding="same"), nn.Flatten(), nn.Linear(288, 10)), 1, "got Conv2d"),
        (nn.Sequential(nn.Flatten(), nn.Linear(144, 10, bias=False)), 1, "got Linear"),
        (Wrapped(), 1, "an nn.Sequential with a biased linear layer"),
    ],
)
def test_networks_that_cannot_be_peeled(model, batch, words):
    with pytest.raises(BadInputError, match=words):
        peel(share(model, *victims(batch, (1, 12, 12))), model)


def test_a_wrong_tolerance():
    with pytest.raises(BadInputError, match="positive tolerance"):
        ATTACKS.make({"name": "peel", "tolerance": 0.0})
