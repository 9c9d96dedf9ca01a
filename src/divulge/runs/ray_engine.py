"""The same graph on a Ray cluster; results come back through the run folder."""

import logging
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any

from divulge.errors import BadInputError, MissingExtraError
from divulge.runs.engines import POLL, Crew, Engine
from divulge.runs.provenance import cores
from divulge.runs.store import Store
from divulge.runs.worker import Outcome, perform_packed


@dataclass(frozen=True)
class RayEngine(Engine):
    """Ray tasks, one a step.

    The run folder must be reachable under the same path from every node (a network file system on which `flock` works
    across hosts), and every node needs the same divulge and the modules that define the steps. A task whose process or
    node dies is tried again. A cluster that this engine starts sends no usage statistics and has no dashboard; it ends
    with the run, while a cluster that was there stays. A process that is connected to a cluster already uses that one.

    Args:
        address: of a running cluster, such as `auto` or `head:6379`; one is started on this machine if left out.
        workers: how many steps to run at once; as many as the cluster has cores if left out.

    Raises:
        BadInputError: fewer than one worker.
        MissingExtraError: Ray is not installed.
    """

    address: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise BadInputError(f"workers: expected 1 or more for the engine ray, got {self.workers}.")

    def crew(self, store: Store, width: int) -> Crew:
        """Connect to the cluster, or start one."""
        return _Cluster(str(store.root), self.address, self.workers, width)


class _Cluster(Crew):
    def __init__(self, root: str, address: str | None, workers: int | None, width: int) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError(
                "the engine ray needs Ray, which is not installed. Run: pip install 'divulge[ray]'"
            ) from error
        self._ray = ray
        self._root = root
        self._running: dict[Any, str] = {}
        self._before = dict(os.environ), signal.getsignal(signal.SIGTERM), sys.excepthook
        self._ours = not ray.is_initialized()
        if self._ours:
            self._connect(address, max(cores(), workers or 1))
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        total = max(1, sum(int(node["CPU"]) for node in nodes))
        self.slots = min(workers or total, width)
        self._task = ray.remote(_task).options(
            max_retries=0,  # the driver tries again, by the same rule for every engine
            num_cpus=max(1, min([total // self.slots, *(int(node["CPU"]) for node in nodes)])),
            num_gpus=min(1.0, sum(node.get("GPU", 0) for node in nodes) / self.slots),
        )

    def submit(self, key: str, packed: bytes) -> None:
        self._running[self._task.remote(self._root, packed, sys.path)] = key

    def wait(self) -> list[tuple[str, Outcome]]:
        ended, _ = self._ray.wait(list(self._running), timeout=POLL)
        return [(self._running.pop(reference), self._outcome(reference)) for reference in ended]

    def close(self) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        if self._ours:
            self._ray.shutdown()
            self._restore()

    def _connect(self, address: str | None, cpus: int) -> None:
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        own: dict[str, Any] = {} if address else {"num_cpus": cpus, "include_dashboard": False}
        try:
            self._ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
        except (ConnectionError, ValueError, SystemExit) as error:  # Ray exits where no cluster answers
            self._restore()
            raise BadInputError(
                f"engine ray: expected the address of a running cluster, got {address!r} ({error}). Start one with "
                "`ray start --head`, or leave the address out."
            ) from error

    def _restore(self) -> None:
        """Undo what Ray changes in the process that uses it."""
        environment, terminate, sys.excepthook = self._before
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ |= environment
        if signal.getsignal(signal.SIGTERM) is not terminate:
            signal.signal(signal.SIGTERM, terminate)

    def _outcome(self, reference: Any) -> Outcome:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            return Outcome(error=error)
        except self._ray.exceptions.RayError as error:
            return Outcome(lost=str(error).strip().splitlines()[0].rstrip("."))


def _task(root: str, packed: bytes, paths: list[str]) -> Outcome:
    sys.path.extend(path for path in paths if path not in sys.path)
    return perform_packed(root, packed)
