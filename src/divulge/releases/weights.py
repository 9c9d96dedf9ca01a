"""A trained network, published."""

from dataclasses import dataclass

from torch import nn

from divulge.errors import BadInputError


@dataclass(frozen=True, eq=False)
class Weights:
    """The network itself with its weights, and how it is used.

    Args:
        model: maps float32 `(N, *shape)` with pixels in `[0, 1]` to logits `(N, classes)`.
        shape: of a record.
        classes: how many.

    Raises:
        BadInputError: sizes below 1, or weights or buffers that are not finite.
    """

    model: nn.Module
    shape: tuple[int, ...]
    classes: int

    def __post_init__(self) -> None:
        if not self.shape or min(*self.shape, self.classes) < 1:
            raise BadInputError(
                f"weights: expected sizes of 1 or more, got records of shape {self.shape} and {self.classes} classes."
            )
        for name, weight in self.model.state_dict().items():
            if not weight.isfinite().all():
                raise BadInputError(f"weights: {name} holds NaN or infinity. Attack a trained network.")
