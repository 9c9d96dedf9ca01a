"""Weight gradients of linear layers, compared without being formed: sums of one product of two vectors a record."""

import contextlib
import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from divulge.attacks.gradients.believed import TINY

Span = Mapping[str, Tensor]
"""Of one shared weight gradient `(out, in)`: `basis`, orthonormal rows `(r, in)`, and `rest` `(out, in)`, what is left
of the gradient beyond them, scaled to length 1; no `rest` where nothing is left."""
ROUNDING = 16
"""Units of the last place of a gradient that may be left over by rounding alone."""


@contextlib.contextmanager
def shifted(model: nn.Module, shifts: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Inside the block, add `shifts` to what layers answer, and see what enters them, both by the layer's name."""
    entered: dict[str, Tensor] = {}

    def shift(name: str, given: Tensor, answer: Tensor) -> Tensor:
        entered[name] = given
        return answer + shifts[name]

    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda _, given, answer, name=name: shift(name, given[0], answer)
        )
        for name in shifts
    ]
    try:
        yield entered
    finally:
        for hook in hooks:
            hook.remove()


def spanned(shared: Tensor, batch: int) -> tuple[dict[str, Tensor], Tensor]:
    """Spans of the shared gradients of some victims `(V, out, in)`, and their `coordinates` `(V, n)`.

    A batch of `B` records gives a gradient of rank `B` at most, which the basis then spans. Any basis is exact:
    whatever noise or pruning put beyond it is the rest.

    Args:
        shared: what each client shared of one weight.
        batch: records of a client.
    """
    parts = [_split(gradient, batch) for gradient in shared]
    basis, core, left = (torch.stack(one).to(shared) for one in zip(*parts, strict=True))
    sizes = shared.flatten(1).norm(dim=1, keepdim=True)
    if (left <= ROUNDING * torch.finfo(shared.dtype).eps * sizes).all():
        return {"basis": basis}, torch.cat([core.flatten(1), torch.zeros_like(left)], dim=1)
    rest = (shared - core @ basis) / left.clamp(min=TINY)[..., None]
    return {"basis": basis, "rest": rest}, torch.cat([core.flatten(1), left, torch.zeros_like(left)], dim=1)


def _split(shared: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Float64: rows that span most of a gradient `(out, in)`, what it is along them, and the length of the rest `(1,)`.

    By a random projection and one step of subspace iteration (Halko et al. 2011, doi 10.1137/090771806).
    """
    gradient = shared.double()
    start = torch.randn(len(gradient), rank, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = torch.linalg.qr(gradient.mT @ start.to(gradient)).Q
    columns = torch.linalg.qr(gradient @ rows).Q
    basis = torch.linalg.qr(gradient.mT @ columns).Q.mT
    core = gradient @ basis.mT
    return basis, core, (gradient - core @ basis).norm()[None]


def coordinates(signals: Tensor, inputs: Tensor, span: Span) -> Tensor:
    """The gradient `signals^T inputs` of a linear layer's weight, in few numbers of the same length.

    They are its coordinates along the rows of the basis, along the rest, and the length of what is beyond both: all
    inner products with the shared gradient, and with itself, are what they are for the matrix, and so is every
    distance made of them. No large numbers are subtracted where the two agree, as they would be in
    `|f|^2 - 2 <f, s> + |s|^2`.

    Args:
        signals: the gradient of the loss with respect to the layer's outputs `(B, out)`.
        inputs: what entered it `(B, in)`.
        span: of the shared gradient.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> signals, inputs = (torch.randn(2, n, generator=generator).double() for n in (5, 6))
        >>> span, shared = spanned((signals.T @ inputs)[None], batch=2)
        >>> bool((coordinates(signals, inputs, {"basis": span["basis"][0]}) - shared[0]).norm() < 1e-12)
        True
    """
    within = inputs @ span["basis"].mT
    beyond = inputs - within @ span["basis"]
    left = ((signals @ signals.mT) * (beyond @ beyond.mT)).sum()
    found = [(signals.mT @ within).flatten()]
    if "rest" in span:
        along = (signals * (beyond @ span["rest"].mT)).sum()
        found.append(along[None])
        left = left - along.square()
    return torch.cat([*found, left.clamp(min=TINY).sqrt()[None]])


def pays(weight: Tensor, batch: int) -> bool:
    """Whether the products of a batch are shorter than the matrix `(out, in)`."""
    return 2 * batch * sum(weight.shape[-2:]) < math.prod(weight.shape[-2:])
