"""The study of reconstruction from weights: its rows, its controls, its sheets, and what it refuses."""

import base64
import io

import pytest
from PIL import Image

from divulge.errors import BadInputError
from divulge.runs.engines import LocalEngine
from divulge.runs.store import Store
from divulge.studies import listed, open_study, run_study

STUDY = """
kind = "reconstruction"
title = "Threes and eights"
source = "none"
data = "digits"
classes = [["3"], ["8"]]
train = 10
held_out = 20
test = 30
model = { name = "homogeneous-mlp", hidden = [200, 100] }
attack = { candidates = 20, runs = 2, steps = 200 }
searches = 4
kept = 4

[[targets]]
row = "no defense"

[[targets]]
row = "private"
recipe = { epochs = 20, batch_size = 20, optimizer = "sgd", lr = 0.1, weight_decay = 0.0, precision = "float32" }
defense = { name = "dp-sgd", epsilon = 8.0, noise_seed = 0 }

[[targets]]
row = "hardly private"
noisy = { noise = 1e-5, noise_seed = 0 }

[scale.quick]
"""


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "threes.toml"
    path.write_text(STUDY)
    return path


def test_records_come_back_from_the_open_network_and_not_from_the_private_one(study, tmp_path):
    results = run_study(str(study), scale="quick", store=Store(tmp_path / "run"), engine=LocalEngine(workers=1))
    numbers = {(row.row, row.adversary, row.metric): row for row in results.rows}
    assert len(numbers) == len(results.rows)
    count = "records found above control"
    found = numbers["no defense", None, count]
    assert found.value >= 8
    assert found.control < found.low
    assert found.low < found.value < found.high
    for adversary in ("blind", "adaptive"):
        assert numbers["private", adversary, count].value <= 2
    assert numbers["hardly private", "adaptive", count].value >= 6
    assert numbers["hardly private", None, "epsilon"].value > 1e6
    for row, adversary, apart in (("no defense", None, True), ("private", "blind", False)):
        median = numbers[row, adversary, "median correlation with the nearest candidate"]
        assert median.low <= median.value <= median.high
        assert (median.low > median.control) == apart
    assert numbers["private", None, "epsilon"].value <= 8
    assert 0 < numbers["private", None, "largest chance of rebuilding a record guessed at 1/256"].value <= 1
    on = numbers["no defense", None, "records found of those within 1.5 times the smallest margin"]
    beyond = numbers["no defense", None, "records found beyond 1.5 times the smallest margin"]
    assert on.n + beyond.n == 20
    assert on.value + beyond.value == found.value
    assert numbers["no defense", None, "records found by every group of searches alone"].value <= found.n
    assert numbers["no defense", None, f"{count}, window 7"].n == 20
    assert [(sample.row, sample.adversary) for sample in results.samples[:4]] == [
        ("no defense, originals", None),
        ("no defense", None),
        ("private, originals", "blind"),
        ("private", "blind"),
    ]
    picture = Image.open(io.BytesIO(base64.b64decode(results.samples[0].png)))
    assert picture.size == (12 * 10 - 2, 8)


@pytest.mark.parametrize("name", [name for name in listed() if name.startswith("reconstruction-")])
@pytest.mark.parametrize("scale", ["quick", "full"])
def test_every_study_that_ships_is_well_formed(name, scale):
    study = open_study(name, scale=scale)
    assert study.attack.candidates >= study.train
    assert study.searches % study.attack.runs == 0


@pytest.mark.data
def test_the_parts_of_a_task_are_disjoint_and_without_copies(data_dir, tmp_path):
    study = open_study("reconstruction-fer2013", scale="quick")
    corpus = study._corpus(study._records(data_dir), study.train)
    records = corpus.part("train", "held_out", "test")
    assert len(set(records.hashes())) == len(records)
    assert corpus.part("train").targets.bincount().tolist() == [20, 20]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("searches = 4", "searches = 3"), "multiples"),
        (("candidates = 20", "candidates = 9"), "as many candidates"),
        (('["8"]', '["eight"]'), "no class 'eight'"),
        (("held_out = 20", "held_out = 2000"), "different records"),
        (("kept = 4", 'kept = 4\nonly = ["some"]'), "no row"),
        (('row = "no defense"', 'row = "no defense"\ndefense = { name = "dp-sgd", epsilon = 8.0 }'), "Give a recipe"),
        (("noisy = { noise = 1e-5, noise_seed = 0 }", "noisy = { noise = 1.0 }\nrecipe = { epochs = 2 }"), "has both"),
    ],
)
def test_settings_that_cannot_be_run(study, tmp_path, change, told):
    study.write_text(STUDY.replace(*change))
    with pytest.raises(BadInputError, match=told):
        open_study(str(study), scale="quick").steps(Store(tmp_path / "run"), data_dir=None)
