"""Computing one step: in this process, or in a worker process that waits for steps to come."""

import logging
import os
import pickle
import shutil
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

from divulge.errors import BadInputError, StepError
from divulge.runs.step import Artifact, Context, Step
from divulge.runs.store import Store

REPORT_EVERY = 0.2
"""Seconds between two reports of a worker's progress."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a step ended.

    Args:
        seconds: how long its function ran.
        cached: it was stored already when its turn came.
        error: what its function, or storing what it returned, raised.
        lost: how the worker process died; empty if it lives.
    """

    seconds: float = 0.0
    cached: bool = False
    error: Exception | None = None
    lost: str = ""


def perform(step: Step, store: Store, report: Callable[[float], None]) -> Outcome:
    """Compute and store a step, its inputs being stored, or wait for the process that is computing it just now."""
    try:
        with store.lock(step.key):
            if store.has(step.key):
                return Outcome(cached=True)
            inputs = {name: store.read(key) for name, key in step.input_keys.items()}
            unfinished = store.root / "unfinished" / step.key
            started = time.perf_counter()
            artifact = step.run(step.settings, inputs, Context(step.context, report, unfinished))
            seconds = time.perf_counter() - started
            if not isinstance(artifact, Artifact):
                raise BadInputError(f"expected an Artifact from {step.function}, got {type(artifact).__name__}.")
            store.write(step, artifact, seconds)
            shutil.rmtree(unfinished, ignore_errors=True)
            return Outcome(seconds)
    except Exception as error:  # noqa: BLE001 - carried to whoever drives the run, who raises it
        return Outcome(error=error)


def pack(step: Step) -> bytes | None:
    """The step as bytes for another process, or None if only this one can run it.

    That is so for what cannot be pickled, and for what the running script or notebook defines: a worker does not import
    that again, lest a script without an `if __name__ == "__main__"` start itself over and over.
    """
    try:
        packed = pickle.dumps(step.alone())
    except Exception as error:  # noqa: BLE001 - an object's own way of pickling may raise anything
        log.debug("%s runs in the driving process: %s", step.title, error)
        return None
    return None if b"__main__" in packed else packed


def perform_packed(root: str, packed: bytes) -> Outcome:
    """Compute and store a step that came from another process, reporting progress through the run folder."""
    try:
        step: Step = pickle.loads(packed)
        store = Store(root)
    except Exception as error:  # noqa: BLE001 - as in `perform`
        return Outcome(error=_portable(error))
    path = progress_file(store, step.key)
    try:
        outcome = perform(step, store, _Reporter(path))
    finally:
        path.unlink(missing_ok=True)
    return replace(outcome, error=_portable(outcome.error)) if outcome.error else outcome


def serve(descriptor: int, root: str) -> None:
    """Life of a worker process: compute what arrives on the connection until the other end closes or dies."""
    connection = Connection(descriptor)
    arrived: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(connection, arrived), daemon=True).start()
    with suppress(BrokenPipeError):  # the driver died just now; the result is stored
        while True:
            connection.send(perform_packed(root, arrived.get()))


def progress_file(store: Store, key: str) -> Path:
    """Where a worker writes how much of a step is done."""
    return store.root / "partial" / f"{key}.progress"


def fraction(store: Store, key: str) -> float | None:
    """How much of a step is done, as its worker last wrote; None if it has not said."""
    try:
        return float(progress_file(store, key).read_text())
    except (FileNotFoundError, ValueError):
        return None


class _Reporter:
    """Writes a fraction of fixed width in place, so that a reader never sees half of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0.0

    def __call__(self, done: float) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + REPORT_EVERY
        self._path.parent.mkdir(exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o666)
        os.write(descriptor, f"{min(max(done, 0.0), 1.0):.6f}".encode())
        os.close(descriptor)


def _listen(connection: Connection, arrived: "SimpleQueue[bytes]") -> None:
    while True:
        try:
            arrived.put(connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(0)  # the driver is gone or has no more use for this step: what it computes would serve nobody


def _portable(error: Exception) -> Exception:
    """An exception that survives the way to another process, with the traceback that does not."""
    note = "In the worker process:\n" + "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - an exception's own way of pickling may raise anything
        error = StepError(f"failed with {type(error).__name__}: {error}")
    error.add_note(note)
    return error
