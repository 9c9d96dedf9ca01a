import numpy as np
import pytest
import torch

from divulge.data import load
from divulge.data.interactions import are_interactions, baskets, of_pairs, over_items, require_baskets
from divulge.errors import BadInputError


def test_a_table_of_ones_where_there_are_pairs():
    rng = np.random.default_rng(0)
    expected = rng.random((6, 9)) < 0.4
    expected[:, 0] = True
    users, items = np.nonzero(expected)
    shuffled = rng.permutation(len(users))
    table = baskets(users[shuffled], items[shuffled], count=6, width=9)
    assert table.dtype == torch.float32
    assert (table.numpy() == expected).all()


@pytest.mark.parametrize(
    ("users", "items", "message"),
    [
        ([0, 1], [0, 3], "item numbers from 0 to 2, got 0 to 3"),
        ([0, 1], [0, -1], "item numbers from 0 to 2, got -1 to 0"),
        ([0, 2], [0, 0], "user numbers from 0 to 1, got 0 to 2"),
        ([0, 1, 1], [0, 2, 2], "1 pairs come more than once, the first of user 1 and item 2"),
        ([0, 0], [0, 2], "1 of 2 users have no item, the first is user 1"),
        ([0], [0, 1], "one user number and one item number a pair"),
        ([0.0], [1.5], "one user number and one item number a pair"),
    ],
)
def test_bad_pairs_are_refused(users, items, message):
    with pytest.raises(BadInputError, match=message):
        baskets(np.array(users), np.array(items), count=2, width=3)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (torch.zeros(0, 3), "a table"),
        (torch.ones(3), "a table"),
        (torch.tensor([[0.0, 4.5]]), "got 0 to 4.5. Say which ratings count"),
        (torch.tensor([[0.0, 1.0], [0.0, 0.0]]), "the first is user 1"),
    ],
)
def test_what_is_no_table_of_baskets_is_refused(table, message):
    with pytest.raises(BadInputError, match=message):
        require_baskets(table)


def test_a_table_of_ones_own(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("user,item,rating\nbo,tea,4\nal,rum,5\nbo,rum,1\n")
    data = load(file)
    assert data.ids == ("al", "bo")
    assert data.features == ("rum", "tea")
    assert data.inputs.tolist() == [[1, 0], [1, 1]]
    file.write_text("user,item\n1,7\n1,7\n")
    with pytest.raises(BadInputError, match="more than once"):
        load(file)
    file.write_text("user,item\n1,7\n,7\n")
    with pytest.raises(BadInputError, match="column 'user': 1 missing"):
        load(file)


def test_a_table_of_ones_own_in_parquet(tmp_path):
    parquet, pyarrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    file = tmp_path / "mine.parquet"
    parquet.write_table(pyarrow.table({"user": [5, 2, 5], "item": ["a", "b", "b"], "rating": [1, 2, 3]}), file)
    data = load(file)
    assert are_interactions(data)
    assert data.ids == ("2", "5")
    assert data.inputs.tolist() == [[0, 1], [1, 1]]
    parquet.write_table(pyarrow.table({"user": [5, None], "item": ["a", "b"]}), file)
    with pytest.raises(BadInputError, match="column 'user': 1 missing"):
        load(file)
    parquet.write_table(pyarrow.table({"user": [1, 2], "item": [1, 2], "label": [0, 1]}), file)
    assert not are_interactions(load(file))


def test_pairs_become_users_over_the_items_of_a_model():
    data = of_pairs(np.array(["bo", "al", "bo"]), np.array([7, 3, 3]))
    assert data.features == ("3", "7")
    wide = over_items(data, 9)
    assert wide.inputs.nonzero().tolist() == [[0, 3], [1, 3], [1, 7]]
    assert wide.ids == ("al", "bo")
    assert over_items(data, 2) is data
    assert torch.equal(of_pairs(np.array(["bo", "al", "bo"]), np.array([7, 3, 3]), width=9).inputs, wide.inputs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: of_pairs(np.array([1.0, np.nan]), np.array([1, 2])), "users hold NaN"),
        (lambda: of_pairs(np.array([1, 2]), np.array([1, np.inf])), "items hold NaN"),
        (lambda: of_pairs(np.array([1, 2]), np.array([1, 9]), width=9), "item numbers from 0 to 8, got 1 to 9"),
        (lambda: of_pairs(np.array([1, 1]), np.array([4, 4])), "come more than once"),
        (lambda: over_items(of_pairs(np.array([1, 2]), np.array([1, 9])), 9), "numbered from 1 to 9. Number"),
        (lambda: over_items(of_pairs(np.array([1, 2]), np.array(["a", "b"])), 9), "named, such as 'a'"),
    ],
)
def test_pairs_of_other_items_than_the_model_knows_are_refused(call, message):
    with pytest.raises(BadInputError, match=message):
        call()


def test_a_table_with_a_label_is_no_table_of_interactions(tmp_path):
    file = tmp_path / "people.csv"
    file.write_text("user,item,label\n1,2,0\n2,3,1\n")
    assert load(file).features == ("user", "item")


def test_published_files_are_read_as_they_are(tmp_path):
    rng = np.random.default_rng(1)
    pairs = [(user, item) for user in range(1, 431) for item in rng.choice(40, 6, replace=False) + 1]
    (tmp_path / "ml-1m").mkdir()
    lines = [f"{user}::{item}::4::978300760" for user, item in pairs] + ["1::41::3::978300760"]
    (tmp_path / "ml-1m" / "ratings.dat").write_text("\n".join(lines) + "\n", encoding="latin-1")
    with pytest.raises(BadInputError, match="expected 5,634 records in part 'train' of movielens-1m, found 30"):
        load("movielens-1m", data_dir=tmp_path)
    (tmp_path / "ml-1m" / "ratings.dat").write_text("1,2,3,4\n")
    with pytest.raises(BadInputError, match="4 whole numbers a line"):
        load("movielens-1m", data_dir=tmp_path)
    (tmp_path / "lastfm").mkdir()
    lines = ["userID\tartistID\tweight"] + [f"{user}\t{item}\t9" for user, item in pairs]
    (tmp_path / "lastfm" / "user_artists.dat").write_text("\n".join(lines) + "\n", encoding="latin-1")
    with pytest.raises(BadInputError, match="expected 1,677 records in part 'train' of lastfm, found 230"):
        load("lastfm", data_dir=tmp_path)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "items", "pairs", "fewest"),
    [("movielens-1m", 3520, 540091, 5), ("steam", 4789, 83919, 5), ("lastfm", 16423, 82934, 5)],
)
def test_the_real_sets_have_the_published_sizes(name, items, pairs, fewest, data_dir):
    parts = {part: load(name, part=part, data_dir=data_dir) for part in ("train", "validation", "test")}
    train = parts["train"]
    assert train.shape == (items,)  # what the items of the users in training come to hangs on the published draw
    assert train.inputs.sum() == pairs
    assert train.inputs.sum(dim=1).min() == fewest
    assert train.inputs.any(dim=0).all()
    assert len({user for part in parts.values() for user in part.ids}) == sum(map(len, parts.values()))
    for part in parts.values():
        assert part.features == train.features
        require_baskets(part.inputs)
