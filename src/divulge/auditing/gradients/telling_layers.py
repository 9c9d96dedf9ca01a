"""Which layers of a model give a record away, and what would change that, in words that hold for this model."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from divulge.attacks.gradients.leakage import TRANSPARENT, Leak, leakage
from divulge.auditing.facts import Block, Table, Text
from divulge.errors import BadInputError
from divulge.models import seeded

SEARCH = (
    "None of this is a protection: a search needs no closed form, only a gradient that changes with the record. What "
    "it found is above."
)


@dataclass(frozen=True, eq=False)
class Called:
    """One module without children as it was called: its name, itself, its input, and whether that is what the module
    called before it answered.
    """

    name: str
    module: nn.Module
    given: Tensor
    follows: bool

    @property
    def weighted(self) -> bool:
        """Whether it is a layer that the leakage score speaks of."""
        return isinstance(self.module, (nn.Linear, nn.Conv2d))


@dataclass(frozen=True)
class Layers:
    """What the leakage score says of a model.

    Args:
        blocks: for the report.
        entrance: the layer that hands over a record by itself; empty if none does.
        chain: the biased linear layer from which equations suffice down to the record; empty if there is none.
    """

    blocks: list[Block]
    entrance: str = ""
    chain: str = ""


def layers(model: nn.Module, shape: tuple[int, ...], *, widest: int) -> Layers:
    """The leakage score in words.

    Args:
        model: as it was given, before any defense.
        shape: of a record.
        widest: the largest batch that was attacked.
    """
    try:
        leaks, calls = leakage(model, shape), called(model, shape)
    except BadInputError as error:
        return Layers([Text(f"There is no layer-by-layer score of this model: {error} {SEARCH}")])
    judged = [_judged(leak, calls) for leak in leaks]
    rows: list[list[str | float | int | None]] = [
        [_named(leak.layer, model), leak.unknowns, leak.equations, _share(leak), _sentence(leak.why)] for leak in judged
    ]
    table = Table(
        title="What the gradient of one record tells of each layer's input",
        columns=["layer", "numbers in its input", "equations for them", "told", "why"],
        rows=rows,
        note="From the layer that sees the record, at the top, to the last. Counted for a batch of one in evaluation "
        "mode, without a defense: where the equations suffice here and in the layers below it in this table, the input "
        "can be computed, unless weights happen to be in special position.",
    )
    entrance, chain, words = _advice(judged, calls, model, widest)
    return Layers([*map(Text, words), table], entrance, chain)


def called(model: nn.Module, shape: tuple[int, ...]) -> list[Called]:
    """The modules without children in the order they are called on noise, in evaluation mode."""
    asked = copy.deepcopy(model).cpu().eval()
    records = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    found: list[Called] = []
    last = [records.flatten()]

    def note(name: str, module: nn.Module, args: tuple[Tensor, ...], answer: Tensor) -> None:
        given = args[0]
        follows = given.numel() == last[0].numel() and torch.equal(given.flatten().to(last[0]), last[0])
        found.append(Called(name, module, given, follows))
        last[0] = answer.flatten()

    for name, module in asked.named_modules():
        if not list(module.children()):
            module.register_forward_hook(lambda module, args, answer, name=name: note(name, module, args, answer))
    with torch.no_grad(), seeded(0):
        asked(records)
    return found


def _judged(leak: Leak, calls: Sequence[Called]) -> Leak:
    """The score of a layer, taken back where it rests on what the score cannot see."""
    place = next(index for index, call in enumerate(calls) if call.name == leak.layer)
    here = calls[place]
    if not here.module.weight.requires_grad:
        return _open(leak, "it is frozen, so its gradient is not shared")
    if isinstance(here.module, nn.Linear) and here.module.bias is not None:
        if here.given.ndim > 2:
            return _open(leak, "it is applied at several places of each record, whose gradients are summed")
        return leak
    above = calls[place + 1 :]
    stop = next((index for index, call in enumerate(above) if _door(call)), len(above))
    upwards = above[: stop + 1]
    if any(call.weighted and not call.module.weight.requires_grad for call in upwards):
        return _open(leak, "a layer above it is frozen, so what that tells is not shared")
    if leak.score and not all(call.follows for call in upwards):
        return _open(leak, "above it the model computes outside of its layers, which this score cannot follow")
    return leak


def _door(call: Called) -> bool:
    """Whether a layer gives its own input away."""
    return isinstance(call.module, nn.Linear) and call.module.bias is not None and call.given.ndim == 2


def _open(leak: Leak, why: str) -> Leak:
    return Leak(leak.layer, leak.unknowns, 0, 0.0, False, why)


def _share(leak: Leak) -> str:
    return "all" if leak.exact else f"{math.floor(100 * min(leak.score, 0.99)):d} %"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _named(name: str, model: nn.Module) -> str:
    module = model.get_submodule(name)
    if isinstance(module, nn.Linear):
        return f"{name or 'itself'}: linear, {module.in_features:,} to {module.out_features:,}"
    assert isinstance(module, nn.Conv2d)
    sides = " x ".join(map(str, module.kernel_size))
    return f"{name or 'itself'}: convolution {sides}, {module.in_channels} to {module.out_channels}"


def _advice(
    leaks: Sequence[Leak], calls: Sequence[Called], model: nn.Module, widest: int
) -> tuple[str, str, list[str]]:
    """The layer that hands over the record, the one that starts the chain down to it, and what would change that."""
    first = leaks[0]
    place = next(index for index, call in enumerate(calls) if call.name == first.layer)
    plain = calls[place].follows and all(
        call.follows and isinstance(call.module, TRANSPARENT) for call in calls[:place]
    )
    it = "the record" if plain else "what is left of the record there"
    if first.exact and isinstance(model.get_submodule(first.layer), nn.Linear):
        module = model.get_submodule(first.layer)
        words = (
            f"Layer {first.layer or 'itself'} is linear, has a bias, and sees {it}: its weight gradient divided by its "
            "bias gradient is its input, whatever the weights are and however long the model was trained. Leaving out "
            "the bias hardly helps, since every row of the weight gradient is then still that input times a number."
        )
        if widest > 1:
            words += (
                f" In a batch, a record stays exposed as long as one of the {module.out_features:,} neurons is active "
                "for it alone, so wide layers protect less than narrow ones."
            )
        change = (
            "What helps: let nobody see the gradient of few records. Add up the gradients of many clients before "
            "anyone reads them (secure aggregation), or clip and add noise at the client, with a ledger."
        )
        return first.layer, "", [words, change, SEARCH]
    if first.exact:
        top = next(leak.layer for leak in leaks if _is_door(leak, model))
        tightest = min((one for one in leaks[: _index(leaks, top)]), key=lambda one: one.equations / one.unknowns)
        words = (
            f"Layer {top} is linear and has a bias, which gives its input and the signal that went down from it. From "
            f"there every layer below is met by at least as many equations as its input has numbers, down to {it}; the "
            f"tightest is {tightest.layer}, with {tightest.equations:,} for {tightest.unknowns:,}."
        )
        change = (
            f"What takes this computation away: leave out the bias of {top}, which hides the signal's size; pool, or "
            f"use a larger stride or fewer filters, so that {tightest.layer} or a layer above it has fewer equations "
            "than numbers"
        )
        smooth = [call for call in calls if isinstance(call.module, (nn.Sigmoid, nn.Tanh, nn.Softplus, nn.ELU))]
        change += (
            f"; use ReLU in place of {type(smooth[0].module).__name__}, which tells only its active outputs."
            if smooth
            else "."
        )
        return "", top, [words, change, SEARCH]
    lost = max(index for index, one in enumerate(leaks) if not one.exact)
    if lost + 1 < len(leaks):
        known = f"Down to the input of {leaks[lost + 1].layer} the gradient of one record gives everything away."
    else:
        known = "Not even the input of the last layer is given away in closed form."
    words = f"{known} Closed forms end at {leaks[lost].layer}: {leaks[lost].why}."
    return "", "", [words, SEARCH]


def _is_door(leak: Leak, model: nn.Module) -> bool:
    module = model.get_submodule(leak.layer)
    return leak.exact and isinstance(module, nn.Linear) and module.bias is not None


def _index(leaks: Sequence[Leak], name: str) -> int:
    return next(index for index, leak in enumerate(leaks) if leak.layer == name)
