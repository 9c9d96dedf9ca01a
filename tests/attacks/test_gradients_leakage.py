"""The leakage score: against the rank of the equations themselves."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from divulge.attacks.gradients.leakage import leakage
from divulge.errors import BadInputError
from divulge.models.cnn import CNN
from divulge.models.convnet64 import ConvNet64
from divulge.models.lenet import LeNet
from divulge.models.mlp import MLP


def rank(model, name, shape):
    """Rank of what is known about a convolution's input: its told outputs and its weight gradient, as linear maps."""
    place = int(name)
    model = copy.deepcopy(model).double()
    record = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = model[:place](record).detach()
    layer, above = model[place], model[place + 1 :]
    before = layer(given).detach().requires_grad_()
    signal = torch.autograd.grad(functional.cross_entropy(above(before), torch.tensor([0])), before)[0]
    told = torch.ones_like(before, dtype=torch.bool) if isinstance(model[place + 1], nn.Sigmoid) else before > 0

    def known(flat):
        inputs = flat.view_as(given)
        slopes = torch.nn.grad.conv2d_weight(inputs, layer.weight.shape, signal, layer.stride, layer.padding)
        outputs = functional.conv2d(inputs, layer.weight, None, layer.stride, layer.padding)
        return torch.cat([outputs[told], slopes.flatten() * (layer.weight.std() / signal.std())])

    return int(torch.linalg.matrix_rank(torch.autograd.functional.jacobian(known, given.flatten()), rtol=1e-9))


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 6, 6)])
@pytest.mark.parametrize("convolutions", [3, 4])
def test_sigmoid_lenets_are_exactly_invertible_and_their_equations_have_full_rank(shape, convolutions):
    model = LeNet(convolutions, spread=None).build(shape, 10, seed=0)
    leaks = leakage(model, shape)
    assert [one.layer for one in leaks] == ["0", "2", "4", "6", "9"] if convolutions == 4 else ["0", "2", "4", "7"]
    assert all(one.exact and one.score == 1 for one in leaks)
    for one in leaks[:-1]:
        assert rank(model, one.layer, shape) == one.unknowns


def test_the_counts_of_lenet_are_those_of_its_kernels():
    leaks = leakage(LeNet().build((3, 32, 32), 10, seed=0), (3, 32, 32))
    assert [one.unknowns for one in leaks] == [3072, 3072, 768, 768]
    assert leaks[0].equations == 3072 + 12 * 3 * 25
    assert leaks[2].equations == 768 + 768, "300 filters entries a channel, of which 64 pixels leave 64"


def test_a_narrow_relu_convolution_loses_most_of_its_input():
    shape = (4, 12, 12)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    first = leakage(model, shape)[0]
    assert not first.exact
    assert first.unknowns == 576
    assert 144 < first.equations < 288
    assert "ReLU tells only" in first.why
    assert rank(model, "0", shape) <= first.equations * 1.1, "the share of active outputs is that of noise"


def test_any_biased_linear_layer_is_exact_by_itself():
    leaks = leakage(MLP((8, 6)).build((1, 8, 8), 10, seed=0), (1, 8, 8))
    assert [(one.unknowns, one.exact) for one in leaks] == [(64, True), (8, True), (6, True)]
    assert "bias gradient" in leaks[0].why


def test_without_any_bias_nothing_starts():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(144, 10, bias=False))
    assert [one.score for one in leakage(model, (1, 8, 8))] == [0, 0]


@pytest.mark.parametrize(("model", "word"), [(ConvNet64(), "max-pooling"), (CNN((8,), 16), "max-pooling")])
def test_pooling_stops_the_peeling(model, word):
    built = model.build((3, 16, 16), 10, seed=0)
    leaks = leakage(built, (3, 16, 16))
    assert leaks[-1].exact
    assert not leaks[0].exact
    assert any(word in one.why for one in leaks)
    assert all(low.score <= high.score + 1e-12 for low, high in itertools.pairwise(leaks))


def test_a_module_without_a_rule_is_named():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(144, 10))
    first = leakage(model, (1, 8, 8))[0]
    assert not first.exact
    assert "no rule for GELU" in first.why


def test_the_model_is_left_as_it_was():
    model = CNN((4,), 8).build((3, 8, 8), 10, seed=0).train()
    state, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    leakage(model, (3, 8, 8))
    assert model.training
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("model", [nn.Flatten(), nn.Sequential(nn.Flatten(), *[nn.Linear(64, 64)] * 2)])
def test_models_that_have_no_order_of_layers(model):
    with pytest.raises(BadInputError, match="called once each"):
        leakage(model, (1, 8, 8))
