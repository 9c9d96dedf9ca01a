import pytest
import torch
from torch import nn

from divulge.errors import BadInputError
from divulge.models import MODELS, Normalize


@pytest.mark.parametrize("name", MODELS.classes)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 30)])
def test_every_family_maps_records_to_logits(name, shape):
    model = MODELS[name]().build(shape, 7, seed=0)
    assert model(torch.rand(4, *shape)).shape == (4, 7)


@pytest.mark.parametrize("name", MODELS.classes)
def test_the_seed_decides_the_weights_and_the_global_state_is_left_alone(name):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, same, other = (MODELS[name]().build((1, 8, 8), 3, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_the_cnn_of_the_study_has_the_layers_it_names():
    model = MODELS.make({"name": "cnn", "channels": [128, 256], "hidden": 256}).build((3, 32, 32), 10, seed=0)
    convolutions = [layer for layer in model if isinstance(layer, nn.Conv2d)]
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    assert [layer.out_channels for layer in convolutions] == [128, 256]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(256 * 8 * 8, 256), (256, 10)]
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in model) == 2


def test_normalize_agrees_with_the_formula():
    x = torch.rand(2, 3, 4, 4)
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    expected = torch.stack([(x[:, c] - mean[c]) / std[c] for c in range(3)], dim=1)
    assert torch.allclose(Normalize(mean, std)(x), expected)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "cnm"}, "nearest is 'cnn'"),
        ({"name": "cnn", "chanels": [1]}, "nearest is 'channels'"),
        ({"name": "mlp", "activation": "swish"}, "activation"),
        ({"name": "cnn", "hidden": "wide"}, "hidden"),
        ({}, "a 'name' is needed"),
    ],
)
def test_wrong_settings_are_named(spec, message):
    with pytest.raises(BadInputError, match=message):
        MODELS.make(spec)


@pytest.mark.parametrize("shape", [(5,), (1, 3, 3)])
def test_the_cnn_refuses_records_it_cannot_pool(shape):
    with pytest.raises(BadInputError, match="expected images"):
        MODELS["cnn"]().build(shape, 2, seed=0)
