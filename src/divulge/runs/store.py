"""The run folder: every result under the key of its step, written whole or not at all."""

import fcntl
import hashlib
import json
import logging
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from divulge.errors import BadInputError, StoreError
from divulge.runs import index
from divulge.runs.provenance import machine
from divulge.runs.step import Artifact, Step
from divulge.settings import canonical

SCHEMA = 1
DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")

log = logging.getLogger(__name__)


class Store:
    """A folder of results, safe to kill at any moment and to share between processes.

    Results lie in `objects/<key>/` as `step.json` (what was computed, when, where, and a checksum of the other two),
    `facts.json` and `arrays.safetensors`. They are written into `partial/` and renamed. A result whose checksum does
    not hold is moved to `damaged/`, with a warning in the log, and counts as missing. What lets a killed step go on
    lies in `unfinished/<key>/`. One process at a time computes a key, by a lock on a file in `locks/` that the
    operating system releases if the process dies.

    Args:
        root: the folder; made if it does not exist.

    Raises:
        StoreError: the folder cannot be made or read, or was written by another version of the store.

    Example:
        >>> import tempfile
        >>> def count(settings, inputs, context):
        ...     return Artifact({"n": np.arange(settings["n"])}, {"n": settings["n"]})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store, step = Store(folder), Step(count, {"n": 3})
        ...     store.write(step, count(step.settings, {}, None), 0.1)
        ...     store.read(step.key).arrays["n"]
        array([0, 1, 2])
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).expanduser().absolute()
        self._sound: set[str] = set()
        self._held: set[str] = set()
        marker = self.root / "store.json"
        try:
            found = json.loads(marker.read_text())["schema"]
        except FileNotFoundError:
            found = SCHEMA
            with self._writing():
                self.root.mkdir(parents=True, exist_ok=True)
                fresh = marker.with_name(f"store.{uuid.uuid4().hex}.json")
                _write(fresh, json.dumps({"schema": SCHEMA}).encode())
                fresh.replace(marker)
        except OSError as error:
            raise StoreError(
                f"{self.root}: expected a run folder or a free name, got {error.strerror}. Choose another folder."
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{marker}: expected JSON with the version of the store, got something else ({error}). If this is a "
                "run folder of divulge, delete that one file, and its results will be used; otherwise choose another "
                "folder."
            ) from error
        if found != SCHEMA:
            raise StoreError(
                f"{self.root}: expected version {SCHEMA} of the run store, got version {found!r}. Choose another "
                "folder, or use the divulge that wrote this one."
            )

    def has(self, key: str) -> bool:
        """Whether a sound result is stored; a damaged one is set aside. The checksum is computed once per `Store`."""
        folder = self._folder(key)
        if not folder.is_dir():
            return False
        if key in self._sound:
            return True
        if _flaw(folder):
            with self.lock(key):  # another process may be repairing it
                flaw = _flaw(folder)
                if flaw and folder.is_dir():
                    self._set_aside(folder, flaw)
                if flaw:
                    return False
        self._sound.add(key)
        return True

    def read(self, key: str) -> Artifact:
        """The stored artifact; each array is read from disk when it is first asked for.

        Raises:
            StoreError: nothing sound is stored under this key.
        """
        if not self.has(key):
            raise StoreError(f"{self.root}: no sound result under key {key}. Run the command that computes it again.")
        folder = self._folder(key)
        return Artifact(_Arrays(folder / "arrays.safetensors"), json.loads((folder / "facts.json").read_text()))

    def write(self, step: Step, artifact: Artifact, seconds: float) -> None:
        """Store what a step returned, unless its key is there already.

        Raises:
            BadInputError: facts that are not finite plain values, or arrays of a dtype that cannot be stored.
            StoreError: the folder cannot be written to.
        """
        from safetensors.numpy import save

        arrays = {_name(name): _array(name, value) for name, value in artifact.arrays.items()}
        facts = _plain(artifact.facts, "facts")
        payload = {
            "facts.json": json.dumps(facts, indent=1, allow_nan=False).encode(),
            "arrays.safetensors": save(arrays),
        }
        record = {
            "schema": SCHEMA,
            "key": step.key,
            "function": step.function,
            "version": step.version,
            "label": step.label,
            "settings": canonical(step.settings),
            "inputs": dict(step.input_keys),
            "seconds": round(seconds, 3),
            "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "machine": machine(),
            "divulge": version("divulge"),
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in payload.items()},
        }
        payload["step.json"] = json.dumps(record, indent=1).encode()
        folder = self._folder(step.key)
        with self.lock(step.key):
            if self.has(step.key):
                return
            with self._writing():
                partial = self.root / "partial" / f"{step.key}.{uuid.uuid4().hex}"
                partial.mkdir(parents=True)
                for name, content in payload.items():
                    _write(partial / name, content)
                _sync(partial)
                folder.parent.mkdir(exist_ok=True)
                partial.rename(folder)
                _sync(folder.parent)
            self._sound.add(step.key)

    def steps(self, *, function: str | None = None, label: str | None = None) -> list[index.Record]:
        """What is stored, oldest first; only what `function` (`module:name`) computed, or what has this label."""
        objects = self.root / "objects"
        if not objects.is_dir():
            return []
        return index.query(self.root / "index.sqlite", objects, function=function, label=label)

    def clean(self) -> None:
        """Remove what killed runs left half-written. What a living run is writing stays: it holds that key's lock."""
        for path in (self.root / "partial").glob("*"):
            with self.lock(path.name.partition(".")[0], wait=False) as held:
                if held and path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                elif held:
                    path.unlink(missing_ok=True)

    @contextmanager
    def lock(self, key: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold the right to compute and write `key`; a second process waits, or with `wait=False` gets False.

        The same `Store` may ask again while it holds the lock. On a network file system, `flock` must work across
        hosts.

        Raises:
            StoreError: the folder cannot be written to.
        """
        if key in self._held:
            yield True
            return
        path = self.root / "locks" / key
        with self._writing():
            path.parent.mkdir(exist_ok=True)
            file = _acquire(path, wait=wait)
        if file is None:
            yield False
            return
        self._held.add(key)
        try:
            yield True
        finally:
            self._held.discard(key)
            path.unlink(missing_ok=True)  # before the lock is released, so that nobody loses a file that he holds
            file.close()

    def _folder(self, key: str) -> Path:
        return self.root / "objects" / key

    def _set_aside(self, folder: Path, flaw: str) -> None:
        place = self.root / "damaged" / f"{folder.name}.{uuid.uuid4().hex[:8]}"
        with self._writing():
            place.parent.mkdir(exist_ok=True)
            folder.rename(place)
        log.warning("%s: damaged result (%s), moved to %s; it will be computed again.", folder, flaw, place)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{self.root}: expected a folder that can be written to, got {error.strerror}. Choose another folder, "
                "or make room and give yourself the right to write there."
            ) from error


class _Arrays(Mapping[str, np.ndarray]):
    """Arrays of a safetensors file, each read when it is first asked for."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        self._path = path
        with safe_open(path, framework="np") as file:
            self._names = tuple(sorted(file.keys()))
        self._loaded: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        from safetensors import safe_open

        if name not in self._names:
            raise KeyError(f"{name!r}; stored are {', '.join(self._names) or 'no arrays'}")
        if name not in self._loaded:
            with safe_open(self._path, framework="np") as file:
                self._loaded[name] = file.get_tensor(name)
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _acquire(path: Path, *, wait: bool) -> FileIO | None:
    """Open and lock a file that its last holder deletes: what was locked must still be what lies at `path`."""
    while True:
        file = FileIO(path, "a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                file.close()
                return None
            log.info("waiting for another run that computes %s", path.name)
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:
            pass
        file.close()


def _flaw(folder: Path) -> str:
    """What is wrong with a stored result; empty if nothing is."""
    try:
        record = json.loads((folder / "step.json").read_text())
        if record["schema"] != SCHEMA:
            return f"written by version {record['schema']!r} of the store"
        for name, expected in record["files"].items():
            with (folder / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    return f"{name} does not match its checksum"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise BadInputError(f"expected text as the name of an array or a fact, got {name!r}. Use str(...).")
    return name


def _array(name: str, value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        import torch

        if not isinstance(value, torch.Tensor):
            raise BadInputError(
                f"array {name!r}: expected a NumPy array or a tensor, got {type(value).__name__}. Use np.asarray(...), "
                "or put it among the facts."
            )
        kind = str(value.dtype).removeprefix("torch.")
        value = value.detach().cpu().numpy() if kind in DTYPES else value
    else:
        kind = value.dtype.name
    if kind not in DTYPES:
        raise BadInputError(f"array {name!r}: expected one of {', '.join(DTYPES)}, got {kind}. Convert it first.")
    return np.asarray(value, order="C")


def _plain(value: Any, where: str) -> Any:
    """Facts as JSON holds them, refusing what JSON would alter or lose."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {_name(key): _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise BadInputError(f"{where}: expected a finite number, got {value}. Leave out or repair what has no value.")
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise BadInputError(
        f"{where}: expected numbers, text, booleans, None, lists or mappings, got {type(value).__name__}. Arrays belong"
        " into the artifact's arrays."
    )
