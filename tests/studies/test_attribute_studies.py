"""The study of overlearning: layers beside their controls, adversaries beside a defense, and what it refuses."""

import numpy as np
import pytest

from divulge.errors import BadInputError
from divulge.runs.engines import LocalEngine
from divulge.runs.store import Store
from divulge.studies import open_study, run_study
from divulge.studies.attributes import Embedder
from divulge.training import Recipe

STUDY = """
kind = "attributes"
title = "Race from gender"
source = "none"
data = "DATA"
attribute = "race"
train = 120
known = 120
test = 160
few = 60
model = { name = "pooled-lenet", channels = [4, 8], hidden = [16] }
attack = { probes = ["logistic"] }
own = { recipe = { epochs = 1, batch_size = 64 } }
repurposing = { recipe = { epochs = 1, batch_size = 32 } }

[[embedders]]
row = "one epoch"
recipe = { epochs = 1, batch_size = 64 }
published = { "attribute accuracy" = 51.0, "F1 of Asian" = 39.0 }

[[embedders]]
row = "under dropout"
recipe = { epochs = 1, batch_size = 64 }
defense = { name = "dropout", patience = "none" }
layers = ["8.1", "9"]
release = "9"

[[embedders]]
row = "censored"
recipe = { epochs = 1, batch_size = 64 }
defense = { name = "censoring" }
adversaries = true
layers = ["6", "8", "9", "10"]
release = "9"

[[embedders]]
row = "bottleneck"
recipe = { epochs = 1, batch_size = 64 }
defense = { name = "information-bottleneck", width = 8 }
adversaries = true
release = "11"

[scale.quick]
"""


@pytest.fixture
def study(tmp_path):
    """Pictures whose left half is brighter for one class, and whose upper half for one of three values."""
    draw = np.random.default_rng(0)
    gender, race = draw.integers(0, 2, 400), draw.choice(3, 400, p=[0.5, 0.3, 0.2])
    pictures = 0.5 * draw.random((400, 3, 12, 12), dtype=np.float32)
    pictures[:, :, :, :6] += 0.25 * gender[:, None, None, None]
    pictures[:, :, :6] += 0.1 * race[:, None, None, None]
    names = np.array(["White", "Black", "Asian"])[race]
    np.savez(tmp_path / "faces.npz", x=pictures, y=gender, race=names)
    path = tmp_path / "race.toml"
    path.write_text(STUDY.replace("DATA", str(tmp_path / "faces.npz")))
    return path


def test_layers_and_adversaries_stand_beside_their_controls(study, tmp_path):
    store = Store(tmp_path / "run")
    results = run_study(str(study), scale="quick", store=store, engine=LocalEngine(workers=1), data_dir=None)
    numbers = {(row.row, row.metric): row for row in results.rows}
    majority = numbers["most frequent value", "attribute accuracy"].value
    from_input = numbers["without the network, from the input", "attribute accuracy"]
    assert from_input.value > majority == from_input.control
    assert numbers["without the network, the same one trained for it", "F1 of White"].control is not None

    def of(row, metric="attribute accuracy"):
        return [one for one in results.rows if one.row.startswith(row) and one.metric == metric]

    plain = of("one epoch, layer")
    assert [row.row.split()[3] for row in plain] == ["3", "6", "8", "9", "10"]
    assert all(row.control is not None and row.low < row.value < row.high for row in plain)
    assert [row.published for row in plain] == [None, None, None, 51.0, None]
    assert [row.adversary for row in plain] == [None] * 5
    (asian,) = of("one epoch", "F1 of Asian")
    assert (asian.published, asian.row) == (39.0, plain[3].row)
    assert all(row.control is not None for row in of("under dropout, layer"))

    assert [row.adversary for row in of("censored, layer")] == ["adaptive", "adaptive", "blind", "adaptive"]
    assert [row.adversary for row in of("bottleneck, layer 11")] == ["blind"]
    for name in ("censored", "bottleneck"):
        assert len(of(name, "test accuracy")) == 1
        others = [of(f"{name}, {what}") for what in ("the layer that promises most", "de-censored", "re-purposed")]
        assert all(len(rows) == 1 and rows[0].adversary == "adaptive" for rows in others)
        assert all(rows[0].control is not None for rows in others)
    assert "60 records (control: from scratch)" in others[2][0].row


def test_an_attribute_that_is_not_there(study, tmp_path):
    study.write_text(study.read_text().replace('"race"', '"mood"'))
    with pytest.raises(BadInputError, match="mood"):
        open_study(str(study), scale="quick").steps(Store(tmp_path / "run"), data_dir=None)


def test_a_released_layer_that_is_not_read_is_refused():
    recipe = Recipe(epochs=1)
    with pytest.raises(BadInputError, match="among those that are read, 9, got None"):
        Embedder("one", recipe, layers=("9",))
    with pytest.raises(BadInputError, match="got 12"):
        Embedder("one", recipe, layers=("9",), release="12")


def test_the_parts_of_the_whole_study_fit_into_its_data():
    study = open_study("attribute-utkface", scale="full")
    assert study.train + study.known + study.test == 23_315, "all that are no copies of others"
