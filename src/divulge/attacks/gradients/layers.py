"""The linear layers whose gradients an attacker reads."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from divulge.errors import BadInputError
from divulge.releases import GradientRecord


@dataclass(frozen=True, eq=False)
class Linear:
    """One linear layer of the public model, and what a client shared of it, on the CPU.

    Args:
        name: of the module in the model.
        module: the layer itself.
        weight: the shared gradient of its weight, float64 `(out, in)`.
        bias: of its bias, float64 `(out,)`; None if it has none.
    """

    name: str
    module: nn.Linear
    weight: Tensor
    bias: Tensor | None

    def biased(self) -> Tensor:
        """The gradient of the bias.

        Raises:
            BadInputError: the layer has none.
        """
        if self.bias is None:
            raise BadInputError(f"layer {self.name}: expected a linear layer with a bias, got one without.")
        return self.bias

    def outputs(self, inputs: Tensor) -> Tensor:
        """What the layer answers to float64 `(n, in)`."""
        bias = self.module.bias
        return functional.linear(inputs, _plain(self.module.weight), None if bias is None else _plain(bias))


def linear_layers(record: GradientRecord, model: nn.Module) -> list[Linear]:
    """The linear layers whose gradients are in the record, in the model's order."""
    found = []
    for name, module in model.named_modules():
        weight, bias = (record.gradients.get(f"{name}.{one}" if name else one) for one in ("weight", "bias"))
        if isinstance(module, nn.Linear) and weight is not None:
            found.append(Linear(name, module, _plain(weight), None if bias is None else _plain(bias)))
    return found


def head(record: GradientRecord, model: nn.Module) -> Linear:
    """The last linear layer, which gives the logits.

    Raises:
        BadInputError: there is none with an output for each class.
    """
    layers = linear_layers(record, model)
    if not layers or layers[-1].module.out_features != record.classes:
        raise BadInputError(
            f"expected a last linear layer with an output for each of {record.classes} classes, got {_told(layers)}."
        )
    return layers[-1]


def layer(record: GradientRecord, model: nn.Module, name: str) -> Linear:
    """The linear layer called `name`.

    Raises:
        BadInputError: there is no linear layer of that name in the record.
    """
    layers = linear_layers(record, model)
    for one in layers:
        if one.name == name:
            return one
    raise BadInputError(f"no linear layer called {name!r} in the record; there is {_told(layers)}.")


def twin(record: GradientRecord, model: nn.Module) -> nn.Module:
    """A float64 copy of the model in the record's mode on the CPU, to ask without touching the original."""
    return copy.deepcopy(model).double().cpu().train(record.training)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().double().cpu()


def _told(layers: Sequence[Linear]) -> str:
    return ", ".join(f"{one.name} ({one.module.out_features} outputs)" for one in layers) or "no linear layer"
