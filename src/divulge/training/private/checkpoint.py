"""What an interrupted private training needs to go on: weights, optimizer, ledger in one file, whole or not at all."""

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from divulge.errors import BadInputError, StoreError
from divulge.privacy.ledger import Ledger, Phase
from divulge.training.loop import Epoch
from divulge.training.private.averaging import Average
from divulge.training.private.gradients import Total

SCHEMA = "divulge.checkpoint/1"
START_OVER = "Take the file from a copy, or choose another path to start over."


@dataclass
class Progress:
    """How far a run has come.

    Args:
        ledger: what it has spent.
        clip: the clipping bound of the next step.
        step: steps done.
        losses: for each epoch that has ended and the one that has begun, the sum of losses and their number.
    """

    ledger: Ledger
    clip: float
    step: int = 0
    losses: list[list[float]] = field(default_factory=lambda: [[0.0, 0]])

    def add(self, total: Total, phase: Phase, clip: float, *, ended: bool) -> None:
        """Count a step that came to `total` and was spent as `phase`; `ended` if it is the last of its epoch."""
        dropped = self.ledger.dropped + total.dropped
        self.ledger = replace(self.ledger.after(phase), dropped=dropped)
        self.clip, self.step = clip, self.step + phase.steps
        self.losses[-1] = [self.losses[-1][0] + total.loss, self.losses[-1][1] + total.counted]
        if ended:
            self.losses.append([0.0, 0])

    @property
    def history(self) -> list[Epoch]:
        """Mean loss of each epoch that has ended, over the records drawn in it; NaN where there were none."""
        return [Epoch(loss / count if count else math.nan, math.nan) for loss, count in self.losses[:-1]]


@dataclass(frozen=True)
class Checkpoint:
    """A safetensors file that holds a run; its ledger counts every step that its weights have seen.

    It is to be kept as close as the records: the losses in it are told without noise. The file can be read by its owner
    only. Model, ledger and average are what may leave.

    Args:
        path: of the file.
        settings: plain values that a resumed run must share.
    """

    path: Path
    settings: Mapping[str, Any]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from this run: two of them would spend its budget twice.

        Raises:
            BadInputError: another process is at it.
            StoreError: the folder cannot be written to.
        """
        try:
            file = self.path.with_name(f".{self.path.name}.lock").open("a")
        except OSError as error:
            raise self._unwritable(error) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadInputError(
                    f"{self.path}: another process is training this run. Wait for it, or choose another path."
                ) from None
            yield

    def save(self, progress: Progress, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average) -> None:
        """Write everything anew and put it in the old file's place.

        Raises:
            StoreError: the file cannot be written.
        """
        from safetensors.torch import save

        tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
        tensors |= {f"average/{index}": value for index, value in enumerate(average.values)}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": value for name, value in state.items() if value is not None}
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        notes = {
            "schema": SCHEMA,
            "settings": self.settings,
            "ledger": progress.ledger.to_dict(),
            "clip": progress.clip,
            "step": progress.step,
            "losses": progress.losses,
        }
        written = {name: json.dumps(value) for name, value in notes.items()}
        content = save(tensors, {**written, "digest": _digest(tensors, written)})
        partial = self.path.with_name(f".{self.path.name}.partial")
        try:
            partial.touch(mode=0o600)
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        except OSError as error:
            raise self._unwritable(error) from error

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average) -> Progress:
        """Put a saved run into `model`, `optimizer` and `average`, and tell how far it had come.

        Raises:
            BadInputError: the file is damaged, was edited, has no ledger, or was written under other settings.
        """
        tensors, notes = _read(self.path)
        self._require_same(notes["settings"])
        ledger = Ledger.from_dict(notes["ledger"], where=str(self.path))
        groups: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimizer": {}}
        for name, value in tensors.items():
            kind, _, rest = name.partition("/")
            groups[kind][rest] = value
        model.load_state_dict(groups["model"])
        for index, value in enumerate(average.values):
            value.copy_(groups["average"][str(index)])
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in groups["optimizer"].items():
            number, _, key = name.partition("/")
            state.setdefault(int(number), {})[key] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        return Progress(ledger, notes["clip"], notes["step"], notes["losses"])

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(
            f"{self.path}: expected a place where the checkpoint can be written, got {error.strerror}. Choose another "
            "one, or make room."
        )

    def _require_same(self, saved: Mapping[str, Any]) -> None:
        before, now = _leaves(saved), _leaves(self.settings)
        changed = [
            f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name)
        ]
        if changed:
            raise BadInputError(
                f"{self.path}: this run was begun under other settings: {'; '.join(changed)}. Go on with the settings "
                "it was begun with, or choose another path to start over."
            )


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            written = dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise BadInputError(f"{path}: expected a checkpoint of private training, got {error}. {START_OVER}") from None
    digest = written.pop("digest", None)
    if written.get("schema") != json.dumps(SCHEMA):
        raise BadInputError(
            f"{path}: expected a checkpoint of version {SCHEMA}, got {written.get('schema')}. {START_OVER}"
        )
    if "ledger" not in written:
        raise BadInputError(f"{path}: its ledger is missing, so what was spent cannot be known. {START_OVER}")
    if digest != _digest(tensors, written):
        raise BadInputError(f"{path}: its digest does not match, so it was damaged or edited. {START_OVER}")
    return tensors, {name: json.loads(value) for name, value in written.items()}


def _digest(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> str:
    digest = hashlib.blake2b(digest_size=20)
    digest.update(json.dumps(sorted(notes.items())).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _leaves(value: Any, where: str = "") -> dict[str, Any]:
    """Nested settings as one flat mapping, by dotted names."""
    if not isinstance(value, Mapping):
        return {where: value}
    return {
        name: leaf for key, item in value.items() for name, leaf in _leaves(item, f"{where}.{key}".strip(".")).items()
    }
