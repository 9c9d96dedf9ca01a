"""Tables of posteriors as targets: CSV, NPZ and arrays."""

import numpy as np
import pytest
import torch

from divulge.auditing.targets import load_table, table_target
from divulge.errors import BadInputError

CSV = "id,label,cat,dog\nr1,dog,0.25,0.75\nr2,cat,0.5,0.5\n"


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return rng.dirichlet(np.ones(4), size=30), rng.integers(0, 4, 30)


def test_csv_with_class_names_and_ids(tmp_path):
    (tmp_path / "t.csv").write_text("\ufeff" + CSV + "\n", encoding="utf-8")
    table = load_table(tmp_path / "t.csv")
    assert (table.classes, table.ids, table.logits) == (("cat", "dog"), ("r1", "r2"), False)
    assert table.labels.tolist() == [1, 0]
    assert np.allclose(np.exp(table.log_posteriors()), [[0.25, 0.75], [0.5, 0.5]])


def test_csv_of_logits_with_class_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("p0,p1,p2,label\n-3.5,2,1e-3,2\n1,2,-1,0\n")
    table = load_table(str(tmp_path / "t.csv"))
    assert table.logits
    assert table.labels.tolist() == [2, 0]
    assert table.log_posteriors().tolist() == [[-3.5, 2, 1e-3], [1, 2, -1]]


@pytest.mark.parametrize("key", ["posteriors", "logits"])
def test_npz(key, tmp_path, arrays):
    values, labels = arrays
    values = values if key == "posteriors" else np.log(values)
    np.savez(tmp_path / "t.npz", **{key: values}, labels=labels, classes=np.array(list("abcd")), ids=np.arange(30))
    table = load_table(tmp_path / "t.npz")
    assert (table.logits, table.classes, table.ids[-1]) == (key == "logits", ("a", "b", "c", "d"), "29")
    assert np.allclose(np.exp(table.log_posteriors()), arrays[0])


def test_a_target_of_tables_looks_its_records_up(arrays):
    values, labels = arrays
    target, inside, outside = table_target((values[:20], labels[:20]), (torch.tensor(values[20:]), labels[20:]))
    assert (target.has_inputs, target.module, target.kind) == (False, None, "table of posteriors")
    assert inside.inputs.shape == (20, 1)
    assert inside.inputs.dtype == torch.float32
    assert not set(inside.hashes()) & set(outside.hashes()), "row numbers never coincide"
    assert outside.targets.tolist() == labels[20:].tolist()
    assert np.allclose(np.exp(target.release.logits(outside.inputs)), values[20:])
    shuffled = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert np.allclose(np.exp(target.release.logits(inside[shuffled].inputs)), values[:20][shuffled])
    assert target.architecture() is None


def test_equal_rows_on_both_sides_are_fine():
    target, inside, outside = table_target(([[0.5, 0.5]] * 3, [0, 1, 0]), ([[0.5, 0.5]] * 2, [0, 1]))
    assert (len(inside), len(outside)) == (3, 2)
    assert any("both tables" in note for note in target.notes)


def test_what_was_not_asked_cannot_be_asked(arrays):
    target, _, _ = table_target((arrays[0][:20], arrays[1][:20]), (arrays[0][20:], arrays[1][20:]))
    for inputs in (torch.tensor([[30.0]]), torch.tensor([[-1.0]]), torch.tensor([[0.5]]), torch.rand(2, 3)):
        with pytest.raises(BadInputError, match=r"a table of 30 answers: expected row numbers \(n, 1\) from 0 to 29"):
            target.release.logits(inputs)


