"""What went into a biased linear layer, and the signal that came back out of it: closed forms for one record."""

from dataclasses import dataclass

import torch
from torch import Tensor

from divulge.attacks.gradients.layers import Linear


@dataclass(frozen=True, eq=False)
class LayerInput:
    """The input of a linear layer on the one record of a batch.

    Args:
        values: float64 `(in,)`; zero where a defense zeroed the column.
        residual: share of the weight gradient that it leaves unexplained, from 0 for an exact answer to 1 for none,
            as where no neuron was active.
    """

    values: Tensor
    residual: float


def layer_input(layer: Linear) -> LayerInput:
    """The input `h` of a biased linear layer, from `dW = d h^T` and `db = d`: `dW^T db / |db|^2`.

    Phong et al. 2018 (doi 10.1109/TIFS.2017.2787987) divide one row by its bias; weighing all rows by `db^2` is the
    least-squares answer, and the likeliest where noise was added to the weights' gradient alone.

    Raises:
        BadInputError: no bias.
    """
    bias, size = layer.biased(), layer.weight.norm()
    if not bias.any() or size == 0:
        return LayerInput(torch.zeros_like(layer.weight[0]), 1.0)
    values = layer.weight.T @ bias / bias.square().sum()
    return LayerInput(values, float((layer.weight - bias[:, None] * values).norm() / size))


def signal_below(layer: Linear) -> Tensor:
    """The gradient of the loss with respect to the layer's input, `W^T db`: exact, summed over the batch.

    With it the body below is on its own: the gradient of `<signal, body(x)>` is the shared gradient of the body, for
    a batch of one.

    Returns:
        float64 `(in,)`.

    Raises:
        BadInputError: no bias.
    """
    return layer.module.weight.detach().double().cpu().T @ layer.biased()
