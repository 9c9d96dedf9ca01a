import pytest
import torch
from torch import nn
from torch.nn import functional

from divulge.errors import BadInputError
from divulge.models import MODELS
from divulge.models.standardized import ScaledConv2d


@pytest.mark.parametrize(
    ("spec", "shape", "parameters"),
    [
        ({"name": "tanh-cnn", "body": "papernot"}, (1, 28, 28), 26_010),
        ({"name": "tanh-cnn", "body": "small"}, (1, 28, 28), 25_386),
        ({"name": "tanh-cnn", "body": "big"}, (3, 32, 32), 550_570),
        ({"name": "wide-resnet", "depth": 16}, (3, 32, 32), 2_753_818),
        ({"name": "wide-resnet", "depth": 40}, (3, 32, 32), 8_961_306),
    ],
)
def test_networks_have_the_size_of_the_published_ones(spec, shape, parameters):
    model = MODELS.make(spec).build(shape, 10, seed=0)
    assert sum(weight.numel() for weight in model.parameters()) == parameters


@pytest.mark.parametrize("body", ["papernot", "small", "big"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 37)])
def test_tanh_networks_take_images_of_any_sufficient_size(body, shape):
    model = MODELS["tanh-cnn"](body=body).build(shape, 4, seed=0)
    assert model(torch.rand(3, *shape)).shape == (3, 4)
    activations = {type(layer) for layer in model} - {nn.Conv2d, nn.Linear, nn.MaxPool2d, type(model[0])}
    assert nn.Tanh in activations
    assert nn.ReLU not in activations


def test_the_big_tanh_network_is_the_chain_of_layers_of_its_paper():
    model = MODELS["tanh-cnn"](mean=0.0, std=1.0).build((3, 16, 16), 5, seed=1)
    convolutions = [layer for layer in model if isinstance(layer, nn.Conv2d)]
    x = images = torch.rand(2, 3, 16, 16)
    for index, layer in enumerate(convolutions):
        x = torch.tanh(functional.conv2d(x, layer.weight, layer.bias, padding=1))
        x = functional.max_pool2d(x, 2) if index % 2 else x
    hidden, last = (layer for layer in model if isinstance(layer, nn.Linear))
    expected = last(torch.tanh(hidden(x.permute(0, 2, 3, 1).flatten(1))))
    assert torch.allclose(model(images), expected, atol=1e-6)


def test_a_residual_block_runs_relu_then_norm_then_convolution_on_both_paths():
    model = MODELS["wide-resnet"](depth=10, width=1).build((3, 8, 8), 4, seed=0)
    block, x = model[3], torch.randn(2, 16, 8, 8)

    def step(x, layer, *, stride, padding):
        normed = functional.group_norm(x.relu(), 16)
        return functional.conv2d(normed, layer.standardized(), layer.bias, stride, padding)

    beside = step(x, block.shortcut[2], stride=2, padding=0)
    through = step(step(x, block.residual[2], stride=2, padding=1), block.residual[5], stride=1, padding=1)
    assert torch.allclose(block(x), beside + through, atol=1e-5)


def test_groups_of_the_wide_network_halve_the_image_twice_and_project_once_each():
    model = MODELS["wide-resnet"]().build((3, 16, 16), 4, seed=0)
    blocks = [layer for layer in model if hasattr(layer, "shortcut")]
    assert [isinstance(block.shortcut, nn.Identity) for block in blocks] == [False, True] * 3
    sides = []
    x = model[1](model[0](torch.rand(1, 3, 16, 16)))
    for block in blocks:
        x = block(x)
        sides.append((x.shape[1], x.shape[3]))
    assert sides == [(64, 16), (64, 16), (128, 8), (128, 8), (256, 4), (256, 4)]
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
    assert all(isinstance(layer, ScaledConv2d) for layer in model.modules() if isinstance(layer, nn.Conv2d))


@pytest.mark.parametrize("name", ["tanh-cnn", "wide-resnet"])
def test_no_image_of_a_batch_changes_the_answer_about_another(name):
    model, images = MODELS[name]().build((1, 16, 16), 3, seed=0).train(), torch.rand(4, 1, 16, 16)
    others = torch.cat([images[:1], torch.rand(3, 1, 16, 16)])
    assert torch.allclose(model(images)[0], model(others)[0], atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ({"name": "tanh-cnn"}, (64,), "expected images"),
        ({"name": "tanh-cnn"}, (3, 7, 32), "'big' can pool"),
        ({"name": "tanh-cnn", "body": "papernot"}, (1, 8, 8), "Take another body"),
        ({"name": "tanh-cnn", "body": "huge"}, (1, 28, 28), "body"),
        ({"name": "wide-resnet"}, (64,), "expected images"),
        ({"name": "wide-resnet", "depth": 17}, (1, 8, 8), "depth of 10, 16, 22"),
        ({"name": "wide-resnet", "width": 0}, (1, 8, 8), "width of at least 1"),
        ({"name": "wide-resnet", "groups": 5}, (1, 8, 8), "groups that divide 16"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(spec, shape, message):
    with pytest.raises(BadInputError, match=message):
        MODELS.make(spec).build(shape, 2, seed=0)
