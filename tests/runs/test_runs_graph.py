import json

import pytest
from steps_for_tests import Unpicklable, add, fails, graph, mutates, number, returns, runs, threads

from divulge.errors import BadInputError, StepError, StoreError
from divulge.runs.engines import LocalEngine, engine
from divulge.runs.graph import execute, plan
from divulge.runs.provenance import cores
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store

HERE = LocalEngine(1)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run")


def test_each_step_runs_once_and_not_again(tmp_path, store):
    total = graph(tmp_path)
    results = execute([total], store, engine=HERE)
    assert results[total.key].arrays["x"].tolist() == [0, 8, 16, 24]
    assert sorted(runs(tmp_path / "log")) == ["left", "n1", "n2", "n3", "right", "total"]
    execute([graph(tmp_path)], Store(store.root), engine=HERE)
    assert len(runs(tmp_path / "log")) == 6


def test_targets_come_in_the_order_given(tmp_path, store):
    total = graph(tmp_path)
    wanted = [total, total.inputs["right"].inputs["b"], total.inputs["left"]]
    assert list(execute(wanted, store, engine=HERE)) == [step.key for step in wanted]


def test_another_context_is_a_hit(tmp_path, store):
    execute([graph(tmp_path)], store, engine=HERE)
    (tmp_path / "elsewhere").mkdir()
    execute([graph(tmp_path / "elsewhere")], store, engine=HERE)
    assert runs(tmp_path / "elsewhere" / "log") == []


def test_another_version_is_computed_again_with_what_depends_on_it(tmp_path, store):
    context = {"log": tmp_path / "log"}
    for version in (1, 2, 2):
        one = Step(number, {"name": "one", "value": 1}, version=version, context=context)
        two = Step(number, {"name": "two", "value": 2}, context=context)
        execute([Step(add, {"name": "both"}, {"a": one, "b": two}, context=context)], store, engine=HERE)
    assert sorted(runs(tmp_path / "log")) == ["both", "both", "one", "one", "two"]


def test_plan_lists_what_is_needed_inputs_first(tmp_path, store):
    total = graph(tmp_path)
    assert [(step.label, done) for step, done in plan([total], store)][-1] == ("total", False)
    assert len(plan([total], store)) == 6
    execute([total.inputs["left"]], store, engine=HERE)
    listed = {step.label: done for step, done in plan([total, total], store)}
    assert listed == {"left": True, "n2": True, "n3": False, "right": False, "total": False}
    execute([total], store, engine=HERE)
    assert [(step.label, done) for step, done in plan([total], store)] == [("total", True)]


def test_a_damaged_result_is_computed_again_only_where_it_is_needed(tmp_path, store, caplog):
    total = graph(tmp_path)
    execute([total], store, engine=HERE)
    for label in ("n1", "n2", "n3", "left"):
        key = next(record.key for record in store.steps(label=label))
        (store.root / "objects" / key / "arrays.safetensors").write_bytes(b"")
    execute([total], Store(store.root), engine=HERE)
    assert len(runs(tmp_path / "log")) == 6
    (store.root / "objects" / total.key / "facts.json").write_text("{}")
    result = execute([total], Store(store.root), engine=HERE)[total.key]
    assert result.arrays["x"].tolist() == [0, 8, 16, 24]
    assert sorted(runs(tmp_path / "log")[6:]) == ["left", "n1", "n2", "total"]
    assert len(list((store.root / "damaged").iterdir())) == 4


def test_costliest_ready_step_goes_first(tmp_path, store):
    context = {"log": tmp_path / "log"}
    steps = [Step(number, {"name": f"c{c}", "value": c}, context=context, cost=c) for c in (1, 3, 2)]
    execute(steps, store, engine=HERE)
    assert runs(tmp_path / "log") == ["c3", "c2", "c1"]


def test_a_step_cannot_spoil_what_others_read(tmp_path, store):
    total = graph(tmp_path)
    spoiler = Step(mutates, {}, {"a": total.inputs["left"]}, cost=9)
    results = execute([spoiler, total], store, engine=HERE)
    assert results[total.key].arrays["x"].tolist() == [0, 8, 16, 24]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("kind", "expected", "message"),
    [
        ("bad", BadInputError, "^middle: expected more, got less.$"),
        ("zero", StepError, "^middle: failed with ZeroDivisionError: nothing to divide by$"),
        ("awkward", StepError, "^middle: failed with AwkwardError: it stopped because it had to$"),
    ],
)
def test_an_error_names_the_step_and_loses_nothing(tmp_path, store, workers, kind, expected, message):
    total = graph(tmp_path, middle=(fails, {"kind": kind}), sleep=0.05)
    with pytest.raises(expected, match=message) as caught:
        execute([total], store, engine=LocalEngine(workers))
    assert caught.type is expected
    assert caught.value.__cause__ is not None
    if workers == 2:
        assert "in fails" in "".join(caught.value.__cause__.__notes__)
    ran = set(runs(tmp_path / "log")) - {"middle"}
    assert {record.label for record in store.steps()} == ran
    assert "right" not in ran


