"""Studies of tables: attributes beside imputation, shares of groups beside models of one world, what is refused."""

import pytest
import torch

from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.runs.engines import LocalEngine
from divulge.runs.store import Store
from divulge.studies import open_study, run_study
from divulge.studies.table_attributes import in_units, without_columns

ATTRIBUTES = """
kind = "table-attributes"
title = "Sex from income"
source = "none"
data = "adult"
attribute = "sex"
value = "Female"
drop = ["relationship"]
train = 150
held_out = 150
known = 60
repeats = 2

[scale.quick]
targets = [
    { row = "labels", model = { name = "mlp", hidden = [4], standardize = true }, recipe = { epochs = 1 }, defense = { name = "label-only" } },
    { row = "without", model = { name = "mlp", hidden = [4], standardize = true }, recipe = { epochs = 1 }, hide = true, known = 40 },
    { row = "tree", grown = {} },
]
"""  # noqa: E501
SHARES = """
kind = "properties"
title = "Women in the training set"
source = "none"
data = "adult"
group = ["sex", "Female"]
shares = [0.1, 0.6]
size = 400
asked = 0.01
shadows = 40
targets = 20
recipe = { epochs = 2, batch_size = 64, lr = 1e-2, weight_decay = 1e-2, precision = "float32" }
populations = [
    { row = "plain", model = { name = "softmax" } },
    { row = "labels", model = { name = "softmax" }, defense = { name = "label-only" }, attacks = ["chosen-queries"] },
]
attacks = [{ name = "chosen-queries" }, { name = "sorted-weights" }]
[scale.quick]
"""


def run(text, tmp_path, data_dir):
    path = tmp_path / "own.toml"
    path.write_text(text)
    return run_study(
        str(path), scale="quick", store=Store(tmp_path / "run"), engine=LocalEngine(workers=1), data_dir=data_dir
    )


@pytest.mark.data
def test_every_attack_stands_beside_imputation(tmp_path, data_dir):
    results = run(ATTRIBUTES, tmp_path, data_dir)
    rows = {(row.row, row.metric): row for row in results.rows}
    tree = rows["tree: tree counts, members", "precision at top 100"]
    assert tree.control == pytest.approx(rows["tree: imputation, without the model, members", tree.metric].value)
    assert tree.n == 200
    assert rows["tree", "train accuracy"].value == 100
    assert {row.adversary for row in results.rows if row.row.startswith("labels: labels")} == {"adaptive"}
    assert {row.adversary for row in results.rows if row.row.startswith("labels: mistakes")} == {"blind"}
    assert {row.adversary for row in results.rows if row.row.startswith("without: neurons")} == {"adaptive"}
    assert not any("without: labels" in row.row or "labels: neurons" in row.row for row in results.rows)
    gain = rows["tree: tree counts, members (control: non-members)", "precision above imputation at top 100"]
    assert gain.value == pytest.approx(tree.value - tree.control)
    assert all(row.low <= row.value <= row.high for row in results.rows)


@pytest.mark.data
def test_shares_are_told_beside_models_of_one_world(tmp_path, data_dir):
    results = run(SHARES, tmp_path, data_dir)
    found = {row.row: row for row in results.rows}
    plain = found["plain: chosen-queries, 20 queries, 40 shadows"]
    assert plain.value > 80
    assert plain.n == 20
    assert plain.control is not None
    assert found["labels: chosen-queries, 20 queries, 40 shadows"].adversary == "adaptive"
    assert len(found) == 3


@pytest.mark.data
@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ATTRIBUTES.replace('"sex"', '"mood"'), "no attribute 'mood'"),
        (ATTRIBUTES.replace('"Female"', '"Other"'), "no value 'Other'"),
        (ATTRIBUTES.replace('"relationship"', '"relation"'), "no column 'relation'"),
        (SHARES.replace('"Female"', '"Other"'), "no value 'Other'"),
        (SHARES.replace('{ name = "sorted-weights" }', '{ name = "lira" }'), "expected attacks on a property"),
    ],
)
def test_what_a_study_cannot_ask_is_refused(tmp_path, data_dir, text, told):
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(BadInputError, match=told):
        open_study(str(path), scale="quick").steps(Store(tmp_path / "run"), data_dir=data_dir)


def test_columns_are_left_out_and_brought_to_units():
    data = Dataset(torch.tensor([[50.0, 1, 0]]), torch.tensor([0]), features=("age", "job=x", "job=y"))
    assert without_columns(data, ("job",)).features == ("age",)
    assert in_units(data, {"age": 100.0}).inputs.tolist() == [[0.5, 1.0, 0.0]]
    with pytest.raises(BadInputError, match="positive number"):
        in_units(data, {"job": 2.0})


@pytest.mark.parametrize("name", ["attribute-adult", "property-adult", "property-utkface"])
@pytest.mark.parametrize("scale", ["quick", "full"])
def test_the_studies_that_ship_can_be_opened(name, scale):
    assert open_study(name, scale=scale).title