def test_the_fingerprint_is_that_of_the_content(arrays):
    values, labels = arrays
    prints = [
        table_target((values[:20], labels[:20]), (values[20:], labels[20:]))[0].fingerprint,
        table_target((values[:20].copy(), labels[:20]), (values[20:], labels[20:]))[0].fingerprint,
        table_target((values[:19], labels[:19]), (values[19:], labels[19:]))[0].fingerprint,
        table_target((values[:20], (labels[:20] + 1) % 4), (values[20:], labels[20:]))[0].fingerprint,
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


BAD_CSV = {
    "no label": ("a,b\n0.5,0.5\n", "a header line with one column `label`.*got: a, b"),
    "semicolons": ("label;a;b\n0;0.5;0.5\n", "comma-separated columns, got: label;a;b"),
    "empty": ("", "got: nothing"),
    "header only": ("label,a,b\n", "one record and two classes at least"),
    "one class": ("label,a\n0,1\n", "one record and two classes at least"),
    "ragged": ("label,a,b\n0,0.5,0.5\n1,0.5\n", "line 3: expected 3 columns as in the header, got 2"),
    "text": ("label,a,b\n0,0.5,0.5\n1,0.5,half\n", "line 3, column 'b': expected a number, got 'half'"),
    "nan": ("label,a,b\n0,nan,0.5\n", "NaN or infinity in 1 of 1 rows, first in record 0"),
    "infinity": ("label,a,b\n0,0.5,0.5\n1,-inf,0.5\n", "NaN or infinity in 1 of 2 rows, first in record 1"),
    "unnormalized": ("label,a,b\n0,50,50\n1,30,70\n", "expected rows of 0 or more that sum to 1"),
    "one bad row": (
        "label,a,b\n0,0.5,0.5\n1,0.3,0.7\n0,-0.5,0.5\n",
        "1 of 3 rows do not: row 2 has a smallest value of -0.5",
    ),
    "label out of range": ("label,a,b\n2,0.5,0.5\n", "'2' is neither a class name nor a class number"),
    "label unknown": ("label,a,b\nc,0.5,0.5\n", "'c' is neither a class name nor a class number"),
    "twice a name": ("label,a,a\n0,0.5,0.5\n", "two columns have one name"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_csv(case, tmp_path):
    text, message = BAD_CSV[case]
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(BadInputError, match=message):
        load_table(tmp_path / "t.csv")


BAD_NPZ = {
    "objects": ({"posteriors": np.array([[0.5, 0.5]], dtype=object), "labels": [0]}, "object arrays are pickles"),
    "no labels": (
        {"posteriors": [[0.5, 0.5]]},
        "expected arrays `labels` and one of `posteriors` and `logits`, got posteriors",
    ),
    "both": ({"posteriors": [[0.5, 0.5]], "logits": [[0.5, 0.5]], "labels": [0]}, "one of `posteriors` and `logits`"),
    "false logits": ({"logits": [[0.5, 0.5]], "labels": [0]}, "expected logits, as was said"),
    "flat": ({"posteriors": [0.5, 0.5], "labels": [0]}, r"got float64 of shape \(2,\)"),
    "strings": ({"posteriors": [["0.5", "0.5"]], "labels": [0]}, "expected a table of numbers"),
    "label count": (
        {"posteriors": [[0.5, 0.5]], "labels": [0, 1]},
        r"expected 1 labels, one a record, got shape \(2,\)",
    ),
    "class count": ({"posteriors": [[0.5, 0.5]], "labels": [0], "classes": ["a"]}, "but 1 class names"),
    "id count": ({"posteriors": [[0.5, 0.5]], "labels": [0], "ids": [1, 2]}, "and 2 ids"),
    "guessed names": (
        {"posteriors": [[0.5, 0.5]] * 2, "labels": ["a", "b"]},
        "labels are names, but the columns have none",
    ),
}


@pytest.mark.parametrize("case", BAD_NPZ)
def test_bad_npz(case, tmp_path):
    arrays, message = BAD_NPZ[case]
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(BadInputError, match=message):
        load_table(tmp_path / "t.npz")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.npz", b"PK\x03\x04 broken", "expected an NPZ file"),
        ("t.npz", b"\x80\x04pickle", "expected an NPZ file"),
        ("t.npz", b"", "expected an NPZ file"),
        ("t.csv", b"label,a,b\n0,\xff\xfe,1\n", "expected a CSV file in UTF-8"),
        ("t.parquet", b"", r"as \.csv or \.npz, got \.parquet"),
    ],
)
def test_damaged_files(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        load_table(tmp_path / name)
    with pytest.raises(BadInputError, match="there is no file"):
        load_table(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("members", "nonmembers", "message"),
    [
        (([[0.5, 0.5]], [0]), ([[0.5, 0.3, 0.2]], [0]), "members have 2 classes .0, 1., non-members 3"),
        (([[0.5, 0.5]], [0]), ([[-1.5, 0.3]], [0]), "members are probabilities and non-members are logits"),
        (7, ([[0.5, 0.5]], [0]), "expected a CSV or NPZ file or a pair"),
    ],
)
def test_two_tables_must_agree(members, nonmembers, message):
    with pytest.raises(BadInputError, match=message):
        table_target(members, nonmembers)
