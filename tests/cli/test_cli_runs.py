"""Runs that are killed, and two at once: nothing that was finished is lost or done twice."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from divulge.runs.store import Store


def start(files, **changes):
    recipe = files.root / "long.toml"
    recipe.write_text("epochs = 15\nbatch_size = 4\n")
    told = files.audit(model=f"{files['model.py']}:normed", weights=None, budget="standard", recipe=recipe)
    told += [part for key, value in changes.items() for part in (f"--{key}", value)]
    code = "from divulge.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *told],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def trained(files):
    """When each stored shadow model was made, by key."""
    found = {}
    for path in (files.root / "run" / "objects").glob("*/step.json"):
        step = json.loads(path.read_text())
        if step["function"] == "divulge.auditing.train:train":
            found[step["key"]] = step["created"]
    return found


@pytest.fixture
def deadline():
    return time.monotonic() + 270


def test_a_run_killed_while_shadows_train_goes_on_where_it_stood(files, deadline):
    killed = start(files)
    while not trained(files):
        assert time.monotonic() < deadline
        assert killed.poll() is None, killed.communicate()[1]
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    kept = trained(files)
    assert 1 <= len(kept) < 4
    assert not (files.root / "report").exists(), "no report of half a run"

    # the same command, and the same once more beside it
    both = [start(files), start(files, out=files["other"])]
    for each in both:
        _, err = each.communicate(timeout=max(1, deadline - time.monotonic()))
        assert each.returncode == 0, err
    done = trained(files)
    assert len(done) == 4
    assert kept.items() <= done.items(), "what was finished was computed again"
    steps = Store(files["run"]).steps()
    assert len({step.key for step in steps}) == len(steps)
    first, second = (json.loads((files.root / out / "report.json").read_text()) for out in ("report", "other"))
    assert first["verdict"] == second["verdict"]
    assert first["records"] == second["records"]
    assert "4 shadow models" in first["verdict"]["confidence"]
