"""How a federation trains: hashable settings."""

from dataclasses import dataclass
from typing import Literal

from divulge.errors import BadInputError


@dataclass(frozen=True)
class Federation:
    """Federated averaging, McMahan et al. 2017 (arXiv 1602.05629): plain SGD at the clients, a mean at the server.

    Clients compute in training mode and in float32. They keep no momentum, so that an update is a sum of gradients.

    Args:
        clients: how many there are.
        rounds: how many times the server sends its weights out.
        fraction: of the clients that take part in a round, drawn anew for each; at least one does.
        epochs: passes of a client over its records in a round.
        steps: local steps in a round, in place of whole epochs; 1 shares the gradient of one batch.
        batch_size: records a local step; None for all that the client has.
        lr: learning rate of the first round.
        lr_decay: factor on it after each round.
        split: `iid` deals the records at random; `classes` gives each client records of `classes_per_client` classes.
        classes_per_client: 2 is the published non-IID setting.
        weighting: of clients in the mean: by the `size` of their data, or all `equal`.
        sharing: where a defense acts: once on the `update` that leaves the client, or on the gradient of each local
            `step` that leads to it.
    """

    clients: int = 10
    rounds: int = 50
    fraction: float = 1.0
    epochs: int = 1
    steps: int | None = None
    batch_size: int | None = 32
    lr: float = 0.1
    lr_decay: float = 1.0
    split: Literal["iid", "classes"] = "iid"
    classes_per_client: int = 2
    weighting: Literal["size", "equal"] = "size"
    sharing: Literal["update", "step"] = "update"

    def __post_init__(self) -> None:
        for name in ("clients", "rounds", "epochs", "steps", "batch_size", "classes_per_client"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadInputError(f"federation: expected {name} of 1 or more, got {value}.")
        if not 0 < self.fraction <= 1:
            raise BadInputError(f"federation: expected a fraction above 0 and up to 1, got {self.fraction}.")
        if not (self.lr > 0 and self.lr_decay > 0):
            raise BadInputError(f"federation: expected lr and lr_decay > 0, got {self.lr} and {self.lr_decay}.")

    @property
    def sampled(self) -> int:
        """How many clients take part in a round."""
        return max(1, round(self.fraction * self.clients))

    def pace(self, number: int) -> float:
        """The learning rate of a round, numbered from 1."""
        return self.lr * self.lr_decay ** (number - 1)
