import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from divulge.errors import BadInputError
from divulge.models import MODELS
from divulge.models.convert import to_private
from divulge.models.standardized import ScaledConv2d


class Branching(nn.Module):
    """Layers that are nested, shared and called from code."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(6)
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), self.norm, nn.ReLU())
        self.heads = nn.ModuleDict({"only": nn.Sequential(nn.Flatten(), nn.Linear(24, 4), nn.BatchNorm1d(4))})

    def forward(self, x):
        return self.heads["only"](self.norm(self.body(x)))


def mixes(model, x):
    """Whether what the model says of the first example depends on the others."""
    other = torch.cat([x[:1], torch.randn_like(x[1:])])
    return not torch.allclose(model(x)[0], model(other)[0], atol=1e-5)


def norms(model):
    return [layer for layer in model.modules() if isinstance(layer, nn.GroupNorm)]


@pytest.mark.parametrize("standardize", [False, True])
def test_a_converted_network_no_longer_mixes_examples(standardize):
    torch.manual_seed(0)
    x = torch.randn(4, 3, 4, 4)
    networks = [Branching(), MODELS["cnn"](channels=(8,), hidden=6).build((3, 4, 4), 4, seed=0)]
    networks.append(nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True), nn.Flatten()).eval())
    for model in networks:
        if model.training:
            assert mixes(model, x), "the layers were there to be found"
        assert not mixes(to_private(model, standardize=standardize).train(), x)


def test_the_given_network_and_the_random_state_are_left_as_they_were():
    model = Branching().eval()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    private = to_private(model, standardize=True)
    with torch.no_grad():
        for weight in private.parameters():
            weight.add_(1)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert isinstance(model.norm, nn.BatchNorm2d)
    assert torch.equal(state, torch.get_rng_state())
    assert not any(layer.training for layer in private.modules())


@pytest.mark.parametrize(
    ("layer", "groups"),
    [
        (nn.BatchNorm2d(64), 32),
        (nn.BatchNorm2d(48), 24),
        (nn.BatchNorm2d(37), 1),
        (nn.BatchNorm3d(16), 16),
        (nn.SyncBatchNorm(12), 12),
        (nn.BatchNorm1d(64), 1),
        (nn.BatchNorm2d(8, affine=False, eps=1e-3), 8),
    ],
)
def test_batch_norm_becomes_group_norm_with_its_scale_and_shift(layer, groups):
    if layer.affine:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias).requires_grad_(False)
    norm = to_private(layer)
    assert isinstance(norm, nn.GroupNorm)
    assert (norm.num_groups, norm.num_channels, norm.eps) == (groups, layer.num_features, layer.eps)
    if layer.affine:
        assert torch.equal(norm.weight, layer.weight)
        assert torch.equal(norm.bias, layer.bias)
        assert (norm.weight.requires_grad, norm.bias.requires_grad) == (True, False)
    assert set(norm.state_dict()) == ({"weight", "bias"} if layer.affine else set())


def test_a_layer_used_twice_is_still_one_layer():
    private = to_private(Branching())
    assert private.norm is private.body[1]
    assert len(norms(private)) == 2


@pytest.mark.parametrize(
    "settings", [{}, {"bias": False, "stride": 2}, {"groups": 2, "padding": "same", "padding_mode": "circular"}]
)
def test_a_standardized_convolution_keeps_its_weights_but_for_their_mean(settings):
    plain = nn.Conv2d(4, 6, 3, **settings).double()
    private = to_private(plain, standardize=True)
    assert type(private) is ScaledConv2d
    assert torch.equal(private.weight, plain.weight)
    assert torch.allclose(private.standardized(), plain.weight - plain.weight.mean((1, 2, 3), keepdim=True))
    with torch.no_grad():
        plain.weight -= plain.weight.mean((1, 2, 3), keepdim=True)
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    assert torch.allclose(private(x), plain(x))


def test_other_layers_stay_as_they_are():
    model = nn.Sequential(
        weight_norm(nn.Conv2d(1, 2, 3)), nn.ConvTranspose2d(2, 2, 3), ScaledConv2d(2, 2, 3), nn.LayerNorm(4)
    )
    private = to_private(model, standardize=True)
    assert [type(layer) for layer in private] == [type(layer) for layer in model]
    x = torch.randn(2, 1, 6, 6)
    assert torch.equal(private(x), model(x))


class TwoNorms(nn.BatchNorm2d):
    """A batch norm that does more than one."""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Linear(2, 2), TwoNorms(4)), "got TwoNorms at '1'"),
        (nn.Sequential(nn.LazyBatchNorm2d()), "after its first batch"),
        (nn.Sequential(nn.LazyConv2d(3, 3)), "got LazyConv2d at '0'"),
    ],
)
def test_layers_that_cannot_be_converted_are_named(model, message):
    with pytest.raises(BadInputError, match=message):
        to_private(model)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_network_is_refused():
    with pytest.raises(BadInputError, match="before it is compiled"):
        to_private(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)))
