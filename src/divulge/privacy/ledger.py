"""What private training has spent so far: noisy sums by their setting, sealed on disk."""

import hashlib
import json
import math
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from divulge.errors import BadInputError, StoreError
from divulge.settings import build

SCHEMA = "divulge.ledger/1"
WAY_OUT = "Take the ledger from a copy, or train again: what was spent cannot be found out otherwise."

LEAST_RATE = 1e-15
LEAST_NOISE, MOST_NOISE = 1e-9, 1e9  # beyond them, squares leave what a float can tell apart

Sampling = Literal["poisson", "shuffled"]
Adjacency = Literal["add-remove", "replace-one"]


@dataclass(frozen=True)
class Phase:
    """Noisy sums of clipped gradients released under one setting.

    Args:
        sampling_rate: expected share of the records in a step, in (0, 1].
        noise_multiplier: standard deviation of the noise over the clipping norm, the most that one record adds to a
            sum, above 0.
        steps: sums released, 0 or more.
        sampling: `poisson` (each record in each step by a coin of its own) or `shuffled` (fixed batches, each record
            once an epoch: accounted as one full participation an epoch, without amplification, between sets of which
            one has an empty place for the record; Chua et al. 2024, PMLR 235, on why).

    Raises:
        BadInputError: a value out of range.
    """

    sampling_rate: float
    noise_multiplier: float
    steps: int
    sampling: Sampling = "poisson"

    def __post_init__(self) -> None:
        if not LEAST_RATE <= self.sampling_rate <= 1:
            raise BadInputError(
                f"sampling rate: expected the share of the records in a step, above 0 and at most 1, got "
                f"{self.sampling_rate}. It is the expected batch size divided by the number of records."
            )
        if not LEAST_NOISE <= self.noise_multiplier <= MOST_NOISE:
            raise BadInputError(
                f"noise multiplier: expected a number above 0, from {LEAST_NOISE:g} to {MOST_NOISE:g}, got "
                f"{self.noise_multiplier}. Without noise there is no differential privacy."
            )
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 0:
            raise BadInputError(f"steps: expected a whole number, 0 or more, got {self.steps!r}.")
        if self.sampling not in ("poisson", "shuffled"):
            raise BadInputError(f"sampling: expected 'poisson' or 'shuffled', got {self.sampling!r}.")

    @property
    def batches(self) -> int:
        """Batches in one pass over all records; a last one that is not full counts."""
        return math.ceil((1 - 1e-12) / self.sampling_rate)  # 1 / 0.01 may come out just above 100


