"""Down a convolutional network layer by layer: each convolution's input is the solution of linear equations."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from divulge.attacks.gradients.base import GradientAttack, Reconstructions
from divulge.attacks.gradients.body import Body, body
from divulge.attacks.gradients.convolution import UNKNOWNS, Convolution, Solved
from divulge.attacks.gradients.elementwise import ENTRYWISE, Known, below
from divulge.attacks.gradients.hidden_head import Last
from divulge.attacks.gradients.labels import labels_by_bias
from divulge.attacks.gradients.layer_input import signal_below
from divulge.attacks.gradients.layers import layer
from divulge.attacks.gradients.levenberg import Minimum
from divulge.attacks.gradients.refine import refine
from divulge.attacks.gradients.trusted import Trusted, trusted
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.releases import GradientRecord


@dataclass(frozen=True)
class Peel(GradientAttack):
    """Rebuilds a record exactly from a network of convolutions with sigmoid or tanh before a biased linear layer.

    That layer's gradients give its input and the signal that reached it. Going down, each convolution's output and
    signal are known, and its input is met by two sets of linear equations: the outputs, where the activation tells
    them, and the shared weight gradient. Both are scaled alike, outputs are trusted less where the activation is flat,
    and the whole is solved in float64. Whatever lies above the linear layer does not matter.

    An adversary who knows that a defense hides inputs of the linear layer, as Soteria does, first searches for the
    input of the last convolution, at which all that is left of the equations above it must hold; behind a ReLU, with
    the gates that it may have closed among the unknowns.

    Zhu and Blaschko 2021 (arXiv 2010.07733), for which the bias gradient supplies the signal. Batches of one. Training
    and rounding cost accuracy, which `matching` shows: the largest share of a convolution's equations left over. Where
    equations are missing, as below a ReLU, the smallest input that meets them is taken, and `facts` names the layer. If
    that is the picture below a ReLU, a smooth one is searched for among those that meet them.

    Args:
        steps: of that last search.
        tv: weight of the total variation in it, beside the mean squares of the equations.
        tolerance: the largest `matching`, and the largest error estimated from it, at which records are claimed exact.
    """

    name: ClassVar[str] = "peel"
    source: ClassVar[str] = "Zhu and Blaschko 2021, arXiv 2010.07733"

    steps: int = 3000
    tv: float = 1e-3
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if self.tolerance <= 0 or min(self.steps, self.tv) < 0:
            raise BadInputError(
                f"peel: expected a positive tolerance and no negative steps or tv, got {self.tolerance}, {self.steps} "
                f"and {self.tv}."
            )

    def invert(
        self, records: list[GradientRecord], model: nn.Module, *, knowledge: Knowledge, generator: torch.Generator
    ) -> Reconstructions:
        """Rebuild each record."""
        first = records[0]
        if first.batch_size != 1 or first.local_steps != 1:
            raise BadInputError(
                f"peel: expected one step on batches of 1, got {first.local_steps} on {first.batch_size}. Use a search."
            )
        chain = body(first, model)
        if obstacle := _obstacle(chain, first):
            raise BadInputError(f"peel: expected {obstacle}. Use gauss-newton or a search.")
        believed, facts = trusted(records, model, knowledge)
        down = _Down(chain, model, partial(refine, steps=self.steps, tv=self.tv))
        inputs, matching = torch.zeros(len(records), 1, *first.shape), torch.ones(len(records))
        found = torch.tensor([bool(record.gradients[f"{chain.layer}.bias"].any()) for record in records])
        sure, open_layers = found.clone(), set[str]()
        for victim, one in enumerate(believed):
            if found[victim]:
                value, answers = down.peel(one)
                inputs[victim, 0] = value.float()
                matching[victim] = max((answer.left for answer in answers.values()), default=0.0)
                sure[victim] = all(
                    answer.determined and max(answer.left, answer.error) <= self.tolerance
                    for answer in answers.values()
                )
                open_layers |= {name for name, answer in answers.items() if not answer.determined}
        return Reconstructions(
            inputs,
            labels_by_bias(records, model),
            matching,
            exact=bool(sure.all()),
            found=found[:, None],
            facts={"undetermined": sorted(open_layers)} | facts,
        )


class _Down:
    """The way from the linear layer to the record."""

    def __init__(self, chain: Body, model: nn.Module, refine: Callable[..., Tensor]) -> None:
        self.chain = chain
        self.model = model
        self.refine = refine
        self.convolutions = {
            step.name: Convolution(step.module, step.shape)
            for step in chain.steps
            if isinstance(step.module, nn.Conv2d)
        }

    def peel(self, one: Trusted) -> tuple[Tensor, dict[str, Solved | Minimum]]:
        """The record of one victim, and what was found for the convolutions on the way, by their names."""
        top = layer(one.record, self.model, self.chain.layer)
        features, told = one.entered(top)
        known, steps = Known(features, signal_below(top), told), self.chain.steps
        answers = dict[str, Solved | Minimum]()
        if not told.all():
            name, found, known = self._behind(one, known)
            answers[name] = found
            steps = steps[: [step.name for step in steps].index(name)]
        picture = None
        for place, step in reversed(list(enumerate(steps))):
            if step.name in self.convolutions:
                convolution = self.convolutions[step.name]
                slopes, believed = one.tensor(f"{step.name}.weight")
                solved = convolution.solve(known.value, known.trust, known.signal, slopes, believed)
                if self._open_picture(place, solved):
                    picture = partial(
                        self.refine,
                        below=[lower.module for lower in steps[:place]],
                        convolution=convolution,
                        known=known,
                        slopes=slopes,
                        believed=believed,
                    )
                signal = convolution.signal_below(known.signal)
                known, answers[step.name] = Known(solved.values, signal, torch.ones_like(signal)), solved
            else:
                known = below(step, known)
        return known.value if picture is None else picture(known.value), answers

    def _open_picture(self, place: int, solved: Solved) -> bool:
        """Whether this is the first convolution, with a ReLU on top that leaves some of a picture open."""
        first = not any(step.name in self.convolutions for step in self.chain.steps[:place])
        return first and not solved.determined and isinstance(self.chain.steps[place + 1].module, nn.ReLU)

    def _behind(self, one: Trusted, known: Known) -> tuple[str, Solved | Minimum, Known]:
        """The name of the last convolution, the search for its input, and what is known there."""
        places = [place for place, step in enumerate(self.chain.steps) if step.name in self.convolutions]
        if not places:
            raise BadInputError(
                f"peel: inputs of {self.chain.layer} are hidden and there is no convolution below it to tell them. Use "
                "a search."
            )
        place, step = places[-1], self.chain.steps[places[-1]]
        convolution = self.convolutions[step.name]
        slopes, believed = one.tensor(f"{step.name}.weight")
        bias = None if convolution.module.bias is None else one.tensor(f"{step.name}.bias")
        gray = torch.full((1, *one.record.shape), 0.5, dtype=torch.float64)
        for lower in self.chain.steps[:place]:
            gray = lower.module(gray)
        found, entered = Last(convolution, self.chain.steps[place + 1 :], slopes, believed, bias, known).search(gray[0])
        return step.name, found, entered


def peelable(chain: Body, record: GradientRecord) -> bool:
    """Whether a body can be peeled."""
    return not _obstacle(chain, record)


def _obstacle(chain: Body, record: GradientRecord) -> str:
    """Why a body cannot be peeled; empty if it can."""
    if not chain.chain:
        return f"modules that are called once each, one after another, up to {chain.layer}"
    for step in chain.steps:
        module = step.module
        if not isinstance(module, (nn.Conv2d, *ENTRYWISE)):
            return f"convolutions, activations and batch norm below {chain.layer}, got {step.told}"
        if isinstance(module, nn.Conv2d):
            if module.groups > 1 or module.padding_mode != "zeros" or isinstance(module.padding, str):
                return f"convolutions in one group, padded with a number of zeros, got {step.told}"
            if math.prod(step.shape) > UNKNOWNS:
                return f"convolutions with at most {UNKNOWNS:,} inputs, got {step.told} with {math.prod(step.shape):,}"
            if f"{step.name}.weight" not in record.gradients:
                return f"convolutions that learn, got {step.told} without a gradient"
        elif isinstance(module, nn.BatchNorm2d) and (record.training or module.running_var is None):
            return f"no {step.told} that takes the statistics of the batch"
    return ""
