"""Step functions that worker processes import, and a program that drives a graph of them."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from divulge.errors import BadInputError
from divulge.runs.engines import LocalEngine
from divulge.runs.graph import execute
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store


class AwkwardError(Exception):
    """Cannot be unpickled: its constructor wants more than its message."""

    def __init__(self, what, why):
        super().__init__(f"{what} because {why}")


class Unpicklable:
    def __reduce__(self):
        raise TypeError("stays where it is")


def note(context, name):
    """Write down that a step ran, and in which process."""
    with Path(context.values["log"]).open("a") as file:
        file.write(f"{name} {os.getpid()}\n")


def number(settings, inputs, context):
    note(context, settings["name"])
    time.sleep(settings.get("sleep", 0))
    context.progress(0.5)
    return Artifact({"x": np.arange(4) * settings["value"]}, {"value": settings["value"]})


def add(settings, inputs, context):
    note(context, settings["name"])
    total = sum(part.arrays["x"] for part in inputs.values())
    return Artifact({"x": total}, {"value": sum(part.facts["value"] for part in inputs.values())})


def dies(settings, inputs, context):
    """Kill the process that runs the step, as often as the settings say."""
    note(context, settings["name"])
    if runs(context.values["log"]).count(settings["name"]) <= settings["deaths"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return Artifact(facts={"value": 7}, arrays={"x": np.full(4, 7)})


def fails(settings, inputs, context):
    note(context, settings["name"])
    if settings["kind"] == "bad":
        raise BadInputError("expected more, got less.")
    if settings["kind"] == "awkward":
        raise AwkwardError("it stopped", "it had to")
    raise ZeroDivisionError("nothing to divide by")


def waits(settings, inputs, context):
    """Go on only when a file appears."""
    context.progress(0.25)
    note(context, settings["name"])
    while not Path(context.values["go"]).exists():
        time.sleep(0.02)
    return Artifact(facts={"value": 1}, arrays={"x": np.ones(4, dtype=int)})


def threads(settings, inputs, context):
    import torch

    return Artifact(facts={"threads": torch.get_num_threads(), "process": os.getpid()})


def returns(settings, inputs, context):
    return context.values["artifact"]


def mutates(settings, inputs, context):
    for part in inputs.values():
        part.arrays["x"][:] = -1
    return Artifact()


def runs(log):
    """Names of the steps that ran, in order."""
    return [line.split()[0] for line in Path(log).read_text().splitlines()] if Path(log).exists() else []


def graph(folder, *, middle=None, sleep=0):
    """Three numbers, two partial sums, one total; `middle` joins the second sum."""
    context = {"log": str(folder / "log"), "go": str(folder / "go")}
    parts = {
        f"n{value}": Step(
            number, {"name": f"n{value}", "value": value, "sleep": sleep}, label=f"n{value}", context=context
        )
        for value in (1, 2, 3)
    }
    left = Step(add, {"name": "left"}, {"a": parts["n1"], "b": parts["n2"]}, label="left", context=context)
    second = {"a": parts["n2"], "b": parts["n3"]}
    if middle is not None:
        run, settings = middle
        second["c"] = Step(run, {"name": "middle", **settings}, label="middle", context=context)
    right = Step(add, {"name": "right"}, second, label="right", context=context)
    return Step(add, {"name": "total"}, {"left": left, "right": right}, label="total", context=context)


def drive(folder, kind):
    """Run a graph as a program of its own, and say what came out and whether child processes are left."""
    folder = Path(folder)
    total = graph(folder, middle=(waits, {}) if kind == "waits" else None, sleep=0.1 if kind == "slow" else 0)
    try:
        artifact = execute([total], Store(folder / "run"), engine=LocalEngine(2))[total.key]
        print(artifact.arrays["x"].tolist())
    except KeyboardInterrupt:
        print("interrupted")
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        print("no children")
        sys.exit(0)
    sys.exit("child processes are left")
