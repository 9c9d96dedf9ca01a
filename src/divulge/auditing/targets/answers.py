"""How a model's answers are read: which part holds the posteriors, on what scale, and whether they can be trusted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from divulge.errors import BadInputError
from divulge.releases import FLOOR

PROBE = 8
"""How many records a model is tried on before it is audited."""

TOLERANCE = 1e-3
"""How far a sum of probabilities may be from 1, and an answer from the same answer in other company."""

LOW_PRECISION = {torch.float16, torch.bfloat16}


@dataclass(frozen=True)
class Reading:
    """How to turn a reply into a table `(n, classes)`.

    Args:
        classes: how many classes.
        logits: whether the table holds logits, else probabilities.
        entry: key or position of the table where the reply is a tuple, a mapping or an object with `logits`.
        single: whether the reply is one number a record, about class 1 of two.
    """

    classes: int
    logits: bool
    entry: str | int | None = None
    single: bool = False

    def table(self, reply: Any) -> Tensor:
        """Logits or probabilities, floating point `(n, classes)`, with gradients where the reply has them."""
        value = _tensor(reply if self.entry is None else _entries(reply)[self.entry])
        if not self.single:
            return value
        value = value.reshape(-1)
        return torch.stack([torch.zeros_like(value) if self.logits else 1 - value, value], dim=1)

    def log_posteriors(self, reply: Any) -> Tensor:
        """Log-posteriors up to a constant per row, `(n, classes)`, as training by cross-entropy wants them."""
        table = self.table(reply)
        return table if self.logits else table.clamp_min(FLOOR).log()


@dataclass(frozen=True)
class Examined:
    """What trying a model on a few records told: how to read it, what to note, how many records it was asked about."""

    reading: Reading
    notes: tuple[str, ...]
    asked: int


def examine(
    ask: Callable[[Tensor], Any],
    probe: Tensor,
    *,
    classes: int,
    logits: bool | None,
    budget: int | None = None,
    hint: str = "",
) -> Examined:
    """Try a model on the first few records of `probe`.

    Args:
        ask: records in, whatever the model replies out.
        probe: float32 `(n, *shape)`; up to `PROBE` of them are asked about, two of those once more on their own.
        classes: how many classes the records have.
        logits: whether the model returns logits; None to find out.
        budget: how many records it may be asked about in all.
        hint: what to look at where an answer depends on the records asked with it.

    Raises:
        BadInputError: no records, a budget below what trying takes, no table of the expected shape in the reply, NaN or
            infinity, neither logits nor probabilities, or an answer that depends on which records are asked together.
    """
    if not len(probe):
        raise BadInputError("probe: expected a few records to try the model on, got none.")
    records = probe[:PROBE]
    if budget is not None and budget < len(records) + 4:
        raise BadInputError(
            f"query budget: trying the model on its first {len(records)} records takes up to {len(records) + 4} "
            f"queries, and the budget is {budget}. Raise it."
        )
    reply = ask(records)
    entry, value = _find(reply, rows=len(records), classes=classes)
    single = tuple(value.shape) in ((len(records),), (len(records), 1)) and classes == 2
    if not bool(torch.isfinite(value).all()):
        bad = int((~torch.isfinite(value)).reshape(len(records), -1).any(dim=1).sum())
        raise BadInputError(
            f"the model answers with NaN or infinity for {bad} of {len(records)} records. Check its weights and the "
            "range of its inputs (pixels in [0, 1])."
        )
    numbers = value.detach().cpu().double().numpy()
    reading = Reading(classes, _is_logits(numbers, single=single, told=logits), entry, single)
    notes = _notes(reading, reply, told=logits)
    if len(records) == 1:
        return Examined(reading, notes, 1)

    chosen = [0, len(records) - 1]
    together = _comparable(reading.table(reply))[chosen]
    alone = _alone(ask, records[chosen], reading, hint)
    asked = len(records) + 2
    allowed = 30 * TOLERANCE if value.dtype in LOW_PRECISION else TOLERANCE
    if _distance(together, alone) > allowed:
        again = _alone(ask, records[chosen], reading, hint)
        asked += 2
        spread = _distance(alone, again)
        if spread <= allowed:
            raise BadInputError(
                f"the answer for a record depends on the records asked with it: alone and in a batch of {len(records)} "
                f"it differs by {_distance(together, alone):.3g} (allowed: {allowed:g}). "
                f"{hint or 'Batch norm on statistics of the batch does this, and layers that mix records.'} "
                "Such a model has no posteriors of its own for a record."
            )
        notes += (
            f"its answers are random: the same record asked twice differed by {spread:.2g} (dropout left on, or a "
            "defense)",
        )
    return Examined(reading, notes, asked)


def looks_like_logits(table: np.ndarray, told: bool | None = None) -> bool:
    """Whether a finite table `(n, classes)` holds logits (or log-probabilities) rather than probabilities.

    Args:
        table: the answers.
        told: what the person said, if anything.

    Raises:
        BadInputError: neither, or what the person said cannot be.

    Example:
        >>> looks_like_logits(np.array([[0.2, 0.8]])), looks_like_logits(np.array([[-1.5, 3.0]]))
        (False, True)
    """
    sums = table.sum(axis=1)
    fits = (table.min(axis=1) >= -1e-6) & (np.abs(sums - 1) <= TOLERANCE)
    if told is not None:
        if told and fits.all():
            raise BadInputError(
                "expected logits, as was said, but every row is 0 or more and sums to 1: probabilities. Leave out "
                "logits=True (--logits)."
            )
        return told
    if fits.all():
        return False
    if fits.mean() > 0.5 or table.min() >= 0:
        worst = int(np.flatnonzero(~fits)[np.abs(sums[~fits] - 1).argmax()])
        raise BadInputError(
            f"posteriors: expected rows of 0 or more that sum to 1 (within {TOLERANCE:g}), but {int((~fits).sum()):,} "
            f"of {len(table):,} rows do not: row {worst} has a smallest value of {table[worst].min():.4g} and sums to "
            f"{sums[worst]:.4g}. Divide rounded or unnormalized rows by their sum; if these are logits, say so "
            "(logits=True or --logits)."
        )
    return True


def _is_logits(numbers: np.ndarray, *, single: bool, told: bool | None) -> bool:
    if not single:
        return looks_like_logits(numbers, told)
    if told is not None:
        return told
    return bool(numbers.min() < 0 or numbers.max() > 1)


def _notes(reading: Reading, reply: Any, *, told: bool | None) -> tuple[str, ...]:
    one, many = ("logit", "logits") if reading.logits else ("probability", "probabilities")
    notes = [] if told is not None else [f"its answers were read as {many}, which the first ones look like"]
    if reading.entry is not None:
        notes.append(f"it replies with a {type(reply).__name__}, of which {reading.entry!r} was read")
    if reading.single:
        notes.append(f"it answers with one number a record, read as the {one} of class 1")
    return tuple(notes)


def _entries(reply: Any) -> Mapping[Any, Any]:
    """The parts of a reply that is more than a table; empty where it is one."""
    if isinstance(reply, Mapping):
        return reply
    if isinstance(reply, (tuple, list)) and any(isinstance(part, (Tensor, np.ndarray)) for part in reply):
        return dict(enumerate(reply))
    if hasattr(reply, "logits"):
        return {"logits": reply.logits}
    return {}


def _find(reply: Any, *, rows: int, classes: int) -> tuple[Any, Tensor]:
    """Where the answers are, and they: what is called `logits`, else the first part of fitting shape."""
    wanted = [(rows, classes), *([(rows, 1), (rows,)] if classes == 2 else [])]
    parts = _entries(reply)
    if not parts:
        value = _tensor(reply)
        if tuple(value.shape) not in wanted:
            raise _misshapen(value, rows=rows, classes=classes)
        return None, value
    keys = ["logits"] if "logits" in parts else list(parts)
    for shape in wanted:
        for key in keys:
            if isinstance(parts[key], (Tensor, np.ndarray)) and tuple(parts[key].shape) == shape:
                return key, _tensor(parts[key])
    shapes = ", ".join(f"{key!r}: {tuple(getattr(parts[key], 'shape', ()))}" for key in keys[:5])
    raise BadInputError(
        f"the model replies with a {type(reply).__name__} ({shapes}) and none of its parts has shape ({rows}, "
        f"{classes}), a row for each record and a column for each class. Wrap the model so that it returns its logits "
        "alone."
    )


def _misshapen(value: Tensor, *, rows: int, classes: int) -> BadInputError:
    shape, came = tuple(value.shape), f"expected an answer of shape ({rows}, {classes}), got {tuple(value.shape)}"
    if value.ndim == 2 and shape[0] == rows and shape[1] > 1:
        return BadInputError(
            f"{came}: the model tells {shape[1]} classes apart and the data has {classes}. Name all {shape[1]} classes "
            "of the model in the Dataset (classes=...), in its order."
        )
    if shape in ((rows,), (rows, 1)):
        return BadInputError(
            f"{came}: one number a record, where the data has {classes} classes. Return posteriors, a column for each "
            "class; for class numbers alone, one-hot rows."
        )
    return BadInputError(f"{came}: a row for each record and a column for each class.")


def _tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value if value.is_floating_point() else value.double()
    if value is None:
        raise BadInputError(
            "expected an answer that is a tensor or array of numbers, got None. Does the model return it?"
        )
    try:
        return torch.from_numpy(np.array(value, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise BadInputError(
            f"expected an answer that is a tensor or array of numbers, got {type(value).__name__}: {error}"
        ) from None


def _alone(ask: Callable[[Tensor], Any], records: Tensor, reading: Reading, hint: str) -> Tensor:
    parts = []
    for record in records.split(1):
        try:
            part = _comparable(reading.table(ask(record)))
        except BadInputError as error:
            raise BadInputError(
                f"the model answers a batch but not one record alone: {error} {hint}".strip()
            ) from error
        if tuple(part.shape) != (1, reading.classes):
            raise BadInputError(
                f"the model answers one record alone with shape {tuple(part.shape)} instead of (1, {reading.classes}). "
                "A squeeze() without a dimension does this: use flatten(1) or squeeze(-1)."
            )
        parts.append(part)
    return torch.cat(parts)


def _comparable(table: Tensor) -> Tensor:
    return table.detach().cpu().double()


def _distance(first: Tensor, second: Tensor) -> float:
    """Largest difference, relative where values are beyond 1, once what is constant in a row is gone."""
    if first.shape != second.shape:
        return float("inf")
    a, b = (x - x.mean(dim=1, keepdim=True) for x in (first, second))
    scale = torch.maximum(a.abs().amax(dim=1, keepdim=True), torch.ones_like(a[:, :1]))
    return float(((a - b).abs() / scale).max())
