"""Where steps are computed: worker processes of this machine, or a Ray cluster; the graph and its keys are the same."""

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from graphlib import TopologicalSorter
from multiprocessing.connection import Connection, wait

from divulge.errors import BadInputError, DivulgeError, StepError
from divulge.runs.progress import Progress
from divulge.runs.provenance import cores, memory_gb
from divulge.runs.step import Step
from divulge.runs.store import Store
from divulge.runs.worker import Outcome, fraction, pack, perform

POLL = 0.25
"""Seconds after which a crew that waits lets the progress be drawn."""

RETRIES = 2
"""How often a step is tried again after its worker process died."""

WORKER_GB = 2.0
"""Memory that a worker is assumed to need, when the number of workers is not given."""

PATIENCE = 5.0
"""Seconds that a worker has to leave before it is killed."""

log = logging.getLogger(__name__)


class Crew(ABC):
    """Workers of one engine for the duration of one run; `slots` of them."""

    slots: int

    @abstractmethod
    def submit(self, key: str, packed: bytes) -> None:
        """Give a step to a free worker."""

    @abstractmethod
    def wait(self) -> list[tuple[str, Outcome]]:
        """The keys and outcomes of the steps that ended, after `POLL` seconds at the latest."""

    @abstractmethod
    def close(self) -> None:
        """End the workers, whatever they are doing, and leave no process behind."""


class Engine(ABC):
    """Runs a graph of steps, each as soon as its inputs are stored and a worker is free.

    Steps that cannot travel to another process run in this one. When a step fails, no other is started; those under way
    are finished and stored before the error is raised.
    """

    @abstractmethod
    def crew(self, store: Store, width: int) -> Crew:
        """Workers for a graph of which at most about `width` steps can run at once."""

    def run(self, store: Store, steps: Sequence[Step], progress: Progress, *, width: int) -> None:
        """Compute and store all `steps`, whose other inputs are stored.

        Raises:
            DivulgeError: a step raised it; the message names the step, the original is the cause.
            StepError: a step raised anything else, or its workers kept dying.
        """
        crew = self.crew(store, width)
        try:
            _drive(crew, store, {step.key: step for step in steps}, progress)
        finally:
            crew.close()


def _drive(crew: Crew, store: Store, steps: dict[str, Step], progress: Progress) -> None:
    order = TopologicalSorter({key: [k for k in s.input_keys.values() if k in steps] for key, s in steps.items()})
    order.prepare()
    ready: list[tuple[Step, bytes | None]] = []
    away: dict[str, tuple[Step, bytes]] = {}
    deaths: Counter[str] = Counter()
    failure: DivulgeError | None = None
    while order.is_active():
        ready += [(steps[key], pack(steps[key]) if crew.slots else None) for key in order.get_ready()]
        ready.sort(key=lambda entry: -entry[0].cost)
        here: Step | None = None
        waiting: list[tuple[Step, bytes | None]] = []
        for step, packed in ready if failure is None else ():
            if packed is None and here is None:
                here = step
            elif packed is not None and len(away) < crew.slots:
                crew.submit(step.key, packed)
                away[step.key] = (step, packed)
            else:
                waiting.append((step, packed))
                continue
            progress.update(step, 0.0)
        ready = waiting

        if here is not None:
            ended = [(here.key, perform(here, store, partial(progress.update, here)))]
        elif away:
            ended = crew.wait()
            for step, _ in away.values():
                done = fraction(store, step.key)
                if done is not None:
                    progress.update(step, done)
        else:
            break

        for key, outcome in ended:
            step, packed = away.pop(key, (steps[key], None))
            if outcome.error is not None:
                failure = failure or _named(step, outcome.error)
            elif outcome.lost:
                deaths[key] += 1
                log.warning("%s: its worker process died: %s.", step.title, outcome.lost)
                if deaths[key] <= RETRIES:
                    ready.append((step, packed))
                else:
                    failure = failure or StepError(
                        f"{step.title}: its worker process died {deaths[key]} times, the last time because "
                        f"{outcome.lost}. Everything else that was finished is stored; use fewer workers or a smaller "
                        "setting, and run the same command again."
                    )
            else:
                order.done(key)
                progress.done(step, outcome.seconds, outcome.cached)
    if failure is not None:
        raise failure


