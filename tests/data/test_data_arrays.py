import gzip
import io
import pickle
import pickletools
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from divulge.data import load
from divulge.data.sources import cifar, idx, npz
from divulge.errors import BadInputError

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (5, 6, 7), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 1, 0])


def as_inputs(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.astype(np.float32) / np.float32(255))


# NumPy archives

ARCHIVES = {
    "inputs and targets": ({"inputs": GRAY, "targets": LABELS}, "train"),
    "keras": ({"x_train": GRAY[:1], "y_train": LABELS[:1], "x_test": GRAY, "y_test": LABELS}, "test"),
    "medmnist": ({"val_images": GRAY, "val_labels": LABELS[:, None]}, "validation"),
    "floats": ({"X": (GRAY / 255).astype(np.float64)[:, None], "y": LABELS.astype(np.uint8)}, "train"),
    "channels last": ({"images": GRAY[..., None], "labels": LABELS}, "train"),
}


@pytest.mark.parametrize("case", ARCHIVES, ids=ARCHIVES)
def test_archives(case, tmp_path):
    arrays, part = ARCHIVES[case]
    np.savez(tmp_path / "set.npz", **arrays)
    data = load(tmp_path / "set.npz", part=part)
    assert torch.allclose(data.inputs, as_inputs(GRAY[:, None]), atol=1e-7)
    assert data.targets.tolist() == LABELS.tolist()


def test_archives_of_tables_texts_and_attributes(tmp_path):
    table = RNG.normal(size=(3, 4))
    np.savez_compressed(
        tmp_path / "set.npz",
        x=table,
        kind=np.array(["b", "a", "b"]),
        age=np.array([3, 4, 5]),
        weight=np.array([0.5, 1, 2]),
    )
    data = load(tmp_path / "set.npz", target="kind", attributes=("age", "weight"))
    assert torch.equal(data.inputs, torch.from_numpy(table.astype(np.float32)))
    assert (data.targets.tolist(), data.classes) == ([1, 0, 1], ("a", "b"))
    assert data.attributes["age"].tolist() == [3, 4, 5]
    assert data.attributes["weight"].tolist() == [0.5, 1.0, 2.0]


def test_archives_may_name_their_classes(tmp_path):
    np.savez(tmp_path / "set.npz", x=GRAY, y=LABELS, classes=np.array(["cat", "dog", "e\x1b[0m"]))
    assert load(tmp_path / "set.npz").classes == ("cat", "dog", "e\\x1b[0m")


ARCHIVES_REFUSED = {
    "no inputs": ({"pictures": GRAY, "y": LABELS}, {}, "expected an array called inputs, x, .* Arrays: pictures, y"),
    "no labels": ({"x": GRAY, "number": LABELS}, {}, "expected an array called label, .* Arrays: x, number"),
    "no part": ({"x_train": GRAY, "y_train": LABELS}, {"part": "test"}, "expected one of its parts train, got 'test'"),
    "objects": (
        {"x": GRAY, "y": np.array([None] * 5)},
        {},
        "array 'y': expected plain numbers or texts, .*Pickled objects",
    ),
    "complex": ({"x": GRAY * 1j, "y": LABELS}, {}, "array 'x': expected numbers or texts, got complex128"),
    "unequal": ({"x": GRAY, "y": LABELS[:2]}, {}, r"targets: expected int64 of shape \(5,\)"),
    "pixels": ({"x": GRAY.astype(float), "y": LABELS}, {}, r"expected pixels in \[0, 1\]"),
    "attribute": ({"x": GRAY, "y": LABELS}, {"attributes": ["age"]}, "no array 'age'. Arrays: x, y"),
    "size": (
        {"x": GRAY, "y": LABELS},
        {"size": 8},
        r"\(NumPy archive\) takes no 'size'. Options: attributes, encoding, target",
    ),
}


@pytest.mark.parametrize("case", ARCHIVES_REFUSED, ids=ARCHIVES_REFUSED)
def test_archives_refuse(case, tmp_path):
    arrays, options, message = ARCHIVES_REFUSED[case]
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(BadInputError, match=message):
        load(tmp_path / "set.npz", **options)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really", b"hello"], ids=["empty", "zip", "text"])
def test_a_damaged_archive_is_refused(content, tmp_path):
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(BadInputError, match=r"set.npz: expected a NumPy archive"):
        load(tmp_path / "set.npz")


def test_an_archive_runs_nothing(tmp_path):
    with (tmp_path / "set.npz").open("wb") as file:
        pickle.dump(Hostile(tmp_path / "ran"), file)
    with pytest.raises(BadInputError):
        npz.read(tmp_path / "set.npz")
    assert not (tmp_path / "ran").exists()


