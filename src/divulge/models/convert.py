"""Making a network fit for private training: nothing in it may mix the examples of a batch."""

import copy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import is_lazy

from divulge.errors import BadInputError
from divulge.models.base import seeded
from divulge.models.standardized import ScaledConv2d

MAPS = (nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def to_private(model: nn.Module, *, standardize: bool = False) -> nn.Module:
    """A copy of a network without layers that mix examples, which per-example gradients do not exist for.

    Batch norm becomes group norm, with the largest number of groups up to 32 that divides the channels; `BatchNorm1d`
    gets a single group, because few plain features a group keep nothing but their order. Its learned scale and shift
    are carried over. Its running statistics come from training records and no longer fit: they are dropped, so a
    trained network has to be fine-tuned before it is used. Instance norm forgets its running statistics. Layers that
    share weights still do, and every other layer stays as it is.

    Args:
        model: left as it was.
        standardize: also turn each `Conv2d` into a `ScaledConv2d` of the same weights, its gain such that they change
            by no more than their mean.

    Raises:
        BadInputError: a batch norm that is not PyTorch's own, a layer that has not seen its first batch yet, or a
            compiled network.

    Example:
        >>> to_private(nn.BatchNorm2d(48)).num_groups
        24
    """
    for name, layer in model.named_modules():
        _require_convertible(layer, name or "the top")
    private = copy.deepcopy(model)
    places = list(private.named_modules(remove_duplicate=False))
    new = {layer: _private(layer, standardize) for _, layer in places}
    for name, layer in places:
        if name and new[layer] is not layer:
            parent, _, attribute = name.rpartition(".")
            setattr(private.get_submodule(parent), attribute, new[layer])
    return new[private]


def _require_convertible(layer: nn.Module, name: str) -> None:
    if isinstance(layer, torch.jit.ScriptModule) or any(map(is_lazy, layer.parameters(recurse=False))):
        raise BadInputError(
            f"to_private: expected layers of plain PyTorch that have weights, got {type(layer).__name__} at {name!r}. "
            "Convert the network before it is compiled and after its first batch."
        )
    if isinstance(layer, _BatchNorm) and type(layer) not in (nn.BatchNorm1d, *MAPS):
        raise BadInputError(
            f"to_private: expected a batch norm of PyTorch's own, got {type(layer).__name__} at {name!r}, which may do "
            "more than one. Put a GroupNorm in its place yourself."
        )


def _private(layer: nn.Module, standardize: bool) -> nn.Module:
    """The layer itself, changed in place where that is enough, or what takes its place."""
    if isinstance(layer, _BatchNorm):
        return _group_norm(layer)
    if isinstance(layer, _InstanceNorm):
        layer.track_running_stats = False
        layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return _scaled(layer) if standardize and type(layer) is nn.Conv2d else layer


def _group_norm(layer: _BatchNorm) -> nn.GroupNorm:
    channels = layer.num_features
    groups = max(n for n in range(1, 33) if channels % n == 0) if isinstance(layer, MAPS) else 1
    norm = nn.GroupNorm(groups, channels, eps=layer.eps, affine=layer.affine)
    if layer.affine:
        norm.weight, norm.bias = layer.weight, layer.bias
    return norm.train(layer.training)


def _scaled(layer: nn.Conv2d) -> ScaledConv2d:
    with seeded(0):  # the first weights it draws are replaced
        scaled = ScaledConv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            layer.padding,  # type: ignore[arg-type]
            layer.dilation,  # type: ignore[arg-type]
            layer.groups,
            layer.padding_mode,
        )
    weight = layer.weight.detach()
    variance = weight.var(dim=(1, 2, 3), correction=0, keepdim=True)
    scaled.weight = layer.weight
    scaled.bias = nn.Parameter(weight.new_zeros(len(weight))) if layer.bias is None else layer.bias
    scaled.gain = nn.Parameter((variance * weight[0].numel()).clamp(min=1e-4).sqrt())
    return scaled.train(layer.training)
