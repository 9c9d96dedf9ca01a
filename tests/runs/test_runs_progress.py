import io
import json
import platform

import pytest
from rich.console import Console
from steps_for_tests import graph, number

from divulge.runs.engines import LocalEngine
from divulge.runs.graph import execute
from divulge.runs.progress import Progress, RichProgress
from divulge.runs.provenance import commit, machine
from divulge.runs.step import Step
from divulge.runs.store import Store


class Heard(Progress):
    def __init__(self):
        self.events = []

    def start(self, steps):
        self.events.append(("start", len(steps)))

    def update(self, step, fraction):
        self.events.append(("update", step.label, fraction))

    def done(self, step, seconds, cached):
        self.events.append(("done", step.label, cached))

    def stop(self):
        self.events.append(("stop",))


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_hears_of_every_step(tmp_path, workers):
    total = graph(tmp_path, sleep=0.3 if workers == 2 else 0)
    heard = Heard()
    execute([total], Store(tmp_path / "run"), engine=LocalEngine(workers), progress=heard)
    assert (heard.events[0], heard.events[-1]) == (("start", 6), ("stop",))
    assert sorted(event[1] for event in heard.events if event[0] == "done") == [
        "left", "n1", "n2", "n3", "right", "total",
    ]  # fmt: skip
    assert ("update", "n1", 0.0) in heard.events


def test_fractions_come_back_from_worker_processes(tmp_path):
    from steps_for_tests import waits

    total = graph(tmp_path, middle=(waits, {}))

    class Releasing(Heard):
        def update(self, step, fraction):
            super().update(step, fraction)
            if step.label == "middle" and fraction == 0.25:
                (tmp_path / "go").touch()

    heard = Releasing()
    execute([total], Store(tmp_path / "run"), engine=LocalEngine(2), progress=heard)
    assert ("update", "middle", 0.25) in heard.events


def test_stored_steps_are_told_as_cached_and_progress_ends_after_an_error(tmp_path):
    total, store = graph(tmp_path), Store(tmp_path / "run")
    execute([total.inputs["left"]], store, engine=LocalEngine(1))
    heard = Heard()
    execute([total], store, engine=LocalEngine(1), progress=heard)
    assert {event[1] for event in heard.events if event[0] == "done" and event[2]} == {"left", "n2"}
    heard = Heard()
    broken = Step(number, {"name": "n", "value": 1})
    with pytest.raises(Exception, match="log"):
        execute([broken], store, engine=LocalEngine(1), progress=heard)
    assert heard.events[-1] == ("stop",)


def test_outside_a_terminal_one_plain_line_a_step(tmp_path):
    written = io.StringIO()
    console = Console(file=written, force_terminal=False, width=40)
    step = Step(
        number,
        {"name": "n", "value": 1},
        label="train [bold]k[/bold] shadows " + "x" * 60,
        context={"log": tmp_path / "log"},
    )
    store = Store(tmp_path / "run")
    for _ in range(2):
        execute([step], store, engine=LocalEngine(1), progress=RichProgress(console))
    first, second = written.getvalue().splitlines()
    assert first.startswith(f"[1/1] {step.label}: ")
    assert first.endswith(" s")
    assert second == f"[1/1] {step.label}: stored already"


def test_in_a_terminal_bars_for_the_run_and_its_steps(tmp_path):
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=100)
    bars = RichProgress(console)
    one, two = (Step(number, {"name": "n", "value": value}, label=f"step [{value}]", cost=value) for value in (1, 3))
    bars.start([one, two])
    bars.update(one, 0.5)
    bars.update(two, 1.0)
    bars._bars.refresh()
    bars.done(two, 1.0, False)
    bars._bars.refresh()
    bars.stop()
    text = written.getvalue()
    assert "0 of 2 steps" in text
    assert "1 of 2 steps" in text
    assert "step [1]" in text
    assert "88%" in text
    bars.stop()


def test_machine_says_enough_and_nothing_private():
    facts = machine()
    assert set(facts) == {"cpu", "cores", "memory_gb", "system", "python", "torch", "device"}
    assert facts["memory_gb"] > 0
    assert platform.node() not in json.dumps(facts)
    assert "/" not in facts["cpu"].replace("N/A", "")


def test_commit_is_that_of_the_checkout_or_none():
    found = commit()
    assert found is None or len(found.removesuffix("-dirty")) == 40


def test_commit_of_an_installed_package_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "divulge.runs.provenance.__file__", str(tmp_path / "site-packages" / "divulge" / "runs" / "x.py")
    )
    assert commit() is None
