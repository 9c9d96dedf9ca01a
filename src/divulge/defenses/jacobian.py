"""How a layer's input depends on the records: its Jacobian, by backward passes of which many are run at once."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx
from torch.func import vmap
from torch.nn import functional

from divulge.errors import BadInputError
from divulge.models import seeded

TOGETHER = {"cpu": 192, "cuda": 4096}
"""Backward passes at once, counted for each record: on a CPU as many as its cache likes."""


@dataclass(frozen=True, eq=False)
class Inside:
    """What goes into a linear layer of a copy of a model and comes out of it, for a batch of N records.

    Args:
        inputs: the records `(N, *shape)`.
        features: what goes into the layer, `(N, d)`.
        outputs: what comes out, `(N, out)`.
        logits: the model's answer.
        mixed: whether one record's features depend on the others, as under batch norm in training mode.
    """

    inputs: Tensor
    features: Tensor
    outputs: Tensor
    logits: Tensor
    mixed: bool

    def signal(self, targets: Tensor, reduction: str) -> Tensor:
        """The gradient of the cross-entropy with respect to what comes out of the layer, `(N, out)`."""
        loss = functional.cross_entropy(self.logits, targets, reduction=reduction)
        return torch.autograd.grad(loss, self.outputs, retain_graph=True)[0]

    def rows(self) -> Iterator[Tensor]:
        """The Jacobian of each record's features with respect to that record, a few features `(k, N, *shape)` a time.

        Records that are mixed are held fixed but for the one.
        """
        records, width = self.features.shape
        together = max(1, TOGETHER["cuda" if self.features.is_cuda else "cpu"] // records)
        for chosen in torch.eye(width).to(self.features).split(together):
            if not self.mixed:
                yield self._pulled(chosen[:, None].expand(-1, records, -1))
                continue
            own = []
            for number in range(records):
                alone = chosen.new_zeros(len(chosen), records, width)
                alone[:, number] = chosen
                own.append(self._pulled(alone)[:, number])
            yield torch.stack(own, dim=1)

    def _pulled(self, cotangents: Tensor) -> Tensor:
        def one(cotangent: Tensor) -> Tensor:
            found = torch.autograd.grad(
                self.features, self.inputs, cotangent, retain_graph=True, materialize_grads=True
            )
            return found[0]

        return vmap(one)(cotangents)


def first_linear(model: nn.Module) -> str:
    """The name of the first fully connected layer.

    Raises:
        BadInputError: there is none.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            return name
    raise BadInputError("expected a model with a fully connected layer, got one without.")


