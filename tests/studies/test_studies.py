import json
import os
import signal
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest

from divulge.errors import BadInputError
from divulge.report.results import read_all, reproduction_page, table
from divulge.runs.engines import LocalEngine, engine
from divulge.runs.graph import execute
from divulge.runs.store import Store
from divulge.studies import Results, listed, open_study, run_study

TINY = """
kind = "membership"
title = "Membership inference on digits, tiny"
source = "made up for a test"
data = "digits"
target = { name = "mlp", hidden = [64] }
shadow = { name = "mlp", hidden = [32] }
recipe = { batch_size = 16, lr = 1e-2, weight_decay = 0.0 }
attacks = [{ name = "loss" }, { name = "lira" }, { name = "shrinkage" }]

[[cases]]
row = "10 posteriors, 6 epochs"
posteriors = 10
epochs = 6
published = { "accuracy" = 71.07 }

[[cases]]
row = "3 posteriors, 12 epochs"
posteriors = 3
epochs = 12

[[cases]]
row = "10 posteriors, defended"
posteriors = 10
epochs = 12
defended = true

[scale.quick]
part = 100
validation = 60
shadows = 4
"""


@pytest.fixture
def tiny(tmp_path) -> str:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return str(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    path = folder / "tiny.toml"
    path.write_text(TINY)
    store = Store(folder / "runs")
    return run_study(str(path), scale="quick", store=store, engine=LocalEngine(1)), store, str(path)


def test_a_study_puts_published_numbers_beside_ours(finished):
    results, _, _ = finished
    rows = {(row.row, row.metric, row.adversary): row for row in results.rows}
    first = rows[("ML-Leaks, 10 posteriors, 6 epochs", "accuracy", None)]
    assert first.published == 71.07
    assert 0 <= first.low <= first.value <= first.high <= 100
    assert first.n == 200
    assert rows[("target, 10 posteriors, 6 epochs", "target train accuracy", None)].value > 80
    assert all(np.isfinite(row.value) for row in results.rows)


def test_the_shorter_training_is_the_longer_one_looked_at_earlier(finished):
    results, _, _ = finished
    accuracy = {row.row: row.value for row in results.rows if row.metric == "target train accuracy"}
    assert accuracy["target, 10 posteriors, 6 epochs"] <= accuracy["target, 3 posteriors, 12 epochs"]


def test_defended_targets_meet_a_blind_and_an_adaptive_adversary(finished):
    results, _, _ = finished
    seen = {(row.row, row.adversary) for row in results.rows if row.row.startswith("lira")}
    assert seen == {
        ("lira, 4 shadows, 12 epochs", None),
        ("lira, 4 shadows, defended", "blind"),
        ("lira, 4 shadows, defended", "adaptive"),
    }


def test_every_attack_row_has_a_control_near_chance(finished):
    results, _, _ = finished
    areas = [row for row in results.rows if row.metric == "AUC"]
    assert len(areas) == 3 + 3 * 3
    assert all(35 < row.control < 65 for row in areas)


def test_running_again_computes_nothing(finished):
    results, store, path = finished
    before = {record.key: record.created for record in store.steps()}
    again = run_study(path, scale="quick", store=store, engine=LocalEngine(1))
    assert again.rows == results.rows
    assert {record.key: record.created for record in store.steps()} == before


def test_results_are_written_read_printed_and_put_on_a_page(finished, tmp_path):
    results, _, _ = finished
    path = results.write(tmp_path)
    assert Results.read(path) == results
    assert set(json.loads(path.read_text())) == {"study", "scale", "command", "commit", "machine", "seconds", "rows"}
    (found,) = read_all(tmp_path)
    assert table(found).row_count == len(results.rows)
    page = reproduction_page([found])
    assert "| ML-Leaks, 10 posteriors, 6 epochs | accuracy |  | 71.07 % |" in page
    assert "not reported" in page
    assert page.count("ML-Leaks, 10 posteriors, 6 epochs | accuracy |") == 2  # among the published, and among all


@pytest.mark.parametrize("name", listed())
@pytest.mark.parametrize("scale", ["quick", "full"])
def test_shipped_studies_open_at_every_scale(name, scale):
    assert open_study(name, scale=scale).title == listed()[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("part = 100", "prat = 100"), "nearest is 'part'"),
        (('name = "shrinkage"', 'name = "shrinkige"'), "nearest is 'shrinkage'"),
        (('kind = "membership"', 'kind = "memberchip"'), "nearest is 'membership'"),
        (("part = 100", "part = 1000"), "Make them smaller"),
        (('data = "digits"', 'data = "digit"'), "digits"),
        (("part = 100", "part = = 1"), "no valid TOML"),
        (("epochs = 6", 'epochs = "six"'), "epochs"),
    ],
)
def test_wrong_studies_are_refused_in_words(tiny, change, message, tmp_path):
    Path(tiny).write_text(TINY.replace(*change))
    with pytest.raises(BadInputError, match=message):
        run_study(tiny, scale="quick", store=Store(tmp_path / "runs"), engine=LocalEngine(1))


