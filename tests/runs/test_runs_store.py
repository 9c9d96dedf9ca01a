import json
import os
import shutil
import sqlite3
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from steps_for_tests import add, number

from divulge.errors import BadInputError, StoreError
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store

ONE = Step(number, {"name": "one", "value": 1}, label="one")
TWO = Step(number, {"name": "two", "value": 2}, label="two")
BOTH = Step(add, {"name": "both"}, {"a": ONE, "b": TWO}, label="both")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run")


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1.5, np.nan], [np.inf, -0.0]]),
        np.arange(6, dtype=np.int64).reshape(2, 3).T,
        np.array([True, False]),
        np.float32([1, 2]),
        np.array(3.0),
        np.zeros((0, 4)),
        np.arange(3, dtype=">i8"),
        torch.arange(4.0, requires_grad=True),
        torch.ones(2, 3, dtype=torch.float64).T,
    ],
    ids=["floats", "strided", "bool", "float32", "scalar", "empty", "big-endian", "tensor", "strided-tensor"],
)
def test_arrays_come_back_equal(store, array):
    store.write(ONE, Artifact({"x": array}), 1.0)
    expected = array.detach().numpy() if isinstance(array, torch.Tensor) else array
    back = store.read(ONE.key).arrays["x"]
    assert back.dtype == expected.dtype.newbyteorder("=")
    assert back.shape == expected.shape
    np.testing.assert_array_equal(back, expected)


def test_facts_come_back_equal_with_numpy_numbers_made_plain(store):
    facts = {
        "auc": np.float32(0.5),
        "n": np.int64(3),
        "names": ("a", "ü"),
        "none": None,
        "deep": {"yes": np.bool_(True)},
    }
    store.write(ONE, Artifact(facts=facts), 1.0)
    assert store.read(ONE.key).facts == {
        "auc": 0.5,
        "n": 3,
        "names": ["a", "ü"],
        "none": None,
        "deep": {"yes": True},
    }


def test_arrays_are_read_when_they_are_asked_for(store):
    store.write(ONE, Artifact({"x": np.zeros(2), "y": np.ones(2)}), 1.0)
    arrays = store.read(ONE.key).arrays
    assert list(arrays) == ["x", "y"]
    assert arrays["x"] is arrays["x"]
    with pytest.raises(KeyError, match="stored are x, y"):
        arrays["z"]
    shutil.rmtree(store.root / "objects")
    np.testing.assert_array_equal(arrays["x"], 0)
    with pytest.raises(FileNotFoundError):
        arrays["y"]


@pytest.mark.parametrize(
    ("artifact", "message"),
    [
        (Artifact(facts={"auc": float("nan")}), r"facts\['auc'\]: expected a finite number, got nan"),
        (Artifact(facts={"a": [1.0, np.float32("inf")]}), r"facts\['a'\]\[1\]: expected a finite number, got inf"),
        (Artifact(facts={"x": np.zeros(2)}), "Arrays belong into"),
        (Artifact(facts={1: "a"}), "expected text as the name"),
        (Artifact({1: np.zeros(2)}), "expected text as the name"),
        (Artifact({"x": [1.0]}), "expected a NumPy array or a tensor, got list"),
        (Artifact({"x": np.array(["a"])}), "got str32. Convert"),
        (Artifact({"x": np.array([object()])}), "got object"),
        (Artifact({"x": torch.zeros(2, dtype=torch.bfloat16)}), "got bfloat16"),
    ],
)
def test_what_cannot_be_kept_exactly_is_refused(store, artifact, message):
    with pytest.raises(BadInputError, match=message):
        store.write(ONE, artifact, 1.0)
    assert not store.has(ONE.key)


def test_first_result_stays(store):
    store.write(ONE, Artifact(facts={"value": 1}), 1.0)
    store.write(ONE, Artifact(facts={"value": 2}), 1.0)
    assert store.read(ONE.key).facts == {"value": 1}
    assert not list((store.root / "partial").iterdir())


