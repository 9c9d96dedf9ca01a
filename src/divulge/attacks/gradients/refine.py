"""The picture below a ReLU: of all that meet the equations the smoothest, in the box, dark where the ReLU was."""

import copy
import math

import torch
from torch import Tensor, nn

from divulge.attacks.gradients.convolution import Convolution, unit
from divulge.attacks.gradients.elementwise import Known
from divulge.attacks.gradients.priors import anisotropic

LR = 0.02
"""Adam's first step size, in pixels; half a cosine brings it to 0."""


def refine(
    start: Tensor,
    below: list[nn.Module],
    convolution: Convolution,
    known: Known,
    slopes: Tensor,
    believed: Tensor,
    *,
    steps: int,
    tv: float,
) -> Tensor:
    """A picture in [0, 1] that leaves little of a convolution's equations over, has a small total variation, and stays
    below zero in the outputs that a ReLU turned into zeros: by Adam, in float32.

    Args:
        start: where the search starts, `(C, H, W)`.
        below: modules between the picture and the convolution.
        convolution: the first of a network, with a ReLU on top.
        known: of its output; trusted where the ReLU let it through.
        slopes: the shared gradient of its weight.
        believed: which entries of it are to be believed, 1 or 0.
        steps: of the search.
        tv: weight of the total variation beside the mean squares of equations scaled to 1.
    """
    module = convolution.module
    bare = known.value if module.bias is None else known.value - module.bias[:, None, None]
    trust = known.trust * unit(bare, known.trust)
    dark = (known.trust == 0) * trust.max()
    rows, counted = (part.flatten(2).transpose(0, 1).flatten(1) for part in (slopes, believed))
    counted = counted * unit(rows, counted)
    sees = convolution.sees(known.signal).T.contiguous()
    trust, dark, told, rows, counted, sees = (one.float() for one in (trust, dark, known.value, rows, counted, sees))
    layers = [copy.deepcopy(one).float() for one in (*below, module)]
    picture = start.float().clamp(0, 1).requires_grad_()
    optimizer = torch.optim.Adam([picture], lr=LR)
    with torch.enable_grad():
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = LR * (1 + math.cos(math.pi * step / steps)) / 2
            entered = picture[None]
            for one in layers[:-1]:
                entered = one(entered)
            found = layers[-1](entered)[0]
            left = trust * (found - told) + dark * found.clamp(min=0)
            seen = counted * (entered.view(len(rows), -1) @ sees - rows)
            loss = left.square().mean() + seen.square().mean() + tv * anisotropic(picture[None])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                picture.clamp_(0, 1)
    return picture.detach()