def inside(model: nn.Module, layer: str, inputs: Tensor, *, training: bool, double: bool = False) -> Inside:
    """Run a copy of `model` and look at what goes into a linear layer of it; the model itself is not touched.

    Args:
        model: maps `(N, *shape)` to logits.
        layer: its name in the model.
        inputs: the records `(N, *shape)`.
        training: whether the copy is in training mode.
        double: compute in float64.

    Raises:
        BadInputError: no linear layer of that name, or one that is not run once, on one row a record.
    """
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if layer not in linear:
        raise BadInputError(
            f"expected the name of a linear layer of the model, one of {', '.join(sorted(linear)) or 'none'}, got "
            f"{layer!r}."
        )
    worker = copy.deepcopy(model).requires_grad_(False).train(training)
    if double:
        worker, inputs = worker.double(), inputs.double()
    for module in list(worker.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Conv2d and _plain(child):
                setattr(module, name, _Convolution(child))
    seen: list[tuple[Tensor, Tensor]] = []
    worker.get_submodule(layer).register_forward_hook(lambda module, given, answer: seen.append((given[0], answer)))
    inputs = inputs.detach().clone().requires_grad_()
    with torch.enable_grad(), seeded(0):
        logits = worker(inputs)
    if len(seen) != 1 or seen[0][0].shape[:-1] != inputs.shape[:1]:
        raise BadInputError(
            f"layer {layer}: expected one that runs once, on one row for each of {len(inputs)} records, got "
            f"{[tuple(given.shape) for given, _ in seen]}."
        )
    normed = (nn.modules.batchnorm._BatchNorm,)
    mixed = len(inputs) > 1 and any(isinstance(one, normed) and one.training for one in worker.modules())
    return Inside(inputs, *seen[0], logits, mixed)


class _Convolution(nn.Module):
    """A convolution with a backward pass to its input that many cotangents can go through at once, fast."""

    def __init__(self, module: nn.Conv2d) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        module = self.module
        return _Convolve.apply(x, module.weight, module.bias, module.stride, module.padding)


class _Convolve(Function):
    """A convolution whose gradient with respect to its input is a `_Pull`."""

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        return functional.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, stride, padding = inputs
        ctx.save_for_backward(weight)
        ctx.facts = (stride, padding, tuple(x.shape[2:]))  # type: ignore[attr-defined]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Pull.apply(gradients[0], *ctx.saved_tensors, *ctx.facts), None, None, None, None


class _Pull(Function):
    """`pull_back`, which under vmap takes all cotangents as one batch."""

    @staticmethod
    def forward(
        gradient: Tensor,
        weight: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
        sides: tuple[int, int],
    ) -> Tensor:
        return pull_back(gradient, weight, stride, padding, sides)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], gradient: Tensor, *rest: Any) -> tuple[Tensor, int]:
        assert in_dims[0] is not None
        gradient = gradient.movedim(in_dims[0], 0)
        pulled = pull_back(gradient.flatten(0, 1), *rest)
        return pulled.unflatten(0, gradient.shape[:2]), 0


def pull_back(
    gradient: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int], sides: tuple[int, int]
) -> Tensor:
    """The gradient at a convolution's input `(N, in, *sides)` from that at its output `(N, out, h, w)`.

    Of the input, the pixels at one offset within a stride see only every stride-th entry of the kernel. Each offset is
    a convolution without stride, and all of them are one with more channels, which is what processors are fast at.
    """
    outputs, channels, *kernel = weight.shape
    taps = [-(-k // s) for k, s in zip(kernel, stride, strict=True)]  # entries of the kernel that one offset sees
    grown = [t * s - k for t, s, k in zip(taps, stride, kernel, strict=True)]
    split = functional.pad(weight, (0, grown[1], 0, grown[0])).unflatten(3, (taps[1], stride[1]))
    split = split.unflatten(2, (taps[0], stride[0]))
    turned = split.permute(1, 3, 5, 0, 2, 4).reshape(-1, outputs, *taps).flip(2, 3)
    first = [p // s for p, s in zip(padding, stride, strict=True)]  # blocks of a stride in the padding alone
    last = [(p + side - 1) // s for p, side, s in zip(padding, sides, stride, strict=True)]
    before = [t - 1 - f for t, f in zip(taps, first, strict=True)]
    after = [end - (size - 1) for end, size in zip(last, gradient.shape[2:], strict=True)]
    if before == after and before[0] >= 0 and before[1] >= 0:
        blocks = functional.conv2d(gradient, turned, padding=(before[0], before[1]))
    else:
        blocks = functional.conv2d(functional.pad(gradient, (before[1], after[1], before[0], after[0])), turned)
    skipped = [p - f * s for p, f, s in zip(padding, first, stride, strict=True)]
    if stride == (1, 1):
        return blocks
    blocks = blocks.unflatten(1, (channels, *stride))
    pixels = blocks.new_empty(len(blocks), channels, blocks.shape[4] * stride[0], blocks.shape[5] * stride[1])
    for row in range(stride[0]):
        for column in range(stride[1]):
            pixels[:, :, row :: stride[0], column :: stride[1]] = blocks[:, :, row, column]
    return pixels[:, :, skipped[0] : skipped[0] + sides[0], skipped[1] : skipped[1] + sides[1]]


def _plain(module: nn.Conv2d) -> bool:
    return (
        module.groups == 1
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )
