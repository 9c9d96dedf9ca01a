"""A network beside an adversary who reads an attribute off one of its layers, both learning at once."""

from typing import Any

import torch
from torch import Tensor, nn

from divulge.errors import BadInputError
from divulge.models.base import seeded


class Censored(nn.Module):
    """A network whose layer an adversary reads, behind a reversed gradient.

    Ganin and Lempitsky 2015 (arXiv 1409.7495). In training mode it answers with logits `(N, classes * values)` of class
    and attribute together, at `class * values + attribute`; as the two are told independently, their cross-entropy is
    that of the network plus that of the adversary. The adversary descends on its part; the network, which it reads
    behind the reversal, ascends on it `gamma` times as steeply. In evaluation mode the adversary takes every value for
    equally likely, so that only the class is told.

    Args:
        inner: the network, float32 `(N, *shape)` to logits `(N, classes)`; it is trained in place.
        shape: of a record.
        layer: name of the layer whose output is read; None for what the last linear layer is given.
        values: of the attribute.
        hidden: widths of the adversary.
        gamma: weight of the reversal.
        seed: of the adversary's first weights.

    Raises:
        BadInputError: no such layer, no linear layer where none is named, or one that gives no row a record.
    """

    def __init__(
        self,
        inner: nn.Module,
        shape: tuple[int, ...],
        layer: str | None,
        *,
        values: int,
        hidden: tuple[int, ...],
        gamma: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.inner, self.values, self.gamma = inner, values, gamma
        modules = dict(inner.named_modules())
        linear = [name for name, one in modules.items() if isinstance(one, nn.Linear)]
        if layer not in modules and (layer is not None or not linear):
            got = "none, and no layer is linear" if layer is None else repr(layer)
            raise BadInputError(
                f"censoring: expected the name of a layer, got {got}. There are: {', '.join(filter(None, modules))}."
            )
        self.before, self.layer = layer is None, linear[-1] if layer is None else layer
        modes = {module: module.training for module in inner.modules()}
        try:
            with torch.no_grad(), seeded(seed):
                width = self._answer(inner.eval(), torch.zeros(2, *shape))[1].shape[1]
        finally:
            for module, mode in modes.items():
                module.training = mode
        with seeded(seed):
            parts: list[nn.Module] = []
            for size in hidden:
                parts += [nn.Linear(width, size), nn.ReLU()]
                width = size
            self.adversary = nn.Sequential(*parts, nn.Linear(width, values))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of class and attribute together."""
        logits, seen = self._answer(self.inner, x)
        if not self.training:
            return logits.repeat_interleave(self.values, dim=1)
        seen = seen.float()
        reversed_ = -self.gamma * seen + ((1 + self.gamma) * seen).detach()
        told = self.adversary(reversed_)
        return (logits.float()[:, :, None] + told.float()[:, None, :]).flatten(1)

    def _answer(self, inner: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """The network's logits, and what its layer gives `(N, d)`."""
        found: list[Tensor] = []

        def see(layer: nn.Module, given: tuple[Any, ...], out: Any) -> None:
            found.append(given[0] if self.before else out)

        hook = inner.get_submodule(self.layer).register_forward_hook(see)
        try:
            logits = inner(x)
        finally:
            hook.remove()
        if len(found) != 1 or not isinstance(found[0], Tensor) or len(found[0]) != len(x):
            raise BadInputError(f"censoring: expected layer {self.layer!r} to run once and give a row for each record.")
        return logits, found[0].flatten(1)
