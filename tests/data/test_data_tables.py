from pathlib import Path

import numpy as np
import pytest
import torch

from divulge.data import Dataset, load
from divulge.data.sources import adult, location30
from divulge.errors import BadInputError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_parquet(path: Path, columns: dict[str, object]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)
    return path


# CSV files

PEOPLE = """\ufeffage, job,income,label
30,clerk,1.5,yes
41,"smith, black",2e3,no
52,clerk,-3,yes
"""


def test_csv_numbers_stay_and_texts_become_columns(tmp_path):
    data = load(write(tmp_path / "people.csv", PEOPLE), attributes=("job", "age", "income"))
    assert data.features == ("age", "job=clerk", "job=smith, black", "income")
    assert data.inputs.tolist() == [[30, 1, 0, 1.5], [41, 0, 1, 2000], [52, 1, 0, -3]]
    assert (data.targets.tolist(), data.classes) == ([1, 0, 1], ("no", "yes"))
    assert data.attributes["job"].tolist() == [0, 1, 0]
    assert data.attributes["age"].tolist() == [30, 41, 52]
    assert data.attributes["income"].tolist() == [1.5, 2000, -3]
    assert data.attribute_classes == {"job": ("clerk", "smith, black")}


def test_csv_without_a_line_of_names(tmp_path):
    data = load(write(tmp_path / "numbers.csv", "1,0.5\n0,0.25\n"), target="0")
    assert data.features == ("1",)
    assert data.inputs.tolist() == [[0.5], [0.25]]
    assert data.targets.tolist() == [1, 0]


def test_like_encodes_a_second_file_as_the_first(tmp_path):
    members = load(write(tmp_path / "members.csv", PEOPLE), attributes=("job",))
    path = write(tmp_path / "others.csv", "job,age,label,income\nclerk,20,yes,1\n")
    others = load(path, attributes=("job",), like=members)
    assert others.features == members.features
    assert others.inputs.tolist() == [[20, 1, 0, 1]]
    assert (others.targets.tolist(), others.classes) == ([1], ("no", "yes"))
    assert others.attribute_classes == members.attribute_classes
    alone = load(path)
    assert (alone.targets.tolist(), alone.features) == ([0], ("job=clerk", "age", "income"))


MEMBERS = Dataset(
    torch.zeros(1, 3), torch.tensor([0]), classes=("no", "yes"), features=("age", "job=clerk", "job=smith")
)

UNLIKE = {
    "value": ("age,job,label\n3,cook,yes\n", "column 'job': 'cook' is not one of its 2 values: clerk, smith"),
    "class": ("age,job,label\n3,clerk,perhaps\n", "column 'label': 'perhaps' is not one of its 2 values: no, yes"),
    "lacking": ("job,label\nclerk,yes\n", r"it lacks \['age'\] and adds none"),
    "added": ("age,job,pay,label\n3,clerk,4,yes\n", r"it lacks none and adds \['pay'\]"),
    "another type": ("age,job,label\n3,7,yes\n", r"it lacks \['job=clerk', 'job=smith'\] and adds \['job'\]"),
}


@pytest.mark.parametrize("case", UNLIKE, ids=UNLIKE)
def test_like_refuses_another_kind_of_table(case, tmp_path):
    text, message = UNLIKE[case]
    with pytest.raises(BadInputError, match=message):
        load(write(tmp_path / "others.csv", text), like=MEMBERS)


def test_hostile_cells_are_inert_text(tmp_path):
    text = "a\x1b[2J,<script>,label\n\u202egnp,1,<b>\n\x07,2,\x1b]0;x\n"
    data = load(write(tmp_path / "set.csv", text))
    assert data.features == ("a\\x1b[2J=\\u202egnp", "a\\x1b[2J=\\x07", "<script>")
    assert data.classes == ("<b>", "\\x1b]0;x")
    assert data.inputs.tolist() == [[1, 0, 1], [0, 1, 2]]


