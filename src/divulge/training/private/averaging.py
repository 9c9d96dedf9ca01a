"""The moving average of the weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class Average:
    """An exponential moving average of parameters, which starts fast: it averages noise that is released anyway.

    De et al. 2022 (arXiv 2204.13650), section 3.4.

    Args:
        parameters: what is averaged.
        decay: share of the old average that is kept each step; None for the parameters themselves, unaveraged.
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float | None) -> None:
        self.parameters, self.decay = parameters, decay
        self.values = [] if decay is None else [parameter.detach().clone() for parameter in parameters]

    def update(self, step: int) -> None:
        """Take in the parameters after step number `step`, from 0."""
        if self.decay is not None:
            kept = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(self.values, [p.detach() for p in self.parameters], 1 - kept)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Put the average in the parameters' place inside the block."""
        raw = [parameter.detach().clone() for parameter in self.parameters] if self.values else []
        self.apply()
        yield
        self._set(raw)

    def apply(self) -> None:
        """Put the average in the parameters' place for good."""
        self._set(self.values)

    def _set(self, values: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.parameters, values, strict=bool(values)):
                parameter.copy_(value)
