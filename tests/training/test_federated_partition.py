import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from divulge.errors import BadInputError
from divulge.training.federated import Federation, by_classes, iid, partition
from divulge.training.federated.partition import require_partition


def together(clients):
    return np.sort(np.concatenate(clients))


@given(n=st.integers(1, 60), clients=st.integers(1, 60), seed=st.integers(0, 9))
def test_iid_clients_are_disjoint_complete_and_even(n, clients, seed):
    if clients > n:
        with pytest.raises(BadInputError, match=f"at most {n} clients"):
            iid(n, clients, seed=seed)
        return
    dealt = iid(n, clients, seed=seed)
    assert together(dealt).tolist() == list(range(n))
    assert {len(rows) for rows in dealt} <= {n // clients, n // clients + 1}
    assert all(np.array_equal(a, b) for a, b in zip(dealt, iid(n, clients, seed=seed), strict=True))


@settings(max_examples=200)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    clients=st.integers(1, 12),
    each=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_every_client_holds_exactly_its_classes_and_every_record_is_held_once(counts, clients, each, seed):
    targets = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    possible = each <= len(counts) <= clients * each <= sum(min(count, clients) for count in counts) and clients <= len(
        targets
    )
    if not possible:
        with pytest.raises(BadInputError, match="federation: "):
            by_classes(targets, clients, each, seed=seed)
        return
    dealt = by_classes(targets, clients, each, seed=seed)
    assert together(dealt).tolist() == list(range(len(targets)))
    assert [len(set(targets[rows])) for rows in dealt] == [each] * clients
    assert all(np.array_equal(a, b) for a, b in zip(dealt, by_classes(targets, clients, each, seed=seed), strict=True))


def test_two_classes_a_client_are_dealt_in_many_pairs_and_shards_of_one_size():
    targets = np.repeat(np.arange(10), 600)
    dealt = by_classes(targets, 100, 2, seed=0)
    assert {len(rows) for rows in dealt} == {60}
    assert len({tuple(sorted(set(targets[rows]))) for rows in dealt}) > 25


def test_another_seed_deals_otherwise_and_the_split_says_which():
    targets = np.repeat(np.arange(4), 10)
    assert not np.array_equal(iid(40, 4, seed=0)[0], iid(40, 4, seed=1)[0])
    two = partition(targets, Federation(clients=4, split="classes"), seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(two, by_classes(targets, 4, 2, seed=3), strict=True))
    four = partition(targets, Federation(clients=4), seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(four, iid(40, 4, seed=3), strict=True))


@pytest.mark.parametrize(
    ("clients", "classes", "message"),
    [
        (41, 2, "at most 40 clients"),
        (4, 5, "at most 4 classes per client"),
        (1, 2, "cannot hold all 4 classes"),
        (20, 3, "need 60 shards"),
    ],
)
def test_clients_that_classes_do_not_go_round_for_are_refused(clients, classes, message):
    with pytest.raises(BadInputError, match=message):
        by_classes(np.repeat(np.arange(4), 10), clients, classes, seed=0)


@pytest.mark.parametrize(
    ("clients", "message"),
    [
        ([[0, 1]], "rows of 2 clients, got 1"),
        ([[0, 1], []], "none for client 1"),
        ([[0, 1], [1, 2]], "1 rows twice"),
        ([[0, 1], [5]], "rows from 0 to 4, got 0 to 5"),
        ([[-1], [2]], "got -1 to 2"),
    ],
)
def test_given_clients_are_checked(clients, message):
    with pytest.raises(BadInputError, match=message):
        require_partition([np.array(rows, dtype=np.int64) for rows in clients], 5, Federation(clients=2))


@pytest.mark.parametrize(
    "wrong",
    [
        {"clients": 0},
        {"rounds": 0},
        {"fraction": 0.0},
        {"fraction": 1.5},
        {"epochs": 0},
        {"steps": 0},
        {"batch_size": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"lr_decay": 0.0},
        {"classes_per_client": 0},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(BadInputError, match=f"federation: expected .*{next(iter(wrong))}"):
        Federation(**wrong)
