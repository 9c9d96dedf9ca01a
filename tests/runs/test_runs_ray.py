"""A real Ray cluster on this machine: same graph, same keys, same results, and a killed worker survived."""

import json
import os
import signal
import sys
from collections import Counter

import pytest
from steps_for_tests import Unpicklable, dies, fails, graph, number, runs

from divulge.errors import BadInputError, MissingExtraError, StepError
from divulge.runs.engines import LocalEngine
from divulge.runs.graph import execute
from divulge.runs.ray_engine import RayEngine
from divulge.runs.step import Step
from divulge.runs.store import Store


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray", reason="the ray extra is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def digests(store):
    return {path.parent.name: json.loads(path.read_text())["files"] for path in store.root.glob("objects/*/step.json")}


@pytest.mark.ray
def test_own_cluster_starts_and_ends_and_leaves_the_process_as_it_was(tmp_path):
    ray = pytest.importorskip("ray", reason="the ray extra is not installed")
    before = dict(os.environ), signal.getsignal(signal.SIGTERM), sys.excepthook
    total = graph(tmp_path)
    result = execute([total], Store(tmp_path / "run"), engine=RayEngine(workers=2))[total.key]
    assert result.arrays["x"].tolist() == [0, 8, 16, 24]
    assert not ray.is_initialized()
    assert (dict(os.environ), signal.getsignal(signal.SIGTERM), sys.excepthook) == before
    assert f"total {os.getpid()}" not in (tmp_path / "log").read_text()


@pytest.mark.ray
def test_an_address_without_a_cluster_is_refused(tmp_path):
    pytest.importorskip("ray", reason="the ray extra is not installed")
    before = dict(os.environ)
    with pytest.raises(BadInputError, match=r"expected the address of a running cluster, got 'nonsense'"):
        execute([graph(tmp_path)], Store(tmp_path / "run"), engine=RayEngine("nonsense"))
    assert dict(os.environ) == before


@pytest.mark.ray
def test_killed_worker_same_results_same_keys(tmp_path, cluster):
    for name, engine in (("local", LocalEngine(2)), ("ray", RayEngine())):
        (tmp_path / name).mkdir()
        total = graph(tmp_path / name, middle=(dies, {"deaths": 1}))
        execute([total], Store(tmp_path / name / "run"), engine=engine)
        assert Counter(runs(tmp_path / name / "log"))["middle"] == 2
        assert len(runs(tmp_path / name / "log")) == 8
    local, ray = (Store(tmp_path / name / "run") for name in ("local", "ray"))
    assert digests(local) == digests(ray)
    assert len(digests(ray)) == 7
    assert cluster.is_initialized()


@pytest.mark.ray
def test_a_step_that_always_kills_its_worker_is_named(tmp_path, cluster):
    total = graph(tmp_path, middle=(dies, {"deaths": 99}))
    with pytest.raises(StepError, match=r"^middle: its worker process died 3 times"):
        execute([total], Store(tmp_path / "run"), engine=RayEngine())


@pytest.mark.ray
def test_errors_keep_their_type_and_name_the_step(tmp_path, cluster):
    total = graph(tmp_path, middle=(fails, {"kind": "bad"}))
    with pytest.raises(BadInputError, match=r"^middle: expected more, got less\.$"):
        execute([total], Store(tmp_path / "run"), engine=RayEngine())


@pytest.mark.ray
def test_what_cannot_be_pickled_runs_in_the_driver(tmp_path, cluster):
    step = Step(number, {"name": "n", "value": 1}, context={"log": tmp_path / "log", "model": Unpicklable()})
    execute([step], Store(tmp_path / "run"), engine=RayEngine())
    assert (tmp_path / "log").read_text() == f"n {os.getpid()}\n"


def test_without_ray_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'divulge\[ray\]'"):
        execute([graph(tmp_path)], Store(tmp_path / "run"), engine=RayEngine())
