"""Putting a variational bottleneck into a network that is there already."""

import copy
from typing import TypeVar

from torch import nn

from divulge.errors import BadInputError
from divulge.models.base import seeded
from divulge.models.stochastic import Sample

CODE = 256
"""Entries of a code, as in PRECODE."""
BLOCK = (
    *(nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d, nn.MaxPool2d, nn.AvgPool2d),
    *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Softplus),
)
"""What belongs to the convolution that it follows."""
Layer = TypeVar("Layer", bound=nn.Module)


def linear_bottleneck(
    model: nn.Module, name: str | None = None, *, width: int | None, beta: float, always: bool, seed: int
) -> nn.Module:
    """A copy of `model` with a variational bottleneck before one of its linear layers.

    It is three layers: a linear encoder, the draw, and a linear decoder back to what the layer expects.

    Args:
        model: left as it was.
        name: of the layer, as in `named_modules`; None for the last linear layer.
        width: entries of the code; None for 256, or as many as the layer has inputs where those are fewer.
        beta: see `Sample`.
        always: see `Sample`.
        seed: of the first weights, which are PyTorch's own.

    Raises:
        BadInputError: no such layer, one that is not linear, a bottleneck wider than it, or one there already.
    """
    name, layer = _named(model, name, nn.Linear, pick=-1)
    width = min(CODE, layer.in_features) if width is None else width
    if not 1 <= width <= layer.in_features:
        raise BadInputError(
            f"bottleneck: expected a width from 1 to the {layer.in_features} inputs of layer {name!r}, got {width}. "
            "Change it, or leave it out."
        )
    with seeded(seed):
        new = [
            nn.Linear(layer.in_features, 2 * width),
            Sample(beta, always=always),
            nn.Linear(width, layer.in_features),
        ]
    return _insert(model, name, [one.to(layer.weight) for one in new], after=False)


def convolutional_bottleneck(
    model: nn.Module, name: str | None = None, *, kernel: int, beta: float, always: bool, seed: int
) -> nn.Module:
    """A copy of `model` with a convolutional variational bottleneck, free of biases, after one of its convolutions.

    Its encoder is one convolution to means and raw deviations, half as many of each as channels come in and eight at
    least; the decoder is a 1 x 1 convolution. In an `nn.Sequential` the normalization, activation and pooling behind
    the convolution stay before the bottleneck.

    Args:
        model: left as it was.
        name: of the convolution, as in `named_modules`; None for the first.
        kernel: side of the encoder, odd.
        beta: see `Sample`.
        always: see `Sample`.
        seed: of the first weights, which are PyTorch's own.

    Raises:
        BadInputError: no such layer, one that is no convolution, an even kernel, or a bottleneck there already.
    """
    name, layer = _named(model, name, nn.Conv2d, pick=0)
    if kernel < 1 or kernel % 2 == 0:
        raise BadInputError(f"bottleneck: expected an odd kernel, which leaves an image its size, got {kernel}.")
    width = max(8, layer.out_channels // 2)
    with seeded(seed):
        new = [
            nn.Conv2d(layer.out_channels, 2 * width, kernel, padding=kernel // 2, bias=False),
            Sample(beta, always=always, limit=5.0),
            nn.Conv2d(width, layer.out_channels, 1, bias=False),
        ]
    return _insert(model, name, [one.to(layer.weight) for one in new], after=True)


def _named(model: nn.Module, name: str | None, kind: type[Layer], *, pick: int) -> tuple[str, Layer]:
    """A layer of a kind and its name: the one called `name`, or the one at place `pick` if that is None."""
    layers = {one: module for one, module in model.named_modules() if isinstance(module, kind)}
    if any(isinstance(module, Sample) for module in model.modules()):
        raise BadInputError("bottleneck: expected a model without one, and there is one already.")
    if name is None and layers:
        return list(layers.items())[pick]
    if name is None or name not in layers:
        there = dict(model.named_modules())
        got = "none" if name is None else f"{name!r}, {_told(there.get(name))}"
        raise BadInputError(
            f"bottleneck: expected the name of a {kind.__name__} layer, got {got}. There is "
            f"{', '.join(map(repr, layers)) or 'no such layer'}."
        )
    return name, layers[name]


def _told(module: nn.Module | None) -> str:
    return "which the model does not have" if module is None else f"which is {type(module).__name__}"


def _insert(model: nn.Module, name: str, new: list[nn.Module], *, after: bool) -> nn.Module:
    """A copy with new layers beside one: entries of its `nn.Sequential`, or together with it in one of their own."""
    model = copy.deepcopy(model)
    layer = model.get_submodule(name)
    if not name:
        return nn.Sequential(layer, *new) if after else nn.Sequential(*new, layer)
    place, _, own = name.rpartition(".")
    holder = model.get_submodule(place)
    if type(holder) is not nn.Sequential:
        setattr(holder, own, nn.Sequential(layer, *new) if after else nn.Sequential(*new, layer))
        return model
    entries = list(holder)
    start = entries.index(layer)
    if after:
        start += 1
        while start < len(entries) and isinstance(entries[start], BLOCK):
            start += 1
    entries[start:start] = new
    longer = nn.Sequential(*entries).train(holder.training)
    if not place:
        return longer
    above, _, own = place.rpartition(".")
    setattr(model.get_submodule(above), own, longer)
    return model
