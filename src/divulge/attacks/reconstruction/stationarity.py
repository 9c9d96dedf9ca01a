"""How far weights are from a weighted sum of candidates' gradients, with exact slopes, for many runs at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot


def margin_slopes(logits: Tensor, targets: Tensor) -> Tensor:
    """Slope of each margin by the logits `(..., C)`: 1 at the class itself, -1 at the likeliest other one.

    Where `C` is 1, the one logit is that of the second of two classes.

    Example:
        >>> margin_slopes(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([1])).tolist()
        [[-1.0, 1.0, 0.0]]
    """
    if logits.shape[-1] == 1:
        return (2 * targets - 1)[..., None].to(logits)
    own = one_hot(targets, logits.shape[-1]).bool()
    other = logits.masked_fill(own, -torch.inf).argmax(dim=-1)
    return own.to(logits) - one_hot(other, logits.shape[-1])


@dataclass(frozen=True, eq=False)
class Residual:
    """The squared distance of the weights from the sum, and its slopes.

    Args:
        value: of each run `(R,)`.
        points: slope by the candidates, as they were given.
        multipliers: slope by their multipliers `(R, m)`.
    """

    value: Tensor
    points: Tensor
    multipliers: Tensor


def stationarity(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    points: Tensor,
    multipliers: Tensor,
    targets: Tensor,
    sharpness: Tensor,
    *,
    hidden: bool,
) -> Residual:
    """`|theta - sum_j l_j grad_theta m_j|^2` where `m_j` is the margin of candidate `j`, in closed form.

    The sum's layers are products `P^T A` of what comes down to a layer and what goes up into it, with as many terms as
    there are candidates. Their distance from a weight `W` is taken through the candidates' products with each other,
    `|W|^2 - 2 <P, A W^T> + <P P^T, A A^T>`, where `A W^T` is what the network computes anyway: no matrix as large as
    a gradient is formed. Equal to twice differentiating the network with ReLUs whose slope is
    `sigmoid(sharpness * z)`.

    Args:
        weights: of each layer `(out, in)`.
        biases: of each layer `(out,)`; None where it has none.
        points: candidates `(R, m, in)`, in whatever coordinates the first layer takes.
        multipliers: `(R, m)`.
        targets: class of each candidate `(R, m)`.
        sharpness: of each run `(R,)`.
        hidden: whether the layers between the first and the last are matched too, weights and biases.
    """
    sharp = sharpness[:, None, None]
    depth = len(weights)
    matched = [hidden or layer in (0, depth - 1) for layer in range(depth)]
    scaled = multipliers[..., None]

    ups, lifted, gates = [points], [], []
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        lifted.append(ups[-1] @ weight.T)
        if layer < depth - 1:
            before = lifted[-1] if bias is None else lifted[-1] + bias
            gates.append(torch.sigmoid(sharp * before))
            ups.append(before.relu())
    bias = biases[-1]
    downs = [margin_slopes(lifted[-1] if bias is None else lifted[-1] + bias, targets)]
    passed: list[Tensor] = []
    for layer in range(depth - 1, 0, -1):
        passed.insert(0, downs[0] @ weights[layer])
        downs.insert(0, passed[0] * gates[layer - 1])

    value = points.new_zeros(len(points))
    by_down: list[Tensor] = []
    by_up: list[Tensor] = []
    by_scale = torch.zeros_like(multipliers)
    for layer in range(depth):
        up, down, weight, bias = ups[layer], downs[layer], weights[layer], biases[layer]
        share = scaled * down
        slope_down, slope_up = torch.zeros_like(down), torch.zeros_like(up)
        if matched[layer]:
            similar, alike = up @ up.mT, share @ share.mT
            value = (
                value + weight.square().sum() - 2 * (share * lifted[layer]).sum((1, 2)) + (alike * similar).sum((1, 2))
            )
            slope_down = -2 * (lifted[layer] - similar @ share)
            down_weight = passed[layer - 1] if layer else down @ weight
            slope_up = -2 * scaled * (down_weight - (down @ share.mT) @ up)
        if bias is not None and matched[layer]:
            left = bias - share.sum(1)
            value = value + left.square().sum(1)
            slope_down = slope_down - 2 * left[:, None]
        by_scale = by_scale + (down * slope_down).sum(2)
        by_down.append(scaled * slope_down)
        by_up.append(slope_up)

    by_gate: list[Tensor] = []
    slope = by_down[0]
    for layer in range(1, depth):
        by_gate.append(slope * passed[layer - 1])
        slope = by_down[layer] + (slope * gates[layer - 1]) @ weights[layer].T
    slope = by_up[depth - 1]
    for layer in range(depth - 2, -1, -1):
        gate = gates[layer]
        before = slope * gate + by_gate[layer] * sharp * gate * (1 - gate)
        slope = by_up[layer] + before @ weights[layer]
    return Residual(value, slope, by_scale)
