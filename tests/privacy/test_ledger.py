"""The ledger: what adds up, what survives the disk, and what is refused."""

import json
import math
import threading
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from divulge.errors import BadInputError, StoreError
from divulge.privacy.ledger import Ledger, Phase, read

FULL = Ledger(
    60_000,
    (Phase(0.01, 1.1, 100), Phase(0.1, 2.0, 7, "shuffled")),
    adjacency="replace-one",
    fixed_noise_seed=True,
    dropped=3,
    training="abc",
)

phases = st.builds(
    Phase,
    st.sampled_from([1e-4, 0.1, 1 / 3, 1.0]),
    st.sampled_from([0.5, 1.1, 2 / 3]),
    st.integers(0, 50),
    st.sampled_from(["poisson", "shuffled"]),
)


@settings(deadline=None)
@given(st.lists(phases, max_size=8))
def test_steps_add_up_and_equal_neighbors_merge(released):
    ledger = Ledger(100)
    for phase in released:
        ledger = ledger.after(phase)
    assert ledger.steps == sum(phase.steps for phase in released)
    released_under = [(one.sampling_rate, one.noise_multiplier, one.sampling) for one in ledger.phases]
    assert all(one != other for one, other in pairwise(released_under))


@settings(max_examples=30, deadline=None)
@given(st.lists(phases, max_size=5), st.booleans(), st.integers(0, 9))
def test_a_ledger_survives_the_disk_to_the_last_bit(tmp_path_factory, released, fixed, dropped):
    ledger = Ledger(100, tuple(released), fixed_noise_seed=fixed, dropped=dropped, training="x")
    path = tmp_path_factory.mktemp("ledger") / "ledger.json"
    ledger.save(path)
    assert read(path) == ledger
    assert Ledger.from_dict(json.loads(json.dumps(ledger.to_dict()))) == ledger


def test_saving_again_replaces_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "ledger.json"
    Ledger(10).save(path)
    FULL.save(path)
    assert read(path) == FULL
    assert [one.name for one in tmp_path.iterdir()] == ["ledger.json"]


def test_a_reader_never_sees_half_a_ledger(tmp_path):
    path = tmp_path / "ledger.json"
    ledgers = [Ledger(10, (Phase(0.5, 1.0, 1),)), FULL]
    ledgers[0].save(path)
    done = threading.Event()

    def write():
        for turn in range(60):
            ledgers[turn % 2].save(path)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(read(path))
    writer.join()
    assert seen <= set(ledgers)


def edited(**changes):
    return json.dumps(FULL.to_dict() | changes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (edited(records=70_000), "digest does not match, so it was changed after it was saved"),
        (edited(fixed_noise_seed=False), "digest does not match"),
        (edited(phases=FULL.to_dict()["phases"][:1]), "digest does not match"),
        (edited(extra=1), "digest does not match"),
        (edited(digest="0" * 64), "digest does not match"),
        (json.dumps({key: kept for key, kept in FULL.to_dict().items() if key != "digest"}), "digest does not match"),
        (edited(schema="divulge.ledger/0"), "version divulge.ledger/1, got 'divulge.ledger/0'"),
        (edited()[:-40], "broken JSON"),
        ("", "broken JSON"),
        ("[1, 2]", "got a JSON list"),
        ("{}", "expected a ledger of version"),
    ],
)
def test_a_ledger_that_was_touched_is_refused(tmp_path, content, message):
    path = tmp_path / "ledger.json"
    path.write_text(content)
    with pytest.raises(BadInputError, match=f"ledger.json.*{message}"):
        read(path)


def test_a_missing_ledger_is_named(tmp_path):
    with pytest.raises(BadInputError, match=r"nowhere.json: expected a privacy ledger, got No such file"):
        read(tmp_path / "nowhere.json")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(StoreError, match="absent"):
        FULL.save(tmp_path / "absent" / "ledger.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Phase(0, 1.0, 1), "sampling rate.*got 0"),
        (lambda: Phase(1.01, 1.0, 1), "sampling rate.*got 1.01"),
        (lambda: Phase(1e-320, 1.0, 1), "sampling rate.*got 1e-320"),
        (lambda: Phase(math.nan, 1.0, 1), "sampling rate.*got nan"),
        (lambda: Phase(0.1, 0.0, 1), "noise multiplier.*above 0.*got 0.0.*no differential privacy"),
        (lambda: Phase(0.1, -1.0, 1), "noise multiplier.*got -1"),
        (lambda: Phase(0.1, math.inf, 1), "noise multiplier.*got inf"),
        (lambda: Phase(0.1, math.nan, 1), "noise multiplier.*got nan"),
        (lambda: Phase(0.1, 1e-300, 1), "noise multiplier.*from 1e-09"),
        (lambda: Phase(0.1, 1.0, -1), "steps.*got -1"),
        (lambda: Phase(0.1, 1.0, 2.5), "steps.*got 2.5"),
        (lambda: Phase(0.1, 1.0, 1, "fixed"), "'poisson' or 'shuffled', got 'fixed'"),
        (lambda: Ledger(0), "records to be a whole number, 1 or more, got 0"),
        (lambda: Ledger(10, dropped=-1), "dropped.*got -1"),
        (lambda: Ledger(10, adjacency="zero-out"), "'add-remove' or 'replace-one', got 'zero-out'"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BadInputError, match=message):
        call()


def test_what_a_reader_must_be_told():
    assert Ledger(10, (Phase(0.5, 1.0, 1),)).caveats == ()
    told = " ".join(FULL.caveats)
    assert "protects nobody" in told
    assert "full look at every record" in told
    assert "3 per-example gradients" in told
    assert "told without noise" in told


@pytest.mark.parametrize(("records", "batch"), [(100, 1), (10, 4), (60_000, 600), (28_709, 256), (7, 7), (10**9, 3)])
def test_batches_of_a_pass(records, batch):
    assert Phase(batch / records, 1.0, 1).batches == math.ceil(records / batch)
