"""What the gradient of a variational bottleneck tells in closed form: its input, its code, and the noise drawn."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from divulge.attacks.gradients.labels import label_by_bias
from divulge.attacks.gradients.layer_input import layer_input
from divulge.attacks.gradients.layers import Linear, head, linear_layers
from divulge.errors import BadInputError
from divulge.models.stochastic import BUFFER, Sample
from divulge.releases import GradientRecord


@dataclass(frozen=True, eq=False)
class Bottleneck:
    """A variational bottleneck of linear layers in the public model.

    Args:
        noise: the name that `functional_call` takes for its noise.
        encoder: the layer before the draw.
        draw: the draw.
        decoder: the layer behind it.
    """

    noise: str
    encoder: Linear
    draw: Sample
    decoder: Linear


@dataclass(frozen=True, eq=False)
class Opened:
    """What a batch sent through a bottleneck, float64 with one row a record.

    Args:
        inputs: what entered the encoder `(B, d)`.
        codes: what left the draw `(B, K)`.
        noise: what was drawn `(B, K)`.
        outputs: what left the decoder `(B, d)`.
        targets: the class numbers `(B,)`.
        residual: the share of the decoder's weight gradient that is left unexplained.
    """

    inputs: Tensor
    codes: Tensor
    noise: Tensor
    outputs: Tensor
    targets: Tensor
    residual: float


def bottleneck(record: GradientRecord, model: nn.Module) -> Bottleneck:
    """The first variational bottleneck of a model between two biased linear layers.

    Raises:
        BadInputError: there is none.
    """
    linear = {layer.name: layer for layer in linear_layers(record, model) if layer.bias is not None}
    order = [name for name, module in model.named_modules() if name in linear or isinstance(module, Sample)]
    for before, name, after in zip(order, order[1:], order[2:], strict=False):
        draw = model.get_submodule(name)
        if isinstance(draw, Sample) and before in linear and after in linear:
            return Bottleneck(f"{name}.{BUFFER}", linear[before], draw, linear[after])
    raise BadInputError(
        "expected a model with a variational bottleneck between two linear layers with biases, got none. Against a "
        "convolutional one use a search."
    )


def open_one(record: GradientRecord, model: nn.Module) -> Opened:
    """Open the bottleneck for a batch of one, whatever lies below it: two ratios and one forward step.

    The encoder's gradients give its input, and so the mean and deviation of the code; the decoder's give the code; what
    is left between them is the noise.

    Raises:
        BadInputError: a larger batch, or no bottleneck.
    """
    if record.batch_size != 1:
        raise BadInputError(
            f"expected the record of a batch of 1, got {record.batch_size}. Open a larger one from its inputs."
        )
    found = bottleneck(record, model)
    entered, left = layer_input(found.encoder), layer_input(found.decoder)
    targets = torch.tensor([label_by_bias(record, model)])
    residual = max(entered.residual, left.residual)
    return _opened(found, entered.values[None], left.values[None], targets, residual=residual)


def open_batch(record: GradientRecord, model: nn.Module, inputs: Tensor) -> Opened:
    """Open the bottleneck in front of the last layer for a batch whose inputs to the encoder are known.

    The encoder's gradients are then linear in the signal of each record at its outputs, and this signal in the last
    layer's, which is solved for with few unknowns; the decoder's gradients are linear in the codes.

    Args:
        record: of the batch.
        model: as it was shared.
        inputs: what enters the encoder, float64 `(B, d)`.

    Raises:
        BadInputError: no bottleneck right before the last layer.
    """
    found, last = bottleneck(record, model), head(record, model)
    order = [name for name, module in model.named_modules() if not list(module.children())]
    if order[order.index(found.decoder.name) + 1 :] != [last.name]:
        raise BadInputError(
            "expected a bottleneck right before the last linear layer of the model, got one further down."
        )
    shared = torch.cat([found.encoder.weight, found.encoder.biased()[:, None]], dim=1)
    known = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1)
    signals = torch.linalg.lstsq(known.T, shared.T).solution  # (B, 2K)
    mean, _ = found.draw.moments(found.encoder.outputs(inputs))
    size = record.batch_size if record.reduction == "mean" else 1
    above = signals[:, : mean.shape[1]] - found.draw.beta * mean / size
    decode, classify = (layer.module.weight.detach().double().cpu() for layer in (found.decoder, last))
    shares = torch.linalg.lstsq((classify @ decode).T, above.T).solution.T  # (B, classes)
    passed = shares @ classify
    solved = torch.linalg.lstsq(passed.T, found.decoder.weight).solution
    left = found.decoder.weight - passed.T @ solved
    return _opened(
        found, inputs, solved, shares.argmin(dim=1), residual=float(left.norm() / found.decoder.weight.norm())
    )


def _opened(found: Bottleneck, inputs: Tensor, codes: Tensor, targets: Tensor, *, residual: float) -> Opened:
    mean, std = found.draw.moments(found.encoder.outputs(inputs))
    return Opened(inputs, codes, (codes - mean) / std, found.decoder.outputs(codes), targets, residual)
