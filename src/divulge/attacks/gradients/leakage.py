"""Which layers of an architecture give their input away to whoever sees one record's gradient, and why."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from divulge.errors import BadInputError
from divulge.models import Normalize, seeded
from divulge.models.layers import Flatten, Standardize

TRANSPARENT = (
    *(nn.Identity, nn.Flatten, nn.Dropout, Flatten, Normalize, Standardize),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.Sigmoid, nn.Tanh, nn.LeakyReLU, nn.ELU, nn.Softplus),
)
"""Modules through which an output tells its input entry by entry, in evaluation mode."""
PROBES = 8


@dataclass(frozen=True)
class Leak:
    """What the gradient of a batch of one tells of a layer's input, peeling from the last layer down.

    Args:
        layer: its name.
        unknowns: entries of its input.
        equations: linear equations known about them, counted so that no more can be independent.
        score: share of the input that is determined, an estimate: 1 where the equations suffice, here and above.
        exact: whether they suffice by count; only weights in special position then leave anything open.
        why: in words.
    """

    layer: str
    unknowns: int
    equations: int
    score: float
    exact: bool
    why: str


def leakage(model: nn.Module, shape: tuple[int, ...]) -> list[Leak]:
    """How exposed each linear layer and convolution is, first to last; the input of the first is the record.

    A biased linear layer gives its input by itself. A convolution under a layer that gives its own is met by two sets
    of linear equations: its outputs, where its activation tells them, and its weight gradient. How many outputs a ReLU
    tells is measured on random noise. After Zhu and Blaschko 2021 (arXiv 2010.07733), with the signal from the bias.

    A low score says that no closed form is known; it is no protection against an attack that searches.

    Args:
        model: modules called one after another, as in `nn.Sequential`; in evaluation mode here, and left as it was.
        shape: of a record.

    Raises:
        BadInputError: no linear layer or convolution, or one that is called more than once.

    Example:
        >>> [round(one.score, 2) for one in leakage(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), (2, 2))]
        [1.0]
    """
    calls = list(_calls(model, shape))
    names = [call.name for call in calls if call.weighted]
    if not names or len(set(names)) < len(names):
        raise BadInputError(
            "leakage: expected linear layers or convolutions that are called once each, got "
            f"{', '.join(names) or 'none'}."
        )
    leaks: list[Leak] = []
    told, signal, blurred, above = 1.0, True, list[str](), 0.0
    for call in reversed(calls):
        if call.weighted:
            leak = _leak(call, told=told, signal=signal, blurred=blurred, above=above)
            leaks.append(leak)
            above, told, signal, blurred = leak.score, 1.0, True, []
        else:
            share, clear, word = _through(call)
            told, signal, blurred = told * share, signal and clear, [*blurred, *word]
    return leaks[::-1]


@dataclass(frozen=True, eq=False)
class _Call:
    name: str
    module: nn.Module
    given: Tensor
    answer: Tensor

    @property
    def weighted(self) -> bool:
        return isinstance(self.module, (nn.Linear, nn.Conv2d))


def _calls(model: nn.Module, shape: tuple[int, ...]) -> Iterator[_Call]:
    """The modules without children in the order they are called on noise."""
    asked = copy.deepcopy(model).cpu().eval()
    calls: list[_Call] = []
    for name, module in asked.named_modules():
        if not list(module.children()):
            module.register_forward_hook(
                lambda module, args, answer, name=name: calls.append(_Call(name, module, args[0], answer))
            )
    with torch.no_grad(), seeded(0):
        asked(torch.rand(PROBES, *shape).to(next(asked.parameters(), torch.empty(0))))
    return iter(calls)


def _through(call: _Call) -> tuple[float, bool, list[str]]:
    """What a module leaves of what lies below: the share of entries told, whether the signal is, and why not."""
    kept = call.answer.numel() / call.given.numel()
    if isinstance(call.module, TRANSPARENT):
        return 1.0, True, []
    if isinstance(call.module, nn.ReLU):
        active = float((call.answer > 0).double().mean())
        return active, True, [f"ReLU tells only its {active:.0%} active outputs"]
    if isinstance(call.module, nn.AvgPool2d):
        return kept, True, [f"average pooling leaves {kept:.0%} of its inputs' number"]
    if isinstance(call.module, nn.MaxPool2d):
        return kept, False, ["max-pooling hides which inputs were the largest, and so where the signal went"]
    return 0.0, False, [f"there is no rule for {type(call.module).__name__}"]


def _leak(call: _Call, *, told: float, signal: bool, blurred: list[str], above: float) -> Leak:
    unknowns = call.given[0].numel()
    if isinstance(call.module, nn.Linear) and call.module.bias is not None:
        return Leak(
            call.name, unknowns, unknowns, 1.0, True, "its weight gradient divided by its bias gradient is its input"
        )
    if above == 0:
        return Leak(call.name, unknowns, 0, 0.0, False, "nothing above it gives the signal that reaches it")
    outputs = int(told * call.answer[0].numel())
    slopes = _weight_equations(call) if signal else 0
    equations = min(outputs, unknowns) + slopes
    score = above * min(1.0, equations / unknowns)
    enough = equations >= unknowns
    words = [f"{outputs:,} outputs and {slopes:,} weight gradients against {unknowns:,} inputs", *blurred]
    if enough and above < 1:
        words.append("enough, but the layer above does not give its input exactly")
    return Leak(call.name, unknowns, equations, score, enough and above == 1, "; ".join(words))


def _weight_equations(call: _Call) -> int:
    """Weight-gradient entries that can be independent: each sees one input channel, of which no more can be learned."""
    if isinstance(call.module, nn.Conv2d):
        channels, *sides = call.given.shape[1:]
        filters = call.module.out_channels // call.module.groups * math.prod(call.module.kernel_size)
        return channels * min(filters, math.prod(sides))
    return call.given[0].numel()