CSV_REFUSED = {
    "empty": ("", {}, "found an empty file"),
    "names only": ("a,label\n", {}, "expected records below the line of column names"),
    "lengths": ("a,label\n1,0\n1\n", {}, "record 1: expected 2 cells, got 1"),
    "twice": ("a,a,label\n1,2,0\n", {}, "expected different column names, got 'a' twice"),
    "no labels": ("a,b\n1,2\n", {}, r"expected a column of labels called label, .*; pass target=. Columns: a, b"),
    "labels elsewhere": ("a,label\n1,2\n", {"target": "b"}, "no column 'b' for the labels. Columns: a, label"),
    "attribute": ("a,label\n1,2\n", {"attributes": ["b"]}, "no column 'b' for an attribute. Columns: a, label"),
    "missing number": ("a,label\n1,0\nNA,1\n,1\n", {}, "column 'a': 2 missing or infinite values, the first in row 1"),
    "missing text": ("a,label\nx,0\n,1\n", {}, "column 'a': 1 missing or infinite values, the first in row 1"),
    "missing label": ("a,label\n1,0\n1,?\n", {}, "column 'label': 1 missing"),
    "infinity": ("a,label\n1,0\ninf,0\n", {}, "column 'a': 1 missing or infinite"),
    "fractional label": ("a,label\n1,0.5\n", {}, "column 'label': expected class numbers or texts, got 0.5"),
    "negative label": ("a,label\n1,-1\n", {}, "expected class numbers from 0, got -1"),
    "no features": ("label\n1\n", {}, "expected columns of features beside the labels"),
    "names of people": (
        "name,label\n" + "".join(f"person {row},0\n" for row in range(1001)),
        {},
        "expected at most 1,000 different texts, got 1,001, such as 'person 0'",
    ),
    "size": ("a,label\n1,0\n", {"size": 3}, r"\(CSV file\) takes no 'size'"),
}


@pytest.mark.parametrize("case", CSV_REFUSED, ids=CSV_REFUSED)
def test_csv_refuses(case, tmp_path):
    text, options, message = CSV_REFUSED[case]
    with pytest.raises(BadInputError, match=message):
        load(write(tmp_path / "set.csv", text), **options)


@pytest.mark.parametrize(
    "content", [b"a,label\n\xff\xfe,1\n", b"a,label\n" + b"x" * 200_000 + b",1\n"], ids=["latin", "long"]
)
def test_what_is_no_csv_is_refused(content, tmp_path):
    (tmp_path / "set.csv").write_bytes(content)
    with pytest.raises(BadInputError, match="expected comma-separated values in UTF-8, but"):
        load(tmp_path / "set.csv")


# Parquet tables


def test_parquet_categories_are_those_of_all_parts(tmp_path):
    write_parquet(
        tmp_path / "train.parquet",
        {"age": [30, 40], "job": ["clerk", "smith"], "ok": [True, False], "label": ["b", "b"]},
    )
    write_parquet(tmp_path / "test.parquet", {"age": [50], "job": ["baker"], "ok": [True], "label": ["a"]})
    train, test = load(tmp_path, attributes=("job",)), load(tmp_path, part="test", attributes=("job",))
    assert train.features == test.features == ("age", "job=baker", "job=clerk", "job=smith", "ok")
    assert train.inputs.tolist() == [[30, 0, 1, 0, 1], [40, 0, 0, 1, 0]]
    assert test.inputs.tolist() == [[50, 1, 0, 0, 1]]
    assert test.attributes["job"].tolist() == [0]
    assert train.attribute_classes == test.attribute_classes == {"job": ("baker", "clerk", "smith")}


def test_labels_of_all_parts_are_numbered_alike(tmp_path):
    write_parquet(tmp_path / "train.parquet", {"x": [1.0, 2.0], "label": ["b", "c"]})
    write_parquet(tmp_path / "test.parquet", {"x": [3.0], "label": ["a"]})
    train, test = load(tmp_path), load(tmp_path, part="test")
    assert train.classes == test.classes == ("a", "b", "c")
    assert (train.targets.tolist(), test.targets.tolist()) == ([1, 2], [0])


PARQUET_REFUSED = {
    "null": ({"x": [1, None], "label": [0, 1]}, {}, "column 'x': 1 missing values"),
    "no records": ({"x": np.zeros(0), "label": np.zeros(0, int)}, {}, "expected records, found none"),
    "nan": ({"x": [1.0, float("nan")], "label": [0, 1]}, {}, "column 'x': 1 missing or infinite values"),
    "lists": ({"x": [[1], [2]], "label": [0, 1]}, {}, "column 'x': expected numbers, texts or pictures, got list"),
    "size": ({"x": [1, 2], "label": [0, 1]}, {"size": 3}, "a table takes no size and no channels"),
    "part": (
        {"x": [1, 2], "label": [0, 1]},
        {"part": "test"},
        r"\(parquet files\): expected one of its parts train, got 'test'",
    ),
}


