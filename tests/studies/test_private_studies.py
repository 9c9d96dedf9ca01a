from dataclasses import replace

import numpy as np
import pytest

from divulge.errors import BadInputError
from divulge.privacy.ledger import Ledger, Phase
from divulge.runs.engines import LocalEngine
from divulge.runs.store import Store
from divulge.studies import open_study, run_study
from divulge.studies.private import Case, _spent
from divulge.training import Recipe

PRIVATE = """
kind = "private"
title = "Private training on digits, tiny"
source = "made up for a test"
data = "digits"
test = "test"

[[cases]]
row = "scattering, epsilon 8"
model = { name = "scattering-linear", scales = 1, norm_groups = 9 }
recipe = { epochs = 4, batch_size = 256, optimizer = "sgd", lr = 4.0, weight_decay = 0.0 }
defense = { name = "dp-sgd", epsilon = 8.0, clip = 0.1 }
published = 95.0
epochs = [2]

[[cases]]
row = "MLP, no privacy"
model = { name = "mlp", hidden = [32] }
recipe = { epochs = 10, batch_size = 64, lr = 1e-2 }
seeds = 1

[scale.quick]
seeds = 2

[scale.one]
only = ["MLP, no privacy"]

[scale.wrong]
only = ["MLP"]
"""

PROMISES = """
kind = "promises"
title = "Membership under privacy on digits, tiny"
source = "made up for a test"
data = "digits"
model = { name = "mlp", hidden = [64] }
attacks = [{ name = "loss" }, { name = "lira" }]
pool = 400
population = 200
rate = 0.05

[[levels]]
row = "no privacy"
recipe = { epochs = 40, batch_size = 16, lr = 1e-2, weight_decay = 0.0, lr_decay = 1.0 }

[[levels]]
row = "epsilon 1"
recipe = { epochs = 4, batch_size = 50, optimizer = "sgd", lr = 0.5, weight_decay = 0.0 }
defense = { name = "dp-sgd", epsilon = 1.0 }

[scale.quick]
targets = 4
shadows = 8

[scale.odd]
targets = 3
shadows = 8
"""


def _file(folder, text) -> str:
    path = folder / "tiny.toml"
    path.write_text(text)
    return str(path)


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    folder = tmp_path_factory.mktemp("private")
    results = run_study(_file(folder, PRIVATE), scale="quick", store=Store(folder / "runs"), engine=LocalEngine(1))
    return {(row.row, row.metric): row for row in results.rows}


@pytest.fixture(scope="module")
def promises(tmp_path_factory):
    folder = tmp_path_factory.mktemp("promises")
    results = run_study(_file(folder, PROMISES), scale="quick", store=Store(folder / "runs"), engine=LocalEngine(1))
    return {(row.row, row.metric): row for row in results.rows}


def test_a_private_row_tells_accuracy_spread_and_what_was_spent(private):
    row = private["scattering, epsilon 8", "test accuracy"]
    assert row.published == 95.0
    assert row.control < 15 < 60 < row.low <= row.value <= row.high
    assert private["scattering, epsilon 8", "accuracy, best seed less worst"].n == 2
    spent = private["scattering, epsilon 8", "epsilon of each model"].value
    assert 7.9 < spent <= 8.0
    assert private["scattering, epsilon 8", "epsilon of each model by the accountant of 2017"].value > spent
    halfway = private["scattering, epsilon 8, epoch 2", "epsilon of each model"].value
    assert 0 < halfway < spent
    assert private["scattering, epsilon 8, epoch 2", "test accuracy"].value > 30


def test_a_row_without_privacy_has_no_epsilon_and_may_have_fewer_seeds(private):
    assert private["MLP, no privacy", "test accuracy"].value > 90
    assert not [metric for row, metric in private if row.startswith("MLP") and metric != "test accuracy"]


def test_what_the_ledgers_must_tell_stands_beside_their_epsilon():
    case = Case("shuffled", {"name": "mlp"}, Recipe(epochs=2))
    plain = Ledger(1000).after(Phase(0.1, 4.0, 20))
    assert _spent(case, [plain, plain])[0].metric == "epsilon of each model"
    shuffled = Ledger(1000, fixed_noise_seed=True).after(Phase(0.1, 4.0, 20, "shuffled"))
    told = [row.metric for row in _spent(case, [shuffled, replace(shuffled, dropped=3)]) if "epsilon" in row.metric]
    for metric in told:
        assert all(metric.count(word) == 1 for word in ("fixed seed", "were shuffled", "3 per-example gradients"))
    assert len(told) == 2


def test_features_are_one_step_for_all_seeds(tmp_path):
    steps = open_study(_file(tmp_path, PRIVATE), scale="quick").steps(Store(tmp_path / "runs"), data_dir=None)
    sources = {steps[f"scattering, epsilon 8/{seed}"].inputs["data"].key for seed in range(2)}
    assert len(sources) == 1
    assert sources != {steps["data"].key}


def test_rows_can_be_picked_and_unknown_ones_are_refused(tmp_path):
    store = Store(tmp_path / "runs")
    steps = open_study(_file(tmp_path, PRIVATE), scale="one").steps(store, data_dir=None)
    assert [name for name in steps if name != "data"] == [f"MLP, no privacy/{seed}" for seed in range(1)]
    with pytest.raises(BadInputError, match="no row 'MLP'"):
        open_study(_file(tmp_path, PRIVATE), scale="wrong")


def test_leakage_stays_below_the_promise_and_shows_without_it(promises):
    bare = promises["no privacy, lira", "AUC"]
    assert bare.low > 0.52
    assert abs(bare.control - 0.5) < 0.05
    private = promises["epsilon 1, lira", "AUC"]
    assert private.adversary == "adaptive"
    assert private.value < promises["epsilon 1", "largest AUC"].value + 0.03  # 400 candidates a target
    assert (
        promises["epsilon 1, lira", "epsilon at least (one-run-f-dp)"].value <= promises["epsilon 1", "epsilon"].value
    )
    assert np.isclose(promises["epsilon 1", "epsilon"].value, 1, atol=0.01)
    assert ("no privacy", "epsilon") not in promises


def test_targets_must_pair_up(tmp_path):
    with pytest.raises(BadInputError, match="even numbers"):
        open_study(_file(tmp_path, PROMISES), scale="odd")
