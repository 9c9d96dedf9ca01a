"""Only the largest entries of the gradient are shared."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from divulge.defenses.base import Defense, Shared
from divulge.errors import BadInputError
from divulge.releases import GradientRecord, Tampering


@dataclass(frozen=True)
class GradientPruning(Defense):
    """The entries of smallest magnitude are shared as zeros, in each tensor or over all of them.

    Deep gradient compression (Lin et al. 2018, arXiv 1712.01887), as Zhu et al. 2019 (arXiv 1906.08935) and Sun et al.
    2021 (arXiv 2012.06043) measure it as a defense: what is held back is not added to a later gradient, as compression
    for its own sake does. Exactly `ceil(rate * n)` of `n` entries are pruned; among equals the first ones.

    Args:
        rate: share of the entries that are pruned, from 0 to 1.
        scope: `tensor` prunes each tensor by itself, as the papers do; `model` all of them by one threshold.
    """

    name: ClassVar[str] = "gradient-pruning"
    source: ClassVar[str] = "Lin et al. 2018, arXiv 1712.01887"

    rate: float = 0.9
    scope: Literal["tensor", "model"] = "tensor"

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise BadInputError(f"gradient-pruning: expected a rate from 0 to 1, got {self.rate}.")

    def share(
        self, record: GradientRecord, *, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> Shared:
        """The gradient with zeros in place of its smallest entries."""
        return Shared(replace(record, gradients=self._pruned(record.gradients)))

    def _pruned(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.scope == "tensor":
            return {name: pruned(one, self.rate) for name, one in gradients.items()}
        together = pruned(torch.cat([one.flatten() for one in gradients.values()]), self.rate)
        parts = together.split([one.numel() for one in gradients.values()])
        return {name: part.view_as(one) for (name, one), part in zip(gradients.items(), parts, strict=True)}

    def tampering(self, model: nn.Module) -> Tampering:
        """That a zero says nothing. What is below the smallest survivor of its tensor is small, which is not told."""
        return Tampering(zeros=True) if self.rate else Tampering()


def pruned(values: Tensor, rate: float) -> Tensor:
    """A tensor with zeros in place of the `ceil(rate * n)` of its `n` entries that are closest to 0.

    Example:
        >>> pruned(torch.tensor([3.0, -1.0, 2.0, 1.0]), 0.5).tolist()
        [3.0, 0.0, 2.0, 0.0]
    """
    order = values.flatten().abs().argsort(stable=True)
    kept = values.flatten().clone()
    kept[order[: pruned_number(len(order), rate)]] = 0
    return kept.view_as(values)


def pruned_number(entries: int, rate: float) -> int:
    """`ceil(rate * entries)`, where a product that should be whole counts as whole.

    Example:
        >>> pruned_number(768, 0.01), pruned_number(100, 0.07), pruned_number(768, 1.0)
        (8, 7, 768)
    """
    return min(entries, math.ceil(rate * entries - 1e-9 * entries))
