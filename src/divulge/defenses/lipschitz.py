"""How much a network can stretch the distance between two inputs: an upper bound, layer by layer."""

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from divulge.models import Normalize
from divulge.models.layers import Flatten

FREE = (nn.Flatten, Flatten, nn.Identity, nn.ReLU, nn.Tanh)


def lipschitz(model: nn.Module, layer: str, like: Tensor, *, training: bool = False) -> float | None:
    """An upper bound on `|f(x) - f(y)| / |x - y|`, Euclidean, of what goes into a layer: a product over those before.

    A convolution that pads with zeros is a part of one on a torus, whose largest singular value is the largest over
    frequencies (Sedghi et al. 2019, arXiv 1805.10408); it is taken without its stride.

    Args:
        model: nested `nn.Sequential`.
        layer: its name in the model.
        like: a batch `(N, *shape)` of records, of which only the shape is used.
        training: whether the model is in training mode.

    Returns:
        None where the model is no sequence, or a layer before has no bound that is known here.

    Example:
        >>> linear = nn.Linear(2, 2)
        >>> _ = linear.weight.data.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
        >>> lipschitz(nn.Sequential(linear, nn.Sigmoid(), nn.Linear(2, 1)), "2", torch.zeros(1, 2))
        0.75
    """
    worker = copy.deepcopy(model).double().train(training)
    target, value, x = worker.get_submodule(layer), 1.0, like.detach().double()
    for module in _steps(worker):
        if module is target:
            return value
        factor = _factor(module, x)
        if factor is None:
            return None
        value *= factor
        with torch.no_grad():
            x = module(x)
    return None


def _steps(model: nn.Module) -> Iterator[nn.Module]:
    """The layers of nested sequences, in the order in which they run; anything else as a whole."""
    if type(model) is not nn.Sequential:
        yield model
        return
    for module in model:
        yield from _steps(module)


def _factor(module: nn.Module, x: Tensor) -> float | None:
    match module:
        case nn.Linear():
            return float(torch.linalg.matrix_norm(module.weight.detach(), 2))
        case nn.Conv2d() if module.padding_mode == "zeros" and not isinstance(module.padding, str):
            return _convolution(module, x)
        case nn.Sigmoid():
            return 0.25
        case nn.LeakyReLU():
            return max(1.0, abs(module.negative_slope))
        case Normalize():
            return float(1 / module.std.abs().min())
        case nn.BatchNorm2d() if not module.training and module.running_var is not None:
            scale = 1 if module.weight is None else module.weight.detach().abs()
            return float((scale / (module.running_var + module.eps).sqrt()).max())
        case nn.MaxPool2d() if _disjoint(module) and module.dilation == 1:
            return 1.0
        case nn.AvgPool2d() if _disjoint(module) and _whole(module):
            return math.prod(_pair(module.kernel_size)) ** -0.5
        case nn.Dropout() if not module.training:
            return 1.0
        case _ if isinstance(module, FREE):
            return 1.0
    return None


def _convolution(module: nn.Conv2d, x: Tensor) -> float:
    top, left = (int(pad) for pad in module.padding)
    sides = (x.shape[2] + 2 * top, x.shape[3] + 2 * left)
    outputs, channels, height, width = module.weight.shape
    kernel = module.weight.new_zeros(outputs, channels, *sides)
    down, across = module.dilation
    kernel[:, :, : height * down : down, : width * across : across] = module.weight.detach()
    waves = torch.fft.rfft2(kernel).movedim((0, 1), (2, 3))
    groups = waves.unflatten(2, (module.groups, -1)).movedim(2, 0)
    return float(torch.linalg.matrix_norm(groups, 2).max())


def _disjoint(module: nn.MaxPool2d | nn.AvgPool2d) -> bool:
    """Whether no input is in two windows."""
    sizes = zip(_pair(module.kernel_size), _pair(module.stride), strict=True)
    return all(window <= step for window, step in sizes)


def _whole(module: nn.AvgPool2d) -> bool:
    """Whether every window is divided by its own full size."""
    return module.divisor_override is None and _pair(module.padding) == (0, 0) and not module.ceil_mode


def _pair(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else size
