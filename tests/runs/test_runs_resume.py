"""Kills, interrupts and several processes in one folder, with real processes."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from steps_for_tests import dies, graph, runs, waits

from divulge.errors import StepError
from divulge.runs.engines import LocalEngine
from divulge.runs.graph import execute
from divulge.runs.store import Store

HERE = Path(__file__).parent
TOTAL = [0, 8, 16, 24]


def start(folder, kind):
    code = f"import sys; sys.path.insert(0, {str(HERE)!r}); from steps_for_tests import drive; drive(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(folder), kind]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=hear_interrupts)


def hear_interrupts():
    """Jobs that a shell runs in the background are deaf to them, and so would be what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def is_gone(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def process_of(log, name):
    return next(int(line.split()[1]) for line in log.read_text().splitlines() if line.split()[0] == name)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc which processes live")
def test_a_killed_run_goes_on_where_it_stood(tmp_path):
    log, store = tmp_path / "log", tmp_path / "run"
    driver = start(tmp_path, "waits")
    until(lambda: {"middle", "left"} <= set(runs(log)) and len(list(store.glob("objects/*"))) == 4)
    worker = process_of(log, "middle")
    driver.kill()
    driver.communicate()
    until(lambda: is_gone(worker))
    assert list((store / "partial").iterdir())
    (store / "partial" / "0123456789.half-written").mkdir()

    (tmp_path / "go").touch()
    total = graph(tmp_path, middle=(waits, {}))
    result = execute([total], Store(store), engine=LocalEngine(2))[total.key]
    assert result.arrays["x"].tolist() == [1, 9, 17, 25]
    assert Counter(runs(log)) == {"n1": 1, "n2": 1, "n3": 1, "left": 1, "right": 1, "total": 1, "middle": 2}
    assert not list((store / "partial").iterdir())
    assert not list((store / "locks").iterdir())


def test_an_interrupt_ends_the_workers(tmp_path):
    driver = start(tmp_path, "waits")
    until(lambda: "middle" in runs(tmp_path / "log"))
    driver.send_signal(signal.SIGINT)
    output, _ = driver.communicate(timeout=180)
    assert output.split("\n")[:2] == ["interrupted", "no children"]
    assert driver.returncode == 0


def test_two_processes_in_one_folder_compute_each_step_once(tmp_path):
    drivers = [start(tmp_path, "slow") for _ in range(2)]
    outputs = [driver.communicate(timeout=120)[0].splitlines() for driver in drivers]
    assert outputs == [[str(TOTAL), "no children"]] * 2
    assert Counter(runs(tmp_path / "log")) == dict.fromkeys(("n1", "n2", "n3", "left", "right", "total"), 1)


def test_a_worker_that_is_killed_costs_only_its_own_step(tmp_path, caplog):
    total = graph(tmp_path, middle=(dies, {"deaths": 2}))
    result = execute([total], Store(tmp_path / "run"), engine=LocalEngine(2))[total.key]
    assert result.arrays["x"].tolist() == [7, 15, 23, 31]
    assert Counter(runs(tmp_path / "log")) == {
        "n1": 1, "n2": 1, "n3": 1, "left": 1, "right": 1, "total": 1, "middle": 3,
    }  # fmt: skip
    assert caplog.text.count("its worker process died: it was ended by SIGKILL, most often a sign that memory") == 2


def test_a_step_that_always_kills_its_worker_is_named(tmp_path):
    total = graph(tmp_path, middle=(dies, {"deaths": 99}))
    store = Store(tmp_path / "run")
    with pytest.raises(StepError, match=r"^middle: its worker process died 3 times, .* SIGKILL"):
        execute([total], store, engine=LocalEngine(2))
    assert runs(tmp_path / "log").count("middle") == 3
    assert {record.label for record in store.steps()} >= {"n1", "n2", "n3"}


def test_a_script_without_a_main_guard_is_not_started_again_by_its_workers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
        "from pathlib import Path\n"
        "from steps_for_tests import graph\n"
        "from divulge.runs.engines import LocalEngine\n"
        "from divulge.runs.graph import execute\n"
        "from divulge.runs.step import Artifact, Step\n"
        "from divulge.runs.store import Store\n"
        "def own(settings, inputs, context):\n"
        "    return Artifact(facts={'value': [part.facts['value'] for part in inputs.values()]})\n"
        "folder = Path(sys.argv[1])\n"
        "step = Step(own, {}, {'total': graph(folder)})\n"
        "print('started', execute([step], Store(folder / 'run'), engine=LocalEngine(2))[step.key].facts)\n"
    )
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("started {'value': [8]}\n", "")
    assert process_of(tmp_path / "log", "total") != os.getpid()