def _named(step: Step, error: Exception) -> DivulgeError:
    if isinstance(error, DivulgeError):
        named = type(error)(f"{step.title}: {error}")
    else:
        named = StepError(f"{step.title}: failed with {type(error).__name__}: {error}")
    named.__cause__ = error
    return named


@dataclass(frozen=True)
class LocalEngine(Engine):
    """Worker processes of this machine, each with its share of the processor's threads.

    A worker is a fresh Python process that does not import the running script again. If it dies, only its own step is
    tried again. If the driving process dies, its workers end too.

    Args:
        workers: how many at most; 0 or 1 runs everything in this process, with all threads. One per core, as far as
            memory allows, if left out. Never more than the graph has steps to run at once.
    """

    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise BadInputError(f"workers: expected 0 or more, got {self.workers}.")

    def crew(self, store: Store, width: int) -> Crew:
        """A crew of processes, started when there is work for them."""
        count = self.workers if self.workers is not None else min(cores(), int(memory_gb() / WORKER_GB))
        count = min(count, width)
        return _Processes(store, count if count > 1 else 0)


@dataclass(eq=False)
class _Worker:
    process: "subprocess.Popen[bytes]"
    connection: Connection
    key: str = ""


class _Processes(Crew):
    def __init__(self, store: Store, slots: int) -> None:
        self.slots = slots
        self._root = str(store.root)
        self._workers: list[_Worker] = []

    def submit(self, key: str, packed: bytes) -> None:
        worker = next((worker for worker in self._workers if not worker.key), None) or self._hire()
        worker.key = key
        with suppress(OSError):  # the worker has died, as `wait` will find
            worker.connection.send_bytes(packed)

    def wait(self) -> list[tuple[str, Outcome]]:
        busy = {worker.connection: worker for worker in self._workers if worker.key}
        ended = []
        for connection in wait(list(busy), timeout=POLL):
            assert isinstance(connection, Connection)
            worker = busy[connection]
            key, worker.key = worker.key, ""
            try:
                ended.append((key, connection.recv()))
            except (EOFError, OSError):
                self._workers.remove(worker)
                ended.append((key, Outcome(lost=_farewell(worker))))
        return ended

    def close(self) -> None:
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            _farewell(worker)
        self._workers.clear()

    def _hire(self) -> _Worker:
        ours, theirs = multiprocessing.Pipe()
        code = (
            "import json, sys; sys.path[:] = json.loads(sys.argv[3]); "
            "from divulge.runs.worker import serve; serve(int(sys.argv[1]), sys.argv[2])"
        )
        paths = json.dumps([str(path) for path in sys.path])
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", code, str(theirs.fileno()), self._root, paths],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "OMP_NUM_THREADS": str(max(1, cores() // self.slots))},
                start_new_session=True,  # an interrupt from the keyboard is for the driver, who ends the workers
            )
        self._workers.append(_Worker(process, ours))
        return self._workers[-1]


def _farewell(worker: _Worker) -> str:
    """Wait for the end of a worker whose connection is closed, and say what it was."""
    worker.connection.close()
    try:
        code = worker.process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        worker.process.kill()
        code = worker.process.wait()
    if code >= 0:
        return f"it exited with code {code}"
    memory = ", most often a sign that memory ran out" if -code == signal.SIGKILL else ""
    return f"it was ended by {signal.Signals(-code).name}{memory}"


def engine(name: str, *, workers: int | None = None, address: str | None = None) -> Engine:
    """Make an engine from what a person types.

    Args:
        name: `local` or `ray`.
        workers: how many steps to run at once; the engine's choice if left out.
        address: of a running Ray cluster; a cluster on this machine is started if left out.

    Raises:
        BadInputError: no such engine, or an address for the local one.

    Example:
        >>> engine("local", workers=2)
        LocalEngine(workers=2)
    """
    if name == "local":
        if address is not None:
            raise BadInputError(f"engine local: expected no address, got {address!r}. Use the engine ray.")
        return LocalEngine(workers)
    if name == "ray":
        from divulge.runs.ray_engine import RayEngine

        return RayEngine(address, workers)
    raise BadInputError(f"engine: expected local or ray, got {name!r}.")
