"""The target as any Python callable."""

import secrets
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from divulge.auditing.targets.answers import examine
from divulge.auditing.targets.base import Target
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.releases import Posteriors


def callable_target(
    model: Callable[[Any], Any],
    *,
    classes: int,
    probe: Tensor,
    logits: bool | None = None,
    name: str = "",
    budget: int | None = None,
) -> Target:
    """A callable as a target: float32 records `(n, *shape)` in, posteriors `(n, classes)` out.

    It is handed NumPy arrays, or tensors where it fails on arrays. Its fingerprint is new each time, for what a
    callable computes has no identity that could be read off it.

    Args:
        model: the callable.
        classes: how many classes the records have.
        probe: a few records to try it on, float32 `(n, *shape)`.
        logits: whether it returns logits; found out if None.
        name: what to call it; its own name if empty.
        budget: how many records may be asked about, the probe included.

    Raises:
        BadInputError: it raises on arrays as well as on tensors, or `examine` finds its answers unusable.
    """
    label = name or getattr(model, "__name__", type(model).__name__)
    ask = Caller(model, label)
    with seeded(0):
        examined = examine(
            ask,
            probe,
            classes=classes,
            logits=logits,
            budget=budget,
            hint="If it calls a torch module, call eval() on that.",
        )
    reading = examined.reading
    release = Posteriors(
        lambda batch: reading.table(ask(batch)).double(), classes=classes, logits=reading.logits, budget=budget
    )
    release.queries = examined.asked
    return Target(
        name=label,
        kind="Python callable",
        release=release,
        fingerprint=secrets.token_hex(10),
        notes=examined.notes,
    )


class Caller:
    """Calls a person's function with copies of records, in the form that it took the first time.

    Args:
        model: the function.
        label: its name in errors.
    """

    def __init__(self, model: Callable[[Any], Any], label: str) -> None:
        self.model = model
        self.label = label
        self.forms: tuple[Callable[[Tensor], Any], ...] = (_array, torch.clone)

    def __call__(self, records: Tensor) -> Any:
        """Whatever the function returns.

        Raises:
            BadInputError: it raises in every form.
        """
        troubles = []
        for form in self.forms:
            try:
                with torch.no_grad():
                    reply = self.model(form(records))
            except Exception as error:  # noqa: BLE001 - a person's function may raise anything
                troubles.append(error)
            else:
                self.forms = (form,)
                return reply
        kinds = ("a NumPy array", "a tensor") if len(troubles) == 2 else ("records",)
        told = "; ".join(f"given {kind}: {type(e).__name__}: {e}" for kind, e in zip(kinds, troubles, strict=True))
        raise BadInputError(
            f"{self.label} could not answer {len(records)} float32 records of shape {tuple(records.shape[1:])}. {told}"
        ) from troubles[-1]


def _array(records: Tensor) -> np.ndarray:
    return records.numpy().copy()
