"""The study of overlearning: layers beside their controls, and what it refuses."""

import pytest

from divulge.errors import BadInputError
from divulge.runs.engines import LocalEngine
from divulge.runs.store import Store
from divulge.studies import open_study, run_study

STUDY = """
kind = "attributes"
title = "Race from gender"
source = "none"
data = "utkface"
attribute = "race"
train = 400
known = 400
test = 400
model = { name = "pooled-lenet", channels = [8, 16], hidden = [32] }
attack = { probes = ["logistic"] }

[[embedders]]
row = "one epoch"
recipe = { epochs = 1, batch_size = 64 }
published = { "attribute accuracy" = 51.0 }

[[embedders]]
row = "under dropout"
recipe = { epochs = 1, batch_size = 64 }
defense = { name = "dropout", patience = "none" }

[scale.quick]
"""


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "race.toml"
    path.write_text(STUDY)
    return path


@pytest.mark.data
def test_every_layer_stands_beside_an_untrained_one(study, data_dir, tmp_path):
    results = run_study(
        str(study), scale="quick", store=Store(tmp_path / "run"), engine=LocalEngine(workers=1), data_dir=data_dir
    )
    numbers = {(row.row, row.metric): row for row in results.rows}
    majority = numbers["most frequent value", "attribute accuracy"].value
    from_input = numbers["without the network, from the input", "attribute accuracy"]
    assert from_input.value > majority == from_input.control
    layers = [row for row in results.rows if row.row.startswith("one epoch, layer") and row.metric.endswith("accuracy")]
    assert [row.row.split()[3] for row in layers] == ["3", "6", "9", "10"]
    assert all(row.control is not None and row.low < row.value < row.high for row in layers)
    assert [row.published for row in layers] == [None, None, 51.0, None]
    assert all(row.control is not None for row in results.rows if row.row.startswith("under dropout, layer"))


@pytest.mark.data
def test_an_attribute_that_is_not_there(study, data_dir, tmp_path):
    study.write_text(STUDY.replace('"race"', '"mood"'))
    with pytest.raises(BadInputError, match="no attribute 'mood'"):
        open_study(str(study), scale="quick").steps(Store(tmp_path / "run"), data_dir=data_dir)
    assert open_study("attribute-utkface", scale="full").train == 10668
