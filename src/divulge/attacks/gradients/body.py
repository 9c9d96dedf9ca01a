"""What lies below the first biased linear layer of a model: modules in the order in which they are called."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from divulge.attacks.gradients.layers import twin
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.releases import GradientRecord


@dataclass(frozen=True, eq=False)
class Step:
    """One call of a module in the body.

    Args:
        name: of the module in the model.
        module: a float64 copy of it.
        shape: of what goes in, without the batch.
    """

    name: str
    module: nn.Module
    shape: tuple[int, ...]

    @property
    def told(self) -> str:
        """Its kind and its name."""
        return f"{type(self.module).__name__} ({self.name})"


@dataclass(frozen=True, eq=False)
class Body:
    """What is below the first biased linear layer.

    Args:
        steps: the modules without children that are called below it, first to last.
        layer: the name of the linear layer.
        chain: whether these modules, called one after another and once each, give the linear layer what the model
            gives it, to the last bit, up to its shape.
    """

    steps: list[Step]
    layer: str
    chain: bool

    @property
    def learned(self) -> tuple[str, ...]:
        """The beginnings of the names of the body's parameters."""
        return tuple(f"{step.name}." for step in self.steps)


def body(record: GradientRecord, model: nn.Module) -> Body:
    """Find the body by sending a made-up record through a float64 copy of the model.

    Raises:
        BadInputError: no biased linear layer that sees one row a record.
    """
    asked = twin(record, model).requires_grad_(False)
    steps: list[Step] = []
    reached: list[tuple[str, Tensor]] = []

    def see(name: str, module: nn.Module, inputs: Tensor) -> None:
        if reached:
            return
        if isinstance(module, nn.Linear) and module.bias is not None:
            reached.append((name, inputs))
        else:
            steps.append(Step(name, module, tuple(inputs.shape[1:])))

    hooks = [
        module.register_forward_pre_hook(lambda module, args, name=name: see(name, module, args[0]))
        for name, module in asked.named_modules()
        if not list(module.children())
    ]
    probe = torch.rand((1, *record.shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad(), seeded(0):
        asked(probe)
        for hook in hooks:
            hook.remove()
        if not reached or reached[0][1].ndim != 2:
            raise BadInputError("expected a model with a biased linear layer that sees one row a record. Use a search.")
        layer, entered = reached[0]
        names = {step.name for step in steps}
        return Body(steps, layer, len(names) == len(steps) and torch.equal(_called(steps, probe), entered))


def _called(steps: list[Step], value: Tensor) -> Tensor:
    """What the modules give one after another, `(1, features)`; of no use where a shape does not fit."""
    for step in steps:
        if value.numel() != math.prod(step.shape):
            break
        value = step.module(value.view(1, *step.shape))
    return value.flatten(1)