def test_record_says_what_was_computed_and_names_no_folder(store):
    store.write(ONE, Artifact(), 1.0)
    store.write(BOTH, Artifact(), 2.5)
    written = json.loads((store.root / "objects" / BOTH.key / "step.json").read_text())
    assert written["function"] == "steps_for_tests:add"
    assert written["settings"] == {"name": "both"}
    assert written["inputs"] == {"a": ONE.key, "b": TWO.key}
    assert (written["schema"], written["version"], written["label"], written["seconds"]) == (1, 1, "both", 2.5)
    assert written["machine"]["cores"] >= 1
    assert str(store.root) not in json.dumps(written)
    assert os.uname().nodename not in json.dumps(written["machine"])


def test_others_may_read_what_the_umask_allows(store):
    store.write(ONE, Artifact(), 1.0)
    mask = os.umask(0)
    os.umask(mask)
    mode = stat.S_IMODE((store.root / "objects" / ONE.key).stat().st_mode)
    assert mode == 0o777 & ~mask


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-8])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "truncated arrays": lambda folder: _truncate(folder / "arrays.safetensors"),
    "flipped bit": lambda folder: _flip(folder / "arrays.safetensors"),
    "missing arrays": lambda folder: (folder / "arrays.safetensors").unlink(),
    "bad facts": lambda folder: (folder / "facts.json").write_text("{"),
    "edited facts": lambda folder: (folder / "facts.json").write_text('{"value": 2}'),
    "truncated record": lambda folder: _truncate(folder / "step.json"),
    "record is a list": lambda folder: (folder / "step.json").write_text("[]"),
    "record of another version": lambda folder: (folder / "step.json").write_text('{"schema": 99, "files": {}}'),
    "empty folder": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_results_are_set_aside_and_can_be_written_again(store, damage, caplog):
    store.write(ONE, Artifact({"x": np.arange(9)}, {"value": 1}), 1.0)
    damage(store.root / "objects" / ONE.key)
    fresh = Store(store.root)
    with pytest.raises(StoreError, match="no sound result"):
        fresh.read(ONE.key)
    assert "damaged result" in caplog.text
    assert [path.name.partition(".")[0] for path in (store.root / "damaged").iterdir()] == [ONE.key]
    fresh.write(ONE, Artifact({"x": np.arange(9)}, {"value": 1}), 1.0)
    assert Store(store.root).read(ONE.key).facts == {"value": 1}


def test_reading_what_was_never_written_says_so(store):
    with pytest.raises(StoreError, match="no sound result under key"):
        store.read(ONE.key)


@pytest.mark.parametrize("below", [False, True], ids=["is a file", "lies under a file"])
def test_a_folder_that_cannot_be_made_is_an_error(tmp_path, below):
    (tmp_path / "file").write_text("here")
    with pytest.raises(StoreError, match="Choose another folder"):
        Store(tmp_path / "file" / "run" if below else tmp_path / "file")


def test_a_folder_that_cannot_be_written_is_an_error(store):
    (store.root / "locks").write_text("in the way")
    with pytest.raises(StoreError, match="can be written to"):
        store.write(ONE, Artifact(), 1.0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_can_be_read_and_not_written(store):
    store.write(ONE, Artifact(facts={"value": 1}), 1.0)
    for path in (store.root, *store.root.iterdir()):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        fresh = Store(store.root)
        assert fresh.read(ONE.key).facts == {"value": 1}
        assert [record.key for record in fresh.steps()] == [ONE.key]
        with pytest.raises(StoreError, match="can be written to"):
            fresh.write(TWO, Artifact(), 1.0)
    finally:
        for path in (store.root, *store.root.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"schema": 2}', "got version 2"), ("{", "got something else"), ("[]", "got something else")],
)
def test_a_folder_of_another_version_is_an_error(store, content, message):
    (store.root / "store.json").write_text(content)
    with pytest.raises(StoreError, match=message):
        Store(store.root)


def test_a_lost_marker_loses_no_result(store):
    store.write(ONE, Artifact(facts={"value": 1}), 1.0)
    (store.root / "store.json").unlink()
    assert Store(store.root).read(ONE.key).facts == {"value": 1}


