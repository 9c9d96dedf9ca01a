import pytest
import torch
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from divulge.errors import BadInputError
from divulge.models import MODELS, Head
from divulge.models.scattering import Scattering
from divulge.models.scattering_heads import SYNTHETIC
from divulge.models.synthetic import dead_leaves

FAMILIES = ["scattering-linear", "scattering-cnn"]
CIFAR = {"channels": (64, 64), "hidden": (), "reduce": "pool"}


@pytest.mark.parametrize(
    ("name", "shape", "settings", "parameters"),
    [
        ("scattering-linear", (1, 28, 28), {}, 81 * 49 * 10 + 10),
        ("scattering-linear", (3, 32, 32), {}, 243 * 64 * 10 + 10),
        ("scattering-linear", (1, 28, 28), {"pool": 2}, 81 * 9 * 10 + 10),
        ("scattering-cnn", (1, 28, 28), {}, 33_066),
        ("scattering-cnn", (3, 32, 32), CIFAR, 187_210),
    ],
)
def test_heads_have_the_size_of_the_published_ones(name, shape, settings, parameters):
    model = MODELS[name](**settings).build(shape, 10, seed=0)
    assert sum(weight.numel() for weight in model.parameters()) == parameters
    assert model(torch.rand(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_head_on_features_is_the_whole_network(name):
    family = MODELS[name](norm_groups=9)
    whole, head = family.build((1, 12, 9), 4, seed=3), Head(family, (1, 12, 9)).build((81 * 6,), 4, seed=3)
    images, features = torch.rand(5, 1, 12, 9), family.features((1, 12, 9))
    assert features(images).shape == (5, 81 * 6)
    assert torch.equal(head(features(images)), whole(images))
    assert not list(features.parameters())
    assert {key.removeprefix("1.") for key in whole.state_dict()} == set(head.state_dict())


def test_features_are_the_transform_where_nothing_else_is_asked_for():
    images = torch.rand(3, 2, 8, 8)
    features = MODELS["scattering-linear"](norm_groups=None).features((2, 8, 8))
    assert torch.equal(features(images), Scattering((8, 8))(images).flatten(1))


@pytest.mark.parametrize("groups", [1, 27, 81])
def test_each_image_is_standardized_by_itself(groups):
    features = MODELS["scattering-linear"](norm_groups=groups).features((1, 16, 16))
    images = torch.rand(4, 1, 16, 16)
    grouped = features(images).view(4, groups, -1)
    assert torch.allclose(grouped.mean(2), torch.zeros(4, groups), atol=1e-5)
    assert (grouped.var(2, correction=0) <= 1 + 1e-5).all()
    assert torch.allclose(features(images[:1]), features(images)[:1], atol=1e-6)


def test_a_mirrored_image_has_the_same_features_where_both_are_averaged():
    images = torch.rand(2, 1, 16, 16)
    both, one = (MODELS["scattering-linear"](mirror=mirror).features((1, 16, 16)) for mirror in (True, False))
    assert torch.allclose(both(images), both(images.flip(3)), atol=1e-5)
    assert not torch.allclose(one(images), one(images.flip(3)), atol=1e-1)


def test_pooling_averages_the_maps():
    images = torch.rand(2, 1, 19, 16)
    plain, pooled = (
        MODELS["scattering-linear"](norm_groups=None, pool=pool).features((1, 19, 16))(images) for pool in (1, 2)
    )
    maps = plain.view(2, 81, 4, 4).unflatten(3, (2, 2)).unflatten(2, (2, 2)).mean((3, 5))
    assert torch.allclose(pooled, maps.flatten(1), atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_each_example_has_a_gradient_of_its_own(name):
    model = MODELS[name]().build((1, 8, 8), 3, seed=0)
    weights = {key: value.detach() for key, value in model.named_parameters()}
    images, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])

    def loss(weights, image, label):
        return functional.cross_entropy(functional_call(model, weights, image[None]), label[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))(weights, images, labels)
    alone = grad(loss)(weights, images[2], labels[2])
    assert all(torch.allclose(each[key][2], alone[key], atol=1e-5) for key in weights)


@pytest.mark.parametrize(
    ("settings", "shape", "message"),
    [
        ({}, (64,), "expected images"),
        ({"norm_groups": 10}, (1, 8, 8), "one of 1, 3, 9, 27, 81, got 10"),
        ({"norm_groups": 27, "scales": 3}, (1, 8, 8), "divisor of 217 maps"),
        ({"pool": 3}, (1, 8, 8), "pool: expected 1 to 2"),
        ({"scales": 4}, (1, 8, 8), "16 pixels a side"),
    ],
)
@pytest.mark.parametrize("name", FAMILIES)
def test_settings_without_features_are_refused(name, settings, shape, message):
    with pytest.raises(BadInputError, match=message):
        MODELS[name](**settings).build(shape, 2, seed=0)


def test_whitened_maps_are_uncorrelated_on_the_images_they_were_whitened_on():
    family = MODELS["scattering-linear"](whiten=1e-6, exponent=0.5)
    features = family.features((1, 16, 16))
    maps = features(dead_leaves(SYNTHETIC, (1, 16, 16))).view(SYNTHETIC, *features.output)
    flat = maps.movedim(1, -1).flatten(0, 2).double()
    covariance = flat.T @ flat / len(flat)
    apart = covariance - torch.diag(covariance.diag())
    assert apart.abs().max() < 0.05
    assert flat.mean(0).abs().max() < 1e-3
    plain = MODELS["scattering-linear"](exponent=0.5).features((1, 16, 16))
    raw = plain(dead_leaves(SYNTHETIC, (1, 16, 16))).view(SYNTHETIC, *plain.output).movedim(1, -1).flatten(0, 2)
    assert torch.corrcoef(raw.T).nan_to_num().fill_diagonal_(0).abs().max() > 0.5  # there was something to take out


def test_the_head_has_one_size_with_and_without_whitening():
    plain, whitened = (MODELS["scattering-cnn"](whiten=one) for one in (None, 1.0))
    shapes = [
        [w.shape for w in Head(one, (1, 12, 12)).build((81 * 9,), 4, seed=0).parameters()] for one in (plain, whitened)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("settings", [{"exponent": 0.0}, {"whiten": -1.0}, {"whiten": float("nan")}])
def test_wrong_powers_and_ridges_are_refused(settings):
    with pytest.raises(BadInputError, match="above 0"):
        MODELS["scattering-linear"](**settings)