def test_nothing_is_started_after_an_error(tmp_path, store):
    context = {"log": tmp_path / "log"}
    failing = Step(fails, {"name": "failing", "kind": "zero"}, context=context, cost=2)
    with pytest.raises(StepError):
        execute([Step(number, {"name": "n", "value": 1}, context=context), failing], store, engine=HERE)
    assert runs(tmp_path / "log") == ["failing"]


@pytest.mark.parametrize(
    ("artifact", "message"),
    [({"value": 1}, "expected an Artifact"), (Artifact(facts={"auc": float("nan")}), "expected a finite number")],
)
def test_a_step_that_returns_nonsense_is_named(store, artifact, message):
    step = Step(returns, {}, label="odd", context={"artifact": artifact})
    with pytest.raises(BadInputError, match=f"^odd: .*{message}"):
        execute([step], store, engine=HERE)
    assert not store.has(step.key)


def test_an_unwritable_folder_stops_before_anything_is_computed(tmp_path, store):
    (store.root / "locks").write_text("in the way")
    with pytest.raises(StoreError, match="can be written to"):
        execute([graph(tmp_path)], store, engine=HERE)
    assert runs(tmp_path / "log") == []


def test_wide_graphs_share_the_threads_and_chains_have_them_all(tmp_path, store):
    import os

    import torch

    steps = [Step(threads, {"n": n}) for n in range(2)]
    facts = [artifact.facts for artifact in execute(steps, store, engine=LocalEngine(2)).values()]
    assert {fact["threads"] for fact in facts} == {max(1, cores() // 2)}
    assert os.getpid() not in {fact["process"] for fact in facts}
    alone = Step(threads, {"n": 2})
    fact = execute([alone], store, engine=LocalEngine(2))[alone.key].facts
    assert fact == {"threads": torch.get_num_threads(), "process": os.getpid()}


def test_what_cannot_be_pickled_runs_in_this_process_beside_the_workers(tmp_path, store):
    import os

    context = {"log": str(tmp_path / "log")}
    parts = {f"n{n}": Step(number, {"name": f"away{n}", "value": n}, context=context) for n in range(2)}
    parts["x"] = Step(number, {"name": "here", "value": 5}, context={**context, "model": Unpicklable()})
    parts["y"] = Step(number, {"name": "here", "value": 6}, context={**context, "model": Unpicklable()})
    total = Step(add, {"name": "away"}, parts, context=context)
    result = execute([total], store, engine=LocalEngine(2))[total.key]
    assert result.facts == {"value": 12}
    processes = {line.split()[0]: int(line.split()[1]) for line in (tmp_path / "log").read_text().splitlines()}
    assert processes.pop("here") == os.getpid()
    assert os.getpid() not in processes.values()


def test_results_do_not_depend_on_the_number_of_workers(tmp_path):
    stores = [Store(tmp_path / f"run{workers}") for workers in (1, 2)]
    for workers, store in enumerate(stores, start=1):
        execute([graph(tmp_path)], store, engine=LocalEngine(workers))
    digests = [
        {path.parent.name: json.loads(path.read_text())["files"] for path in store.root.glob("objects/*/step.json")}
        for store in stores
    ]
    assert digests[0] == digests[1]
    assert len(digests[0]) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "slurm"}, "expected local or ray, got 'slurm'"),
        ({"name": "local", "address": "auto"}, "expected no address"),
        ({"name": "local", "workers": -1}, "expected 0 or more, got -1"),
        ({"name": "ray", "workers": 0}, "expected 1 or more"),
    ],
)
def test_engines_that_do_not_exist_are_refused(arguments, message):
    with pytest.raises(BadInputError, match=message):
        engine(**arguments)


def test_engine_by_name():
    from divulge.runs.ray_engine import RayEngine

    assert engine("local", workers=3) == LocalEngine(3)
    assert engine("ray", address="auto") == RayEngine("auto")