@pytest.mark.parametrize("case", PARQUET_REFUSED, ids=PARQUET_REFUSED)
def test_parquet_tables_refuse(case, tmp_path):
    columns, options, message = PARQUET_REFUSED[case]
    write_parquet(tmp_path / "data.parquet", columns)
    with pytest.raises(BadInputError, match=message):
        load(tmp_path, **options)


# Adult as the UCI repository has it

ADULT = """39, State-gov, 77516, Bachelors, 13, Never-married, Sales, Unmarried, White, Male, 2174, 0, 40, Cuba, <=50K
50, ?, 83311, Bachelors, 13, Married-civ-spouse, Sales, Husband, White, Male, 0, 0, 13, United-States, >50K

"""
ADULT_TEST = """|1x3 Cross validator
25, Private, 226802, 11th, 7, Never-married, Machine-op-inspct, Own-child, Black, Female, 0, 0, 40, Peru, <=50K.

"""


def test_adult(tmp_path):
    write(tmp_path / "adult.data", ADULT)
    write(tmp_path / "adult.test", ADULT_TEST)
    train, test = adult.read(tmp_path, attributes=("sex",)), adult.read(tmp_path, part="test", attributes=("sex",))
    assert train.features == test.features
    assert (train.targets.tolist(), train.classes) == ([0, 1], ("<=50K", ">50K"))
    assert (test.targets.tolist(), test.attributes["sex"].tolist()) == ([0], [0])
    row = dict(zip(test.features, test.inputs[0].tolist(), strict=True))
    assert {name for name, value in row.items() if value} == {
        "age",
        "workclass=Private",
        "fnlwgt",
        "education=11th",
        "education_num",
        "marital_status=Never-married",
        "occupation=Machine-op-inspct",
        "relationship=Own-child",
        "race=Black",
        "sex=Female",
        "hours_per_week",
        "native_country=Peru",
    }
    assert (row["age"], row["fnlwgt"], row["workclass=?"]) == (25, 226802, 0)


def test_adult_refuses_another_table(tmp_path):
    write(tmp_path / "adult.data", "1,2,3\n")
    with pytest.raises(BadInputError, match="expected 15 cells, got 3"):
        adult.read(tmp_path)


# Location-30

BITS = np.random.default_rng(0).integers(0, 2, (4, 446))


def test_location30_layouts_agree(tmp_path):
    lines = [",".join((f'"{label}"', *map(str, row))) for label, row in zip((1, 30, 2, 1), BITS, strict=True)]
    write(tmp_path / "text" / "bangkok", "\n".join(lines) + "\n")
    packed = [np.packbits(row).tobytes() for row in BITS]
    write_parquet(tmp_path / "packed" / "train.parquet", {"features": packed, "label": [0, 29, 1, 0]})
    for name in ("text", "packed"):
        data = location30.read(tmp_path / name)
        assert data.inputs.tolist() == BITS.tolist()
        assert data.targets.tolist() == [0, 29, 1, 0]


LOCATIONS_REFUSED = {
    "width": ({"features": [b"abc"], "label": [0]}, "expected 56 bytes of packed bits a record"),
    "columns": ({"bits": [b"abc"], "label": [0]}, "expected columns features and label, got bits, label"),
}


@pytest.mark.parametrize("case", LOCATIONS_REFUSED, ids=LOCATIONS_REFUSED)
def test_location30_refuses(case, tmp_path):
    columns, message = LOCATIONS_REFUSED[case]
    write_parquet(tmp_path / "train.parquet", columns)
    with pytest.raises(BadInputError, match=message):
        location30.read(tmp_path)


@pytest.mark.parametrize("line", ["1,0,1\n", "1," + "2," * 445 + "0\n"], ids=["few bits", "no bits"])
def test_location30_refuses_other_numbers(line, tmp_path):
    write(tmp_path / "bangkok", line)
    with pytest.raises(BadInputError, match="expected 446 zeros or ones a record"):
        location30.read(tmp_path)