def test_only_one_holds_a_lock_and_may_ask_again(store):
    other = Store(store.root)
    with store.lock("k") as held, store.lock("k") as again, other.lock("k", wait=False) as second:
        assert (held, again, second) == (True, True, False)
    with other.lock("k", wait=False) as held:
        assert held
    assert not list((store.root / "locks").iterdir())


def test_a_lock_whose_file_was_replaced_while_waiting_is_taken_again(store, monkeypatch):
    """The last holder deletes the file: whoever then gets the lock on the deleted file does not hold the key."""
    import fcntl

    path, calls = store.root / "locks" / "k", []

    def flock(file, operation):
        calls.append(operation)
        if len(calls) == 1:
            path.unlink()
        real(file, operation)

    real = fcntl.flock
    monkeypatch.setattr("divulge.runs.store.fcntl.flock", flock)
    with store.lock("k"), Store(store.root).lock("k", wait=False) as second:
        assert not second
    assert len(calls) == 3


def test_clean_removes_what_the_killed_left_and_spares_what_the_living_write(store):
    for key in ("dead", "alive"):
        (store.root / "partial" / f"{key}.0123").mkdir(parents=True)
        (store.root / "partial" / f"{key}.0123" / "facts.json").write_text("{")
        (store.root / "partial" / f"{key}.progress").write_text("0.5")
    with store.lock("alive"):
        Store(store.root).clean()
        assert sorted(path.name for path in (store.root / "partial").iterdir()) == ["alive.0123", "alive.progress"]
    Store(store.root).clean()
    assert not list((store.root / "partial").iterdir())


def test_index_answers_queries_oldest_first(store):
    assert store.steps() == []
    for step in (TWO, ONE, BOTH):
        store.write(step, Artifact(), 1.0)
    assert [record.label for record in store.steps()] == ["two", "one", "both"]
    assert [record.key for record in store.steps(function="steps_for_tests:add")] == [BOTH.key]
    (record,) = store.steps(label="both")
    assert (record.settings, record.inputs, record.version) == ({"name": "both"}, {"a": ONE.key, "b": TWO.key}, 1)
    with sqlite3.connect(store.root / "index.sqlite") as table:
        assert table.execute("PRAGMA journal_mode").fetchone() == ("wal",)


INDEX_DAMAGE = {
    "deleted": lambda path: path.unlink(),
    "overwritten": lambda path: path.write_bytes(b"no database" * 500),
    "emptied": lambda path: path.write_bytes(b""),
    "broken inside": lambda path: path.write_bytes(path.read_bytes()[:100] + b"\xff" * 8000),
    "in the way": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", INDEX_DAMAGE.values(), ids=INDEX_DAMAGE)
def test_index_heals(store, damage):
    store.write(ONE, Artifact(), 1.0)
    store.steps()
    for path in store.root.glob("index.sqlite-*"):
        path.unlink()
    damage(store.root / "index.sqlite")
    store.write(TWO, Artifact(), 1.0)
    assert [record.key for record in store.steps()] == [ONE.key, TWO.key]


def test_index_follows_the_folders(store):
    for step in (ONE, TWO):
        store.write(step, Artifact(), 1.0)
    first = store.steps()
    shutil.rmtree(store.root / "objects" / ONE.key)
    assert [record.key for record in store.steps()] == [TWO.key]
    fresh = Store(store.root)
    for seconds in (9.0, 8.0):
        shutil.rmtree(store.root / "objects" / ONE.key, ignore_errors=True)
        fresh.write(ONE, Artifact(), seconds)
        assert {record.key: record.seconds for record in fresh.steps()} == {ONE.key: seconds, TWO.key: 1.0}
    _truncate(store.root / "objects" / ONE.key / "step.json")
    shutil.rmtree(store.root / "objects" / TWO.key)
    (store.root / "index.sqlite").unlink()
    assert fresh.steps() == []
    assert len(first) == 2


def test_nothing_in_the_folder_is_a_pickle(store):
    store.write(ONE, Artifact({"x": np.zeros(3)}, {"a": 1}), 1.0)
    store.steps()
    names = {path.name for path in Path(store.root).rglob("*") if path.is_file()}
    assert {name for name in names if not name.startswith("index.sqlite")} == {
        "store.json",
        "step.json",
        "facts.json",
        "arrays.safetensors",
    }
