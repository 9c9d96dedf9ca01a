"""An attribute's place in a table: categories, codes and attributes beside it, and what is no attribute."""

import pytest
import torch

from divulge.data import Dataset
from divulge.data.columns import column_of
from divulge.errors import BadInputError

TARGETS = torch.tensor([0, 1, 0])


def table(**more) -> Dataset:
    inputs = torch.tensor([[1.0, 0, 7, 5], [0, 1, 8, 5], [0, 1, 7, 5]])
    return Dataset(inputs, TARGETS, features=("job=x", "job=y", "code", "same"), **more)


@pytest.mark.parametrize(
    ("name", "values", "codes", "width"),
    [("job", ("x", "y"), [0, 1, 1], 2), ("code", ("7", "8"), [0, 1, 0], 3), ("mood", ("0", "1"), [1, 0, 1], 4)],
)
def test_every_kind_is_taken_and_put_back(name, values, codes, width):
    data = table(attributes={"mood": torch.tensor([1, 0, 1])})
    column = column_of(data, name)
    others, found = column.take(data)
    assert column.values == values
    assert found.tolist() == codes
    assert others.shape == (3, width)
    whole = torch.stack([column.put(others[row : row + 1], found[row])[0] for row in range(3)])
    assert torch.equal(whole, data.inputs)


def test_columns_without_names_go_by_their_numbers():
    data = Dataset(torch.tensor([[0.0, 3], [1, 3]]), torch.tensor([0, 1]))
    assert column_of(data, "0").values == ("0", "1")


def test_named_values_of_an_attribute_beside():
    data = table(attributes={"mood": torch.tensor([1, 0, 1])}, attribute_classes={"mood": ("low", "high", "none")})
    assert column_of(data, "mood").values == ("low", "high", "none")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: column_of(table(), "jobs"), "no attribute 'jobs'; the nearest is 'job'"),
        (lambda: column_of(table(), "same"), "has one value, 5"),
        (lambda: column_of(Dataset(torch.rand(2, 1, 4, 4), TARGETS[:2]), "race"), "got images"),
        (
            lambda: column_of(Dataset(torch.rand(40, 1), torch.zeros(40, dtype=torch.int64)), "0"),
            "40 different numbers",
        ),
        (
            lambda: column_of(table(attributes={"mood": torch.tensor([0.5, 1, 2])}), "mood"),
            "categories numbered from 0",
        ),
        (lambda: column_of(table(attributes={"mood": torch.tensor([-1, 1, 2])}), "mood"), "numbered from 0"),
        (lambda: column_of(table(), "job").take(Dataset(torch.rand(2, 3), TARGETS[:2])), "table of 4 columns"),
        (lambda: beside().take(table()), "no attribute 'mood'"),
        (lambda: beside().take(table(attributes={"mood": torch.tensor([1, 0, 2])})), "from 0 to 1, got 0 to 2"),
    ],
)
def test_what_is_no_attribute_is_refused(make, told):
    with pytest.raises(BadInputError, match=told):
        make()


def test_a_code_that_was_never_there_is_refused():
    data = table()
    column = column_of(data, "code")
    other = Dataset(data.inputs + torch.tensor([0.0, 0, 5, 0]), TARGETS, features=data.features)
    with pytest.raises(BadInputError, match=r"record 0 holds \[12.0\], which is none of its 2 values"):
        column.take(other)
    blurred = Dataset(data.inputs * 0.5, TARGETS, features=data.features)
    with pytest.raises(BadInputError, match="none of its 2 values"):
        column_of(data, "job").take(blurred)


def test_not_a_number_is_no_table():
    with pytest.raises(BadInputError, match="NaN"):
        Dataset(torch.tensor([[float("nan")], [1.0]]), TARGETS[:2])


def beside():
    return column_of(table(attributes={"mood": torch.tensor([1, 0, 1])}), "mood")