@dataclass(frozen=True)
class Ledger:
    """What was released about a private set, from which its epsilon follows.

    Args:
        records: size of the private set.
        phases: what was released, in order.
        adjacency: which pairs of sets must be hard to tell apart: those that differ by a record more or less, or by one
            record exchanged for another.
        fixed_noise_seed: the noise came from a known seed, so whoever knows the seed can subtract it: no privacy at
            all, and `caveats` says so.
        dropped: per-example gradients that were not finite and counted as zero; itself no noisy number.
        training: fingerprint of the settings it was spent under; resuming under others is refused.

    Raises:
        BadInputError: a value out of range.

    Example:
        >>> ledger = Ledger(60_000).after(Phase(0.01, 1.1, 100)).after(Phase(0.01, 1.1, 20))
        >>> ledger.steps, len(ledger.phases)
        (120, 1)
    """

    records: int
    phases: tuple[Phase, ...] = ()
    adjacency: Adjacency = "add-remove"
    fixed_noise_seed: bool = False
    dropped: int = 0
    training: str = ""

    def __post_init__(self) -> None:
        for name, least in (("records", 1), ("dropped", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise BadInputError(f"ledger: expected {name} to be a whole number, {least} or more, got {value!r}.")
        if self.adjacency not in ("add-remove", "replace-one"):
            raise BadInputError(f"adjacency: expected 'add-remove' or 'replace-one', got {self.adjacency!r}.")
        object.__setattr__(self, "phases", tuple(self.phases))

    @property
    def steps(self) -> int:
        """Noisy sums released in all."""
        return sum(phase.steps for phase in self.phases)

    @property
    def caveats(self) -> tuple[str, ...]:
        """What a reader of this ledger's epsilon must be told, in sentences; empty where there is nothing."""
        found = []
        if self.fixed_noise_seed:
            found.append(
                "The noise came from a fixed seed. Whoever knows the seed can subtract it: this run is a test and "
                "protects nobody."
            )
        if any(phase.sampling == "shuffled" for phase in self.phases):
            found.append(
                "Batches were shuffled, not drawn by Poisson sampling: every epoch counts as a full look at every "
                "record, and the promise compares a record with an empty place in its batch."
            )
        if self.dropped:
            found.append(
                f"{self.dropped:,} per-example gradients were not finite and counted as zero. That number is told "
                "without noise: keep it from whoever may not see the records."
            )
        return tuple(found)

    def after(self, phase: Phase) -> "Ledger":
        """The ledger once `phase` was released too; steps under the setting of the last phase are added to it."""
        *before, last = self.phases or (replace(phase, steps=0),)
        if replace(last, steps=phase.steps) == phase:
            return replace(self, phases=(*before, replace(last, steps=last.steps + phase.steps)))
        return replace(self, phases=(*self.phases, phase))

    def to_dict(self) -> dict[str, Any]:
        """The ledger as plain values, sealed with a digest over all of them."""
        plain: dict[str, Any] = {"schema": SCHEMA, **asdict(self), "phases": [asdict(phase) for phase in self.phases]}
        return {**plain, "digest": _digest(plain)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "ledger") -> "Ledger":
        """The ledger that `to_dict` wrote.

        Args:
            values: what it returned.
            where: what to call the source in an error.

        Raises:
            BadInputError: no ledger, one of another version, or one that was changed since it was written.
        """
        plain = dict(values)
        if plain.get("schema") != SCHEMA:
            raise BadInputError(
                f"{where}: expected a ledger of version {SCHEMA}, got {plain.get('schema')!r}. Use the divulge that "
                "wrote it."
            )
        if plain.pop("digest", None) != _digest(plain):
            raise BadInputError(f"{where}: its digest does not match, so it was changed after it was saved. {WAY_OUT}")
        plain = {field.name: plain[field.name] for field in fields(cls) if field.name in plain}
        plain["phases"] = tuple(build(Phase, phase, where=where) for phase in plain.get("phases", ()))
        return build(cls, plain, where=where)

    def save(self, path: Path | str) -> None:
        """Write the ledger to a JSON file: whole, or not at all.

        Its digest shows damage and edits by hand; whoever wants to forge a ledger can compute another.

        Raises:
            StoreError: the file cannot be written.
        """
        path = Path(path)
        fresh = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
        try:
            with fresh.open("w", encoding="utf-8") as file:
                json.dump(self.to_dict(), file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except OSError as error:
            raise StoreError(
                f"{path}: expected a place where the ledger can be written, got {error.strerror}. Choose another one."
            ) from error


def read(path: Path | str) -> Ledger:
    """The ledger that `Ledger.save` wrote.

    Raises:
        BadInputError: the file is missing, truncated, edited, of another version, or no ledger.
    """
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(f"{path}: expected a privacy ledger, got {error.strerror}. {WAY_OUT}") from None
    except ValueError as error:
        raise BadInputError(f"{path}: expected a privacy ledger, got broken JSON ({error}). {WAY_OUT}") from None
    if not isinstance(values, dict):
        raise BadInputError(f"{path}: expected a privacy ledger, got a JSON {type(values).__name__}. {WAY_OUT}")
    return Ledger.from_dict(values, where=str(path))


def _digest(plain: Mapping[str, Any]) -> str:
    written = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(written.encode()).hexdigest()
