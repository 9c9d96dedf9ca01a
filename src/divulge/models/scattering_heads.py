"""Small classifiers on scattering features, the cheapest accurate networks under differential privacy."""

import math
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from divulge.errors import BadInputError
from divulge.models.base import Featured
from divulge.models.scattering import Scattering
from divulge.models.synthetic import dead_leaves

SYNTHETIC = 512
"""Synthetic images that the covariance of the maps is taken from."""


@dataclass(frozen=True)
class ScatteringFamily(Featured):
    """What the heads on scattering features share: the features.

    Args:
        scales: J, the number of wavelet sizes; maps are `2**scales` times smaller than the image.
        angles: L, the number of wavelet directions.
        norm_groups: groups of maps that are standardized, each image by itself and so without any cost in privacy; None
            for none. It divides the number of maps: 81 a color channel with 2 scales and 8 angles.
        mirror: average the features of an image and of its mirror image.
        pool: side of the squares over which maps are averaged further.
        exponent: power that maps are raised to before they are averaged further; below 1 it evens out contrast.
        whiten: decorrelate the maps by their covariance on synthetic images, which takes no record and costs no
            privacy, so that gradient descent needs fewer steps; the number is the ridge over the mean variance. None
            for none.
    """

    scales: int = 2
    angles: int = 8
    norm_groups: int | None = 27
    mirror: bool = False
    pool: int = 1
    exponent: float = 1.0
    whiten: float | None = None

    def __post_init__(self) -> None:
        for name in ("exponent", "whiten"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise BadInputError(f"{self.name}: expected a finite {name} above 0, got {value}.")

    def features(self, shape: tuple[int, ...]) -> "ScatteringFeatures":
        """The standardized scattering transform, flattened."""
        features = self._unwhitened(shape)
        if self.whiten is not None:
            features.whiten(dead_leaves(SYNTHETIC, shape), ridge=self.whiten)
        return features

    def maps(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """How many maps there are for a record of this shape, and their height and width."""
        return self._unwhitened(shape).output

    def _unwhitened(self, shape: tuple[int, ...]) -> "ScatteringFeatures":
        if len(shape) != 3:
            raise BadInputError(f"{self.name}: expected images (C, H, W), got records of shape {shape}. Use the mlp.")
        transform = Scattering((shape[1], shape[2]), scales=self.scales, angles=self.angles)
        return ScatteringFeatures(
            transform,
            shape[0],
            norm_groups=self.norm_groups,
            mirror=self.mirror,
            pool=self.pool,
            exponent=self.exponent,
        )

    def fixed(self) -> "ScatteringLinear":
        """The linear family on the same features; see `Featured`."""
        return ScatteringLinear(**{field.name: getattr(self, field.name) for field in fields(ScatteringFamily)})


@dataclass(frozen=True)
class ScatteringLinear(ScatteringFamily):
    """One linear layer on scattering features (Tramer and Boneh 2021, arXiv:2011.11660)."""

    name: ClassVar[str] = "scattering-linear"

    def head(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The linear layer."""
        return nn.Linear(math.prod(self.maps(shape)), classes)


@dataclass(frozen=True)
class ScatteringCNN(ScatteringFamily):
    """A small tanh network on scattering features (Tramer and Boneh 2021, arXiv:2011.11660).

    The defaults are theirs for 28 x 28 images; for CIFAR-10 they take `channels` 64 and 64, no `hidden` layer and
    `reduce` "pool".

    Args:
        channels: maps after each 3 x 3 convolution.
        hidden: widths of fully connected layers before the last.
        reduce: how the first convolution halves the maps: by its stride, or by max-pooling after it.
    """

    name: ClassVar[str] = "scattering-cnn"

    channels: tuple[int, ...] = (16, 32)
    hidden: tuple[int, ...] = (32,)
    reduce: Literal["stride", "pool"] = "stride"

    def head(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Convolutions on the maps, then fully connected layers."""
        maps = self.maps(shape)
        depth, height, width = maps
        layers: list[nn.Module] = [nn.Unflatten(1, maps)]
        for index, channels in enumerate(self.channels):
            stride = 2 if index == 0 and self.reduce == "stride" else 1
            layers += [nn.Conv2d(depth, channels, 3, stride=stride, padding=1), nn.Tanh()]
            height, width, depth = -(-height // stride), -(-width // stride), channels
            if index == 0 and self.reduce == "pool":
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
                height, width = -(-height // 2), -(-width // 2)
        layers.append(nn.Flatten())
        features = depth * height * width
        for hidden in self.hidden:
            layers += [nn.Linear(features, hidden), nn.Tanh()]
            features = hidden
        return nn.Sequential(*layers, nn.Linear(features, classes))


class ScatteringFeatures(nn.Module):
    """The scattering transform's maps, averaged, standardized and flattened; nothing in it learns.

    Args:
        transform: of one image size.
        depth: color channels of the images.
        norm_groups: see `ScatteringFamily`, as are `mirror`, `pool` and `exponent`.

    Raises:
        BadInputError: a number of groups that does not divide the number of maps, or a `pool` beyond their size.
    """

    center: Tensor | None
    decorrelation: Tensor | None

    def __init__(
        self,
        transform: Scattering,
        depth: int,
        *,
        norm_groups: int | None,
        mirror: bool = False,
        pool: int = 1,
        exponent: float = 1.0,
    ) -> None:
        super().__init__()
        maps = depth * transform.channels
        if norm_groups is not None and (norm_groups < 1 or maps % norm_groups):
            divisors = ", ".join(str(number) for number in range(1, maps + 1) if maps % number == 0)
            raise BadInputError(
                f"norm_groups: expected a divisor of {maps} maps, one of {divisors}, got {norm_groups}."
            )
        if not 1 <= pool <= min(transform.output):
            raise BadInputError(f"pool: expected 1 to {min(transform.output)}, the size of the maps, got {pool}.")
        self.transform, self.norm_groups, self.mirror, self.pool = transform, norm_groups, mirror, pool
        self.exponent = exponent
        for name in ("center", "decorrelation"):
            self.register_buffer(name, None, persistent=False)
        self.output = (maps, transform.output[0] // pool, transform.output[1] // pool)

    def forward(self, x: Tensor) -> Tensor:
        """Images `(N, C, H, W)` to features `(N, F)`, channel by channel."""
        maps = self._standardized(x)
        if self.mirror:
            maps = (maps + self._standardized(x.flip(3))) / 2
        if self.center is not None and self.decorrelation is not None:
            maps = torch.einsum("nchw,cd->ndhw", maps - self.center, self.decorrelation)
        return maps.flatten(1)

    def whiten(self, images: Tensor, *, ridge: float) -> None:
        """Decorrelate the maps from now on by their covariance over all places of `images` `(N, C, H, W)`.

        Args:
            images: what the covariance is taken from; not the private records.
            ridge: added to each variance, as a share of their mean.
        """
        with torch.inference_mode():
            maps = self._standardized(images).movedim(1, -1).flatten(0, -2).double()
            center = maps.mean(0)
            variances, directions = torch.linalg.eigh((maps - center).T @ (maps - center) / len(maps))
            scales = (variances.clamp(min=0) + ridge * variances.mean()).rsqrt()
        self.center = center.float().view(-1, 1, 1).clone()
        self.decorrelation = (directions * scales @ directions.T).float().clone()

    def _standardized(self, x: Tensor) -> Tensor:
        """The maps of images as they are, `(N, K, h, w)`."""
        maps = self.transform(x).flatten(1, 2)
        if self.exponent != 1:
            maps = maps.clamp(min=0) ** self.exponent
        maps = functional.avg_pool2d(maps, self.pool)
        return maps if self.norm_groups is None else functional.group_norm(maps, self.norm_groups)
