import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from divulge.data import Dataset, copies, overlap, require_disjoint, split, without
from divulge.errors import BadInputError


def table(values: list[int], labels: list[int] | None = None) -> Dataset:
    """Records that are told apart by one number; equal numbers are exact copies."""
    inputs = torch.tensor(values, dtype=torch.float32).reshape(-1, 1)
    targets = torch.zeros(len(values), dtype=torch.int64) if labels is None else torch.tensor(labels)
    return Dataset(inputs, targets, ids=tuple(f"r{row}" for row in range(len(values))))


VALUES = st.lists(st.integers(0, 12), min_size=1, max_size=40)
FRACTIONS = st.lists(st.sampled_from([0.0, 0.1, 0.25, 1 / 3]), min_size=1, max_size=3)


@settings(max_examples=150, deadline=None)
@given(values=VALUES, fractions=FRACTIONS, seed=st.integers(0, 2**32 - 1), stratify=st.booleans())
def test_parts_are_disjoint_exact_and_share_no_copy(values, fractions, seed, stratify):
    data = table(values, [value % 3 for value in values])
    sizes = {f"part{position}": fraction for position, fraction in enumerate(fractions)}
    parts = split(data, sizes, seed=seed, stratify=stratify)
    distinct = len(set(values))
    assert parts.dropped == len(values) - distinct
    assert list(parts) == list(sizes)
    for name, fraction in sizes.items():
        exact = {0.0: 0, 0.1: distinct // 10, 0.25: distinct // 4, 1 / 3: distinct // 3}[fraction]
        assert len(parts[name]) == len(parts.rows[name]) == exact
        assert parts[name].ids == tuple(f"r{row}" for row in parts.rows[name])
    drawn = [values[row] for rows in parts.rows.values() for row in rows]
    assert len(drawn) == len(set(drawn))
    kept = {row for rows in parts.rows.values() for row in rows}
    assert all(row == values.index(values[row]) for row in kept)  # the first of its copies
    again = split(data, sizes, seed=seed, stratify=stratify)
    assert all(np.array_equal(parts.rows[name], again.rows[name]) for name in sizes)


@settings(max_examples=50, deadline=None)
@given(values=VALUES, seed=st.integers(0, 1000))
def test_without_uniqueness_every_row_is_drawn_once(values, seed):
    parts = split(table(values), {"all": len(values)}, seed=seed, unique=False)
    assert sorted(parts.rows["all"]) == list(range(len(values)))
    assert parts.dropped == 0


def test_another_seed_gives_other_parts():
    data = table(list(range(100)))
    first, second = (split(data, {"a": 50}, seed=seed).rows["a"] for seed in (0, 1))
    assert set(first) != set(second)


def test_each_record_is_drawn_equally_often():
    data = table(list(range(10)))
    drawn = np.bincount(np.concatenate([split(data, {"a": 5}, seed=seed).rows["a"] for seed in range(400)]))
    assert abs(drawn - 200).max() < 50  # five standard deviations of a binomial of 400 halves


@pytest.mark.parametrize("seed", range(5))
def test_stratified_parts_have_the_classes_in_proportion(seed):
    labels = [0] * 600 + [1] * 300 + [2] * 100
    data = table(list(range(1000)), labels)
    parts = split(data, {"a": 100, "b": 500}, seed=seed, stratify=True)
    for name, size in {"a": 100, "b": 500}.items():
        counts = torch.bincount(parts[name].targets, minlength=3)
        assert (counts - size * torch.tensor([0.6, 0.3, 0.1])).abs().max() <= 2
    plain = split(data, {"a": 100, "b": 500}, seed=seed)
    assert not np.array_equal(plain.rows["a"], parts.rows["a"])


def test_binary_fractions_round_as_written():
    assert len(split(table(list(range(100))), {"a": 0.29}, seed=0)["a"]) == 29


REFUSED = {
    "too many": ({"a": 3, "b": 2}, "at most 4 records together after dropping 1 exact copies, got a 3, b 2"),
    "too large fractions": ({"a": 0.5, "b": 0.75}, "at most 4 records together"),
    "negative": ({"a": -1}, "part 'a': expected a count of records or a fraction from 0.0 to 1.0, got -1"),
    "fraction above one": ({"a": 1.5}, "got 1.5"),
    "nan": ({"a": float("nan")}, "got nan"),
    "text": ({"a": "half"}, "got 'half'"),
    "bool": ({"a": True}, "got True"),
}


@pytest.mark.parametrize("case", REFUSED, ids=REFUSED)
def test_split_refuses(case):
    sizes, message = REFUSED[case]
    with pytest.raises(BadInputError, match=message):
        split(table([0, 1, 2, 3, 3]), sizes, seed=0)


def test_copies_overlap_and_without_agree():
    members, others = table([1, 2, 3, 3]), table([3, 9, 3, 1, 8])
    assert copies(others, of=members).tolist() == [True, False, True, True, False]
    assert overlap(members, others) == 3
    assert overlap(others, members) == 3
    assert without(others, members).inputs.ravel().tolist() == [9, 8]
    require_disjoint(members, without(others, members))


def test_copies_are_found_whatever_their_label():
    assert overlap(table([1, 2], [0, 0]), table([2], [1])) == 1


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (table([4, 2, 5]), "overlap: 1 of 3 non-members are exact copies of a member"),
        (table([1, 2]), "overlap: all of 2 non-members"),
        (Dataset(torch.zeros(1, 2), torch.tensor([0])), r"expected records of one shape, got \(2,\) and \(1,\)"),
    ],
    ids=["some", "all", "shape"],
)
def test_require_disjoint_refuses(others, message):
    with pytest.raises(BadInputError, match=message):
        require_disjoint(table([1, 2, 3]), others)
