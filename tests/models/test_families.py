from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

from divulge.errors import BadInputError
from divulge.models import MODELS, Normalize
from divulge.models.layers import Standardize, measure

BACKBONE = pytest.mark.skipif(not find_spec("efficientnet_lite_pytorch"), reason="the backbone extra is not installed")
BASKETS = {"multvae"}  # maps baskets to a logit for each item, see test_multvae.py
FAMILIES = [
    pytest.param(name, marks=BACKBONE) if name == "public-backbone" else name
    for name in MODELS.classes
    if name not in BASKETS
]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 30)])
def test_every_family_maps_records_to_logits(name, shape):
    model = MODELS[name]().build(shape, 7, seed=0)
    assert model(torch.rand(4, *shape)).shape == (4, 7)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_seed_decides_the_weights_and_the_global_state_is_left_alone(name):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, same, other = (MODELS[name]().build((1, 9, 9), 3, seed=seed).state_dict() for seed in (1, 1, 2))
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


def table(n=200, seed=0):
    """Columns on scales of their own, one of them the same in every record."""
    records = torch.rand(n, 4, generator=torch.Generator().manual_seed(seed))
    return records * torch.tensor([1.0, 1e5, 1e-3, 0.0]) + torch.tensor([0.0, 2e5, 7e-3, 3.0])


def test_standardize_agrees_with_scikit_learn():
    from sklearn.preprocessing import StandardScaler

    records, others = table(), table(50, seed=1)
    layer = Standardize((4,))
    assert torch.equal(layer(others), others), "the identity until it has measured"
    layer.measure(records)
    expected = StandardScaler().fit(records.double().numpy()).transform(others.double().numpy())
    assert np.allclose(layer(others), expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(layer(records)[:, 3], torch.zeros(200)), "no division by the spread of a constant column"


def test_a_layer_measures_once_until_it_is_reset_and_travels_in_a_state_dict():
    model = MODELS.make({"name": "mlp", "standardize": True}).build((4,), 2, seed=0)
    measure(model, table())
    first = model[0].mean.clone()
    measure(model, table(seed=1))
    assert torch.equal(model[0].mean, first)
    again = MODELS.make({"name": "mlp", "standardize": True}).build((4,), 2, seed=1)
    again.load_state_dict(model.state_dict())
    measure(again, table(seed=1))
    assert torch.equal(again[0].mean, first)
    model[0].reset_parameters()
    measure(model, table(seed=1))
    assert torch.allclose(model[0].mean, table(seed=1).mean(dim=0))


@pytest.mark.parametrize("name", ["mlp", "softmax"])
@pytest.mark.parametrize("shape", [(5,), (1, 3, 4)])
def test_the_standardizing_layer_has_the_shape_of_a_record(name, shape):
    model = MODELS.make({"name": name, "standardize": True}).build(shape, 3, seed=0)
    measure(model, torch.rand(20, *shape))
    assert model[0].mean.shape == shape
    assert model(torch.rand(4, *shape)).shape == (4, 3)


def test_a_standardizing_layer_that_is_not_the_first_is_refused():
    model = nn.Sequential(nn.Linear(4, 6), Standardize((6,)))
    with pytest.raises(BadInputError, match=r"shape \(6,\), got \(4,\)"):
        measure(model, table())


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
