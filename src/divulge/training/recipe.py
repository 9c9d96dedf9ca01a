"""How a target is trained: hashable settings that its shadow models repeat."""

from dataclasses import dataclass
from typing import Literal

from divulge.errors import BadInputError


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Args:
        epochs: passes over the data, at most.
        batch_size: records a step.
        optimizer: Adam (Kingma and Ba 2015) or SGD with momentum.
        lr: learning rate of the first epoch.
        lr_decay: factor on the learning rate after each epoch.
        momentum: of SGD.
        weight_decay: L2 penalty, added to the gradient.
        patience: stop after this many epochs without a lower validation loss and keep the best epoch; None to train to
            the end. Needs validation records.
        augment: names of the random transforms of each batch, see `divulge.training.augment`.
        precision: `fast` uses bfloat16 autocast and channels-last memory where the machine does both in hardware;
            `float32` never.
    """

    epochs: int = 50
    batch_size: int = 128
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = 1e-3
    lr_decay: float = 0.96
    momentum: float = 0.9
    weight_decay: float = 1e-4
    patience: int | None = None
    augment: tuple[str, ...] = ()
    precision: Literal["fast", "float32"] = "fast"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "lr", "lr_decay"):
            if getattr(self, name) <= 0:
                raise BadInputError(f"recipe: expected {name} > 0, got {getattr(self, name)}.")
        if self.weight_decay < 0 or not 0 <= self.momentum < 1:
            raise BadInputError(
                "recipe: expected weight_decay >= 0 and 0 <= momentum < 1, got "
                f"{self.weight_decay} and {self.momentum}."
            )
        if self.patience is not None and self.patience < 1:
            raise BadInputError(f"recipe: expected patience >= 1 or none, got {self.patience}.")
