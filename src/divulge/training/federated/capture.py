"""What a server, and so an attacker, holds of a round: the weights it sent, and what each client shared of them."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from divulge.errors import BadInputError
from divulge.releases import GradientRecord


@dataclass(frozen=True, eq=False)
class Capture:
    """One client's record of one round, with the public weights that it belongs to; nothing private is in it.

    Args:
        round: number of the round, from 1.
        client: number of the client, from 0.
        public: the model's parameters and buffers as the server sent them, by name.
        record: what the client shared.
        replayable: whether each local step took the whole batch of the record, or no two steps share a record of it, so
            that playing the client again with the true batch gives the record. A client that goes through its data
            several times in smaller batches tells nobody which.
    """

    round: int
    client: int
    public: Mapping[str, Tensor]
    record: GradientRecord
    replayable: bool

    def model(self, like: nn.Module) -> nn.Module:
        """A copy of the network with the public weights of that round."""
        model = copy.deepcopy(like)
        model.load_state_dict(dict(self.public))
        return model


@dataclass(frozen=True, eq=False)
class Behind:
    """What stands behind a capture: to score an attack by, and for an oracle adversary; no attack may see the rows.

    Args:
        rows: numbers of the records in the data, in the order of the steps where no two steps share one.
        randomness: what the defense drew.
    """

    rows: np.ndarray
    randomness: Any = None


def written(captures: Sequence[Capture]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Tensors by name and one entry of plain values a capture, from which `read` makes the same captures.

    The public weights of a round are written once.
    """
    tensors: dict[str, Tensor] = {}
    for one in captures:
        tensors |= {f"{one.round}/public/{name}": value for name, value in one.public.items()}
        tensors |= {f"{one.round}/{one.client}/{name}": value for name, value in one.record.gradients.items()}
    return tensors, [_told(one) for one in captures]


def read(tensors: Mapping[str, Any], facts: Sequence[Mapping[str, Any]]) -> list[Capture]:
    """The captures behind what `written` gave, whose tensors may have become arrays.

    Raises:
        BadInputError: tensors or facts that are missing.
    """
    try:
        return [_read(tensors, one) for one in facts]
    except (KeyError, TypeError) as error:
        raise BadInputError(
            f"captures: expected the tensors and facts of one call of `written`, but {error!r} is missing or unknown."
        ) from error


def _told(capture: Capture) -> dict[str, Any]:
    record = capture.record
    told = {field.name: getattr(record, field.name) for field in fields(record) if field.name != "gradients"}
    return {
        "round": capture.round,
        "client": capture.client,
        "replayable": capture.replayable,
        "parameters": list(record.gradients),
        "record": {**told, "shape": list(record.shape), "step_sizes": list(record.step_sizes)},
    }


def _read(tensors: Mapping[str, Any], told: Mapping[str, Any]) -> Capture:
    number, client, facts = told["round"], told["client"], dict(told["record"])
    gradients = {name: torch.as_tensor(tensors[f"{number}/{client}/{name}"]) for name in told["parameters"]}
    public = {
        name.removeprefix(f"{number}/public/"): torch.as_tensor(value)
        for name, value in tensors.items()
        if name.startswith(f"{number}/public/")
    }
    record = GradientRecord(gradients, **{**facts, **{name: tuple(facts[name]) for name in ("shape", "step_sizes")}})
    return Capture(number, client, public, record, told["replayable"])
