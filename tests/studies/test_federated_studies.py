from dataclasses import replace

import pytest
import torch

from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.runs.engines import LocalEngine
from divulge.runs.store import Store
from divulge.studies import federated, open_study, run_study
from divulge.studies.federated import FederatedStudy

TINY = """
kind = "federated"
title = "Federated averaging on digits, tiny"
source = "made up for a test"
records = 600
check = 200
rounds = [2]

[[cases]]
row = "IID"
data = "digits"
model = { name = "mlp", hidden = [32] }
federation = { clients = 4, rounds = 12, lr = 0.5 }

[[cases]]
row = "two classes"
data = "digits"
model = { name = "mlp", hidden = [32] }
federation = { clients = 5, rounds = 12, lr = 0.5, split = "classes" }

[defenses]
"pruning 50 %" = { name = "gradient-pruning", rate = 0.5 }
"noise 10" = { name = "gradient-noise", std = 10.0 }

[scale.quick]
seeds = 2

[scale.one]
only = ["IID"]

[scale.wrong]
only = ["IIDD"]
"""


def _file(folder) -> str:
    path = folder / "tiny.toml"
    path.write_text(TINY)
    return str(path)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("federated")
    results = run_study(_file(folder), scale="quick", store=Store(folder / "runs"), engine=LocalEngine(1))
    return {(row.row, row.metric): row for row in results.rows}


def test_accuracy_is_told_on_the_way_and_at_the_end_with_interval_and_chance(rows):
    early = rows["IID, no defense", "test accuracy after 2 rounds"]
    late = rows["IID, no defense", "test accuracy after 12 rounds"]
    assert late.control < 20 < early.value < late.value
    assert late.value > 85
    assert late.low < late.value < late.high
    assert late.n == 200


def test_little_pruning_costs_little_and_overwhelming_noise_all(rows):
    lost = "accuracy lost over the last tenth"
    assert abs(rows["IID, pruning 50 %", lost].value) < 10
    assert rows["IID, noise 10", lost].value > 40
    slower = rows["IID, pruning 50 %", "rounds to an accuracy, times those without"]
    assert slower.low <= slower.value <= slower.high
    assert 0.3 < slower.value < 3


def test_two_classes_a_client_learn_more_slowly(rows):
    metric = "test accuracy after 2 rounds"
    assert rows["two classes, no defense", metric].value < rows["IID, no defense", metric].value


def test_cases_can_be_picked_and_unknown_ones_are_refused(tmp_path):
    steps = open_study(_file(tmp_path), scale="one").steps(Store(tmp_path / "runs"), data_dir=None)
    assert set(steps) == {"IID/data", *(f"IID/{name}/0" for name in ("none", "pruning 50 %", "noise 10"))}
    with pytest.raises(BadInputError, match="no case 'IIDD'"):
        open_study(_file(tmp_path), scale="wrong")


def _fake(name, **options):
    """Records of a data set's shape and classes, without its files."""
    shape = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}[name]
    inputs = torch.randint(256, (60, *shape), generator=torch.Generator().manual_seed(0)) / 255
    return Dataset(inputs, torch.arange(60) % 10, classes=tuple("0123456789"), name=name)


@pytest.mark.parametrize("scale", ["quick", "full"])
def test_the_shipped_study_builds_its_graph(scale, monkeypatch, tmp_path):
    monkeypatch.setattr(federated, "load", _fake)
    study = open_study("soteria-fedavg", scale=scale)
    assert isinstance(study, FederatedStudy)
    assert study.records + study.check <= 50_000
    study = replace(study, records=40, check=20)
    steps = study.steps(Store(tmp_path / "runs"), data_dir=None)
    assert len(steps) == len(study.cases) * (1 + (1 + len(study.defenses)) * study.seeds)
