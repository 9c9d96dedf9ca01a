"""The networks that gradient inversion is measured on: against the papers' sizes."""

import pytest
import torch
from torch import nn

from divulge.errors import BadInputError
from divulge.models import MODELS, Normalize
from divulge.models.convnet64 import ConvNet64
from divulge.models.lenet import LeNet


def size(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("shape", "width"), [((3, 32, 32), 768), ((1, 28, 28), 588), ((1, 64, 64), 3072)], ids=["color", "digit", "face"]
)
def test_lenet_has_the_sizes_of_the_papers(shape, width):
    assert LeNet().build(shape, 10, seed=0)[-1].in_features == width


def test_lenet_has_the_parameters_of_the_papers_within_its_spread():
    model = LeNet().build((3, 32, 32), 10, seed=0)
    assert size(model) == 15_826
    values = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert 0.49 < values.abs().max() <= 0.5
    assert values.var() == pytest.approx(1 / 12, rel=0.05)
    own = LeNet(spread=None).build((3, 32, 32), 10, seed=0)
    assert own[-1].weight.abs().max() <= 768**-0.5


def test_lenet_of_four_has_the_strides_of_soterias_notebook():
    model = LeNet(convolutions=4).build((3, 32, 32), 10, seed=0)
    assert [layer.stride[0] for layer in model if isinstance(layer, nn.Conv2d)] == [2, 2, 1, 1]
    assert list(dict(model.named_parameters()))[8] == "9.weight", "the tensor that the notebook masks"


def test_convnet64_has_eight_convolutions_and_the_papers_head():
    model = ConvNet64().build((3, 32, 32), 10, seed=0)
    convolutions = [layer for layer in model if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [64, 128, 128, 256, 256, 256, 256, 256]
    assert model[-1].in_features == 36 * 64
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in model) == 8


def test_resnet20_has_the_papers_layers_and_first_weights():
    model = MODELS.make("resnet20").build((3, 32, 32), 10, seed=0)
    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.kernel_size for layer in convolutions].count((3, 3)) == 19, "with the linear layer, 20"
    assert [layer.out_channels for layer in convolutions if layer.kernel_size == (1, 1)] == [128, 256]
    assert [tuple(model[block](torch.zeros(1, 64, 32, 32)).shape[1:]) for block in (3, 6)] == [
        (64, 32, 32),
        (128, 16, 16),
    ]
    assert model[-1].in_features == 256
    assert model.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    for layer in convolutions[1:]:
        fan_out = layer.out_channels * layer.kernel_size[0] ** 2
        assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    plain = MODELS.make({"name": "resnet20", "width": 1}).build((3, 32, 32), 10, seed=0)
    shortcuts = sum(size(layer) for name, layer in plain.named_modules() if name.endswith("shortcut"))
    assert size(plain) - shortcuts == 269_722, "as He et al. count 0.27 million, without projections"


@pytest.mark.parametrize("name", ["lenet", "convnet64", "resnet20"])
def test_standardization_is_the_first_layer_where_asked(name):
    spec = {"name": name, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.3]}
    model = MODELS.make(spec).build((3, 16, 16), 10, seed=0)
    plain = MODELS.make(name).build((3, 16, 16), 10, seed=0)
    assert isinstance(model[0], Normalize)
    x = torch.rand(2, 3, 16, 16)
    assert torch.allclose(model.eval()(x), plain.eval()(model[0](x)))


@pytest.mark.parametrize(
    ("spec", "shape", "words"),
    [
        ("lenet", (5,), "expected images"),
        ("convnet64", (5,), "expected images"),
        ("convnet64", (3, 8, 32), "at least 9 pixels"),
        ("resnet20", (5,), "expected images"),
        ({"name": "resnet20", "width": 0}, (3, 8, 8), "width of 1 or more"),
        ({"name": "lenet", "mean": [0.5], "std": [0.5]}, (3, 8, 8), "each of 3 channels, or none, got 1 and 1"),
        ({"name": "convnet64", "mean": [0.5]}, (1, 16, 16), "got 1 and 0"),
        ({"name": "lenet", "convolutions": 5}, (3, 8, 8), "convolutions"),
        ({"name": "lenet", "spread": 0}, (3, 8, 8), "positive spread"),
    ],
)
def test_what_the_networks_refuse(spec, shape, words):
    with pytest.raises(BadInputError, match=words):
        MODELS.make(spec).build(shape, 10, seed=0)
