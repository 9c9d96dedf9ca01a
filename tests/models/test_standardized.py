import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from divulge.models.standardized import ScaledConv2d, StandardizedConv2d

CLASSES = [StandardizedConv2d, ScaledConv2d]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    "settings", [{}, {"stride": 2, "padding": 1}, {"padding": "same", "padding_mode": "reflect"}, {"groups": 2}]
)
def test_it_convolves_with_the_weights_of_its_formula(cls, settings):
    layer = cls(4, 6, 3, **settings)
    with torch.no_grad():
        layer.weight.copy_(3 + 2 * torch.randn(layer.weight.shape))
        layer.bias.normal_()
    weight = layer.weight.detach().flatten(1)
    centered = weight - weight.mean(1, keepdim=True)
    if cls is StandardizedConv2d:
        expected = centered / (centered.square().sum(1, keepdim=True) / (weight.shape[1] - 1)).sqrt().add(1e-5)
    else:
        with torch.no_grad():
            layer.gain.uniform_(0.5, 2)
        deviation = centered.square().mean(1, keepdim=True).mul(weight.shape[1]).sqrt()
        expected = layer.gain.flatten(1) * centered / deviation
    plain = nn.Conv2d(4, 6, 3, **settings)
    plain.load_state_dict({"weight": expected.view_as(layer.weight), "bias": layer.bias})
    x = torch.randn(2, 4, 8, 8)
    assert torch.allclose(layer(x), plain(x), atol=1e-5)


def test_scaling_keeps_the_variance_of_the_input():
    torch.manual_seed(0)
    layer = ScaledConv2d(64, 128, 3)
    assert layer(torch.randn(8, 64, 10, 10)).var().item() == pytest.approx(1, rel=0.05)


def test_weights_start_with_the_variance_that_scaling_gives_them():
    torch.manual_seed(0)
    layer = ScaledConv2d(64, 128, 3, groups=2)
    assert layer.weight.var().item() == pytest.approx(1 / (32 * 9), rel=0.05)
    assert torch.equal(layer.gain, torch.ones(128, 1, 1, 1))
    assert not layer.bias.any()


def test_weights_that_are_all_the_same_are_not_divided_by_zero():
    for cls in CLASSES:
        layer = cls(1, 2, 3)
        nn.init.ones_(layer.weight)
        loss = layer(torch.randn(1, 1, 5, 5)).square().sum()
        assert all(g.isfinite().all() for g in torch.autograd.grad(loss, layer.parameters(), materialize_grads=True))


@pytest.mark.parametrize("cls", CLASSES)
def test_each_example_has_a_gradient_of_its_own(cls):
    model = nn.Sequential(cls(1, 2, 3), nn.GroupNorm(1, 2), nn.Flatten(), nn.Linear(18, 3))
    weights = {key: value.detach() for key, value in model.named_parameters()}
    images, labels = torch.randn(4, 1, 5, 5), torch.tensor([0, 1, 2, 0])

    def loss(weights, image, label):
        return functional.cross_entropy(functional_call(model, weights, image[None]), label[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))(weights, images, labels)
    alone = grad(loss)(weights, images[2], labels[2])
    assert all(torch.allclose(each[key][2], alone[key], atol=1e-5) for key in weights)