class Hostile:
    """Unpickled by an ordinary unpickler, this makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.path),)


# IDX files


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("below", ["", "MNIST/raw"], ids=["here", "below"])
def test_idx_folders(zipped, below, tmp_path):
    folder = tmp_path / "set" / below
    folder.mkdir(parents=True)
    for name, array in {
        "train-images-idx3-ubyte": GRAY,
        "train-labels-idx1-ubyte": LABELS,
        "t10k-images-idx3-ubyte": 255 - GRAY[:2],
        "t10k-labels-idx1-ubyte": LABELS[1:3],
    }.items():
        content = idx_bytes(array)
        (folder / (f"{name}.gz" if zipped else name)).write_bytes(gzip.compress(content) if zipped else content)
    path = tmp_path / "set" / "MNIST" if below else folder
    train, test = load(path), load(path, part="test")
    assert torch.equal(train.inputs, as_inputs(GRAY[:, None]))
    assert train.targets.tolist() == LABELS.tolist()
    assert torch.equal(test.inputs, as_inputs(255 - GRAY[:2, None]))
    assert test.targets.tolist() == [1, 2]


def test_an_idx_file_of_images_is_read_with_the_labels_beside_it(tmp_path):
    (tmp_path / "t10k-images.idx3-ubyte").write_bytes(idx_bytes(GRAY))
    (tmp_path / "t10k-labels.idx1-ubyte").write_bytes(idx_bytes(LABELS))
    assert load(tmp_path / "t10k-images.idx3-ubyte").targets.tolist() == LABELS.tolist()


IDX_REFUSED = {
    "truncated": (idx_bytes(GRAY)[:-1], idx_bytes(LABELS), r"expected 210 bytes for shape \(5, 6, 7\), got 209"),
    "longer": (idx_bytes(GRAY) + b"x", idx_bytes(LABELS), "got 211"),
    "no header": (b"\0\0\x08\x03\0\0", idx_bytes(LABELS), "expected .* bytes for shape"),
    "huge": (b"\0\0\x08\x03" + b"\xff" * 12, idx_bytes(LABELS), "got 0"),
    "empty": (b"", idx_bytes(LABELS), "it starts with nothing"),
    "doubles": (b"\0\0\x0e\x03" + idx_bytes(GRAY)[4:], idx_bytes(LABELS), "it starts with 00 00 0e 03"),
    "fewer labels": (idx_bytes(GRAY), idx_bytes(LABELS[:2]), r"got \(5, 6, 7\) and \(2,\)"),
    "labels as images": (idx_bytes(LABELS), idx_bytes(LABELS), r"expected images \(N, H, W\)"),
    "no labels": (idx_bytes(GRAY), None, "expected the labels in train-labels-idx1-ubyte beside it"),
}


@pytest.mark.parametrize("case", IDX_REFUSED, ids=IDX_REFUSED)
def test_idx_refuses(case, tmp_path):
    images, labels, message = IDX_REFUSED[case]
    (tmp_path / "train-images-idx3-ubyte").write_bytes(images)
    if labels is not None:
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(labels)
    with pytest.raises(BadInputError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"plain", gzip.compress(idx_bytes(GRAY))[:-12]], ids=["no gzip", "cut off"])
def test_damaged_gzip_is_refused(content, tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match="expected an IDX file, but"):
        idx.read_idx(path)


# CIFAR batches

PIXELS = RNG.integers(0, 256, (10, 3, 32, 32), dtype=np.uint8)
FINE = RNG.integers(0, 10, 10)
COARSE = RNG.integers(0, 4, 10)


def binary_batch(pixels: np.ndarray, *labels: np.ndarray) -> bytes:
    return b"".join(bytes(int(column[row]) for column in labels) + pixels[row].tobytes() for row in range(len(pixels)))


def old_pickle(value: dict[bytes, object]) -> bytes:
    """A batch as Python 2 and NumPy 1 pickled it: texts and raw bytes as the older byte-string opcodes."""
    stream = io.BytesIO()
    write = stream.write

    def string(content: bytes) -> None:
        write(b"T" + struct.pack("<i", len(content)) + content)

    write(b"\x80\x02}(")
    for key, item in value.items():
        string(key)
        if isinstance(item, np.ndarray) and item.ndim == 2:
            write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85")
            string(b"b")
            write(b"\x87R(K\x01")
            write(b"".join(b"J" + struct.pack("<i", side) for side in item.shape) + b"\x86")
            write(b"cnumpy\ndtype\n")
            string(b"u1")
            write(b"K\x00K\x01\x87R(K\x03")
            string(b"|")
            write(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89")
            string(item.tobytes())
            write(b"tb")
        elif isinstance(item, bytes):
            string(item)
        else:
            write(b"](")
            for entry in item:
                if isinstance(entry, bytes):
                    string(entry)
                else:
                    write(b"K" + bytes([int(entry)]))
            write(b"e")
    write(b"u.")
    return stream.getvalue()


def new_pickle(value: dict[bytes, object], protocol: int) -> bytes:
    return pickle.dumps(
        {key: list(map(int, item)) if key.endswith(b"labels") else item for key, item in value.items()}, protocol
    )


BATCH = {
    b"batch_label": b"training batch 1 of 5",
    b"labels": FINE,
    b"data": PIXELS.reshape(10, -1),
    b"filenames": [b"leptodactylus_s_000004.png"] * 10,
}
WRITERS = {
    "python 2": old_pickle,
    "python 3, protocol 2": lambda value: new_pickle(value, 2),
    "python 3, protocol 4": lambda value: new_pickle(value, 4),
}


def ten(root: Path, batches: list[bytes], test: bytes, suffix: str) -> Path:
    folder = root / "cifar-10-batches"
    folder.mkdir()
    for number, batch in enumerate(batches, start=1):
        (folder / f"data_batch_{number}{suffix}").write_bytes(batch)
    (folder / f"test_batch{suffix}").write_bytes(test)
    return folder


def test_cifar_10_binary(tmp_path):
    batches = [binary_batch(PIXELS[row : row + 2], FINE[row : row + 2]) for row in range(0, 10, 2)]
    folder = ten(tmp_path, batches, binary_batch(PIXELS[:3], FINE[:3]), ".bin")
    (folder / "batches.meta.txt").write_text("".join(f"kind{number}\n" for number in range(10)) + "\n")
    data = load(tmp_path)
    assert torch.equal(data.inputs, as_inputs(PIXELS))
    assert data.targets.tolist() == FINE.tolist()
    assert data.classes == tuple(f"kind{number}" for number in range(10))
    assert torch.equal(load(folder, part="test").inputs, as_inputs(PIXELS[:3]))


@pytest.mark.parametrize("writer", WRITERS, ids=WRITERS)
def test_cifar_10_python(writer, tmp_path):
    write = WRITERS[writer]
    batches = [
        write({**BATCH, b"labels": FINE[row : row + 2], b"data": PIXELS[row : row + 2].reshape(2, -1)})
        for row in range(0, 10, 2)
    ]
    folder = ten(tmp_path, batches, write(BATCH), "")
    (folder / "batches.meta").write_bytes(old_pickle({b"label_names": [b"kind%d" % number for number in range(10)]}))
    data = load(folder)
    assert torch.equal(data.inputs, as_inputs(PIXELS))
    assert data.targets.tolist() == FINE.tolist()
    assert data.classes == tuple(f"kind{number}" for number in range(10))
    assert torch.equal(load(folder, part="test").inputs, as_inputs(PIXELS))


def test_the_handmade_pickle_is_what_numpy_reads():
    read = pickle.loads(old_pickle(BATCH), encoding="bytes")
    assert np.array_equal(read[b"data"], BATCH[b"data"])
    assert read[b"labels"] == FINE.tolist()


def test_cifar_100(tmp_path):
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / "train.bin").write_bytes(binary_batch(PIXELS, COARSE, FINE))
    (tmp_path / "binary" / "test.bin").write_bytes(binary_batch(PIXELS[:1], COARSE, FINE))
    (tmp_path / "binary" / "coarse_label_names.txt").write_text("fish\ntree\ncar\npeople\n")
    (tmp_path / "python").mkdir()
    value = {b"fine_labels": FINE, b"coarse_labels": COARSE, b"data": PIXELS.reshape(10, -1)}
    (tmp_path / "python" / "train").write_bytes(old_pickle(value))
    (tmp_path / "python" / "meta").write_bytes(
        old_pickle({b"coarse_label_names": [b"fish", b"tree", b"car", b"people"]})
    )
    for version in ("binary", "python"):
        data = load(tmp_path / version, attributes=("coarse_label",))
        assert torch.equal(data.inputs, as_inputs(PIXELS))
        assert data.targets.tolist() == FINE.tolist()
        assert data.attributes["coarse_label"].tolist() == COARSE.tolist()
        assert data.attribute_classes == {"coarse_label": ("fish", "tree", "car", "people")}
        assert load(tmp_path / version, target="coarse_label").classes == ("fish", "tree", "car", "people")
    assert cifar.parts(tmp_path / "python") == ("train",)
    with pytest.raises(BadInputError, match="no column 'label'"):
        load(tmp_path / "binary", target="label")


def test_a_lacking_batch_is_refused(tmp_path):
    folder = ten(tmp_path, [binary_batch(PIXELS, FINE)] * 5, b"", ".bin")
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(BadInputError, match=r"data_batch_3.bin: expected all 5 batches"):
        load(folder)


@pytest.mark.parametrize("content", [binary_batch(PIXELS, FINE)[:-1], b""], ids=["cut off", "empty"])
def test_a_damaged_binary_batch_is_refused(content, tmp_path):
    folder = ten(tmp_path, [content] * 5, b"", ".bin")
    with pytest.raises(BadInputError, match="expected records of 3,073 bytes, got"):
        load(folder)


PICKLES_REFUSED = {
    "text": (b"hello", "expected a batch of CIFAR's Python version"),
    "texts as labels": (
        old_pickle({**BATCH, b"labels": [b"cat"] * 10}),
        "expected a list of 10 class numbers as labels",
    ),
    "number as key": (b"\x80\x02}K\x01K\x02s.", "expected keys that are texts, got int"),
    "changed function": (b"\x80\x02c_codecs\nencode\n}b.", "the file wants to change an object"),
    "called list": (b"\x80\x02])R.", "the file wants to make an object"),
    "empty": (b"", "expected a batch of CIFAR's Python version"),
    "cut off": (old_pickle(BATCH)[:-400], "expected a batch of CIFAR's Python version"),
    "list": (pickle.dumps([1, 2], 2), "expected a dictionary, got list"),
    "no data": (old_pickle({b"labels": FINE}), "of unsigned bytes, got NoneType"),
    "no labels": (old_pickle({b"data": PIXELS.reshape(10, -1)}), "expected a list of 10 class numbers as labels"),
    "text as data": (old_pickle({**BATCH, b"data": b"xyz"}), "of unsigned bytes, got bytes"),
    "floats": (new_pickle({**BATCH, b"data": PIXELS.reshape(10, -1) / 255}, 2), "expected an array of unsigned bytes"),
    "objects": (new_pickle({**BATCH, b"data": np.array([None])}, 2), "expected an array of unsigned bytes"),
    "other shape": (
        old_pickle({**BATCH, b"data": PIXELS.reshape(10, -1)[:, :100].copy()}),
        r"expected data \(N, 3,072\)",
    ),
    "unequal": (old_pickle({**BATCH, b"labels": FINE[:4]}), "expected a list of 10 class numbers as labels"),
    "eval": (b"cbuiltins\neval\n(V1+1\ntR.", "the file wants to run builtins.eval"),
    "getattr": (b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.", "the file wants to run builtins.getattr"),
    "numpy's load": (b"cnumpy\nload\n(Vx.npy\ntR.", "the file wants to run numpy.load"),
    "dotted": (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", "the file wants to run numpy.ndarray.tofile"),
    "hostile name": (b"cos\x1b[2J\nsystem\n.", r"the file wants to run os\\x1b\[2J.system"),
}


@pytest.mark.parametrize("case", PICKLES_REFUSED, ids=PICKLES_REFUSED)
def test_python_batches_refuse(case, tmp_path):
    content, message = PICKLES_REFUSED[case]
    folder = ten(tmp_path, [content] * 5, b"", "")
    with pytest.raises(BadInputError, match=message):
        load(folder)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_batch_runs_nothing(protocol, tmp_path):
    content = pickle.dumps({b"data": Hostile(tmp_path / "ran"), b"labels": [1]}, protocol)
    folder = ten(tmp_path, [content] * 5, b"", "")
    with pytest.raises(BadInputError, match=r"the file wants (to run (posix|nt)\.mkdir|the instruction DICT)"):
        load(folder)
    assert not (tmp_path / "ran").exists()
    pickle.loads(content)
    assert (tmp_path / "ran").exists()  # an ordinary unpickler runs it


SMALL = old_pickle({b"labels": FINE[:1], b"data": PIXELS[:1].reshape(1, -1)})
OPCODES = [position for _, _, position in pickletools.genops(SMALL)]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.sampled_from(OPCODES), value=st.binary(min_size=1, max_size=6))
def test_a_damaged_batch_never_becomes_anything_but_an_array(position, value, tmp_path):
    content = SMALL[:position] + value + SMALL[position + len(value) :]
    path = tmp_path / "batch"
    path.write_bytes(content)
    try:
        pixels, labels = cifar._python(path, cifar._TEN)
    except BadInputError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape == (len(labels["label"]), 3, 32, 32)


# Digits


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    raw = load_digits()
    data = load("digits")
    assert torch.equal(data.inputs, torch.from_numpy(raw.images / 16).float()[:, None])
    assert data.targets.tolist() == raw.target.tolist()
    with pytest.raises(BadInputError, match="digits takes no 'size'"):
        load("digits", size=16)