@pytest.mark.parametrize(
    ("name", "scale", "message"),
    [
        ("membership-cifar", "quick", "nearest is 'membership-cifar10'"),
        ("membership-cifar10", "huge", "expected a scale out of full, quick"),
        ("absent.toml", "quick", "No such file"),
    ],
)
def test_unknown_studies_and_scales_are_refused(name, scale, message):
    with pytest.raises(BadInputError, match=message):
        open_study(name, scale=scale)


def test_damaged_results_are_refused(tmp_path):
    with pytest.raises(BadInputError, match="found none"):
        read_all(tmp_path)
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(BadInputError, match=r"x\.json"):
        read_all(tmp_path)


def test_attack_budgets_are_compared_on_the_same_targets(tmp_path):
    path = tmp_path / "budgets.toml"
    path.write_text(
        'kind = "budgets"\ntitle = "tiny"\nsource = "a test"\nbudgets = [2, 4]\ntargets = 2\nrate = 0.1\n'
        'attacks = [{ name = "calibrated" }, { name = "shrinkage" }, { name = "lira", mode = "offline" }]\n'
        '[[settings]]\ndata = "digits"\nmodel = { name = "mlp", hidden = [32] }\npool = 300\npopulation = 100\n'
        "recipe = { epochs = 10, batch_size = 32 }\n[scale.quick]\n"
    )
    results = run_study(str(path), scale="quick", store=Store(tmp_path / "runs"), engine=LocalEngine(1))
    rows = {(row.row, row.metric): row for row in results.rows}
    assert len(rows) == 2 * 3 * 2
    assert {row.n for row in results.rows} == {600}
    assert rows[("digits, 4 shadows, lira (mode=offline)", "AUC")].value > 0.4


@pytest.mark.ray
def test_a_study_on_a_ray_cluster_survives_a_killed_worker_with_the_same_keys_and_rows(finished, tiny, tmp_path):
    results, store, _ = finished
    other, over, killed = Store(tmp_path / "ray-runs"), Event(), []
    killer = Thread(target=_kill_a_ray_task, args=(over, killed))
    killer.start()
    try:
        theirs = run_study(tiny, scale="quick", store=other, engine=engine("ray", workers=2))
    finally:
        over.set()
        killer.join()
    assert killed, "no Ray worker was seen at work"
    assert {record.key for record in other.steps()} == {record.key for record in store.steps()}
    values = {(row.row, row.metric, row.adversary): row.value for row in theirs.rows}
    for row in results.rows:
        # Engines share out threads differently: weights may differ in their last bits, and near ties change ranks.
        assert values[(row.row, row.metric, row.adversary)] == pytest.approx(row.value, abs=4.0), row


def _kill_a_ray_task(over, killed):
    """Kill one process that runs a task, as soon as there is one; until the cluster is up, stay out of its way."""
    import ray

    while not ray.is_initialized() and not over.wait(0.2):
        pass
    while not over.wait(0.05) and not killed:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                title = (process / "cmdline").read_bytes()
                if title.startswith(b"ray::_task"):
                    os.kill(int(process.name), signal.SIGKILL)
                    killed.append(process.name)
                    return
            except OSError:
                continue


def test_steps_are_shared_between_cases(tiny, tmp_path):
    store = Store(tmp_path / "runs")
    study = open_study(tiny, scale="quick")
    steps = study.steps(store, data_dir=None)
    trained = {name for name in steps if not name.startswith("attack/")}
    assert {name.split("/")[0] for name in trained} == {"target", "shadow", "reference"}
    targets = {steps[name].key for name in trained if name.startswith("target/")}
    assert len(targets) == 2, "one target without and one with the defense, however many cases"
    assert execute([], store, engine=LocalEngine(1)) == {}
