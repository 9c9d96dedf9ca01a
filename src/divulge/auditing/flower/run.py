"""A federation of real processes on this machine: one server, and a node for each client."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from divulge.auditing.flower.deployment import Deployment
from divulge.auditing.flower.saved import load_captures
from divulge.auditing.flower.server import ENDED
from divulge.errors import BadInputError, MissingExtraError, StepError
from divulge.training.federated import Capture

HOST = "127.0.0.1"
PROJECT = """[project]
name = "divulge-federation"
version = "1.0.0"
license = "Apache-2.0"
description = "A federation whose server keeps what it receives."
dependencies = []

[tool.flwr.app]
publisher = "divulge"

[tool.flwr.app.components]
serverapp = "divulge_federation.parts:server"
clientapp = "divulge_federation.parts:client"

[tool.flwr.app.config]
settings = ""
timeout = 0.0
"""
PARTS = """from divulge.auditing.flower.client import client_app
from divulge.auditing.flower.server import server_app

client = client_app()
server = server_app()
"""
PATIENCE = 5.0
"""Seconds that processes get to end by themselves."""


def run_flower(deployment: Deployment, folder: Path, *, timeout: float = 600.0) -> list[Capture]:
    """Train by Flower, with a server and the clients as processes of their own, and return what the server kept.

    All of them talk over the loopback interface alone, on free ports, without telemetry or a look for updates, and have
    ended when this returns.

    Args:
        deployment: what to run.
        folder: an empty or new folder, for the captures, the settings and the log.
        timeout: seconds after which the run is given up.

    Raises:
        BadInputError: a folder that holds something.
        MissingExtraError: Flower is not installed.
        StepError: the run failed or took too long; the end of its log is told.
    """
    if find_spec("flwr") is None:
        raise MissingExtraError("federations of processes need Flower. Run: pip install 'divulge[flower]'")
    folder = folder.absolute()
    if folder.exists() and any(folder.iterdir()):
        raise BadInputError(f"{folder}: expected an empty folder for the records of a run. Choose another.")
    package = folder / "app" / "divulge_federation"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "parts.py").write_text(PARTS)
    (folder / "app" / "pyproject.toml").write_text(PROJECT)
    deployment.write(folder / "deployment.json")
    home = folder / "flower"
    home.mkdir()
    port, *ports = _free_ports(1 + deployment.federation.clients)
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{HOST}:{port}"\ninsecure = true\n'
    )
    link = ["flower-superlink", "--insecure", "--host", HOST, "--port", str(port)]
    commands = [[*link, "--disable-runtime-dependency-installation"]]
    for client, own in enumerate(ports):
        node = ["flower-supernode", "--insecure", "--superlink", f"{HOST}:{port}", "--host", HOST, "--port", str(own)]
        commands.append([*node, "--node-config", f"partition-id={client}"])
    config = f'settings="{folder / "deployment.json"}" timeout={timeout:.1f}'
    submit = ["flwr", "run", str(folder / "app"), "here", "--run-config", config]
    deadline = time.monotonic() + timeout
    with (folder / "log.txt").open("wb") as log, _running(commands, home, log.fileno()):
        _until(lambda: _listens(port), folder, deadline, "the server to listen")
        with _running([submit], home, log.fileno()) as (submitted,):
            _until(lambda: submitted.poll() is not None, folder, deadline, "the app to be taken on")
            if submitted.returncode:
                raise StepError(f"the Flower app in {folder} was not taken on. Its log ends:\n{_tail(folder)}")
        _until((folder / ENDED).exists, folder, deadline, "the server to end")
    if '"through": true' not in (folder / ENDED).read_text():
        raise StepError(f"the Flower run in {folder} failed. The end of its log:\n{_tail(folder)}")
    shutil.rmtree(home)
    return load_captures(folder)


@contextmanager
def _running(commands: Sequence[Sequence[str]], home: Path, log: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that live no longer than the block, each with whatever it starts."""
    scripts = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}",
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
    }
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for name, *rest in commands:
            command = [str(scripts / name), *rest]
            processes.append(
                subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            )
        yield processes
    finally:
        for process in processes:
            process.terminate()
        end = time.monotonic() + PATIENCE
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
            with suppress(ProcessLookupError):  # where nothing that it started is left
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _until(holds: Callable[[], bool], folder: Path, deadline: float, what: str) -> None:
    while not holds():
        if time.monotonic() > deadline:
            raise StepError(f"the Flower run in {folder} took too long for {what}. Its log ends:\n{_tail(folder)}")
        time.sleep(0.1)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _tail(folder: Path) -> str:
    return "\n".join((folder / "log.txt").read_text(errors="replace").splitlines()[-20:])
