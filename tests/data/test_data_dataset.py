import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from divulge.data import Dataset, as_dataset, concatenate
from divulge.errors import BadInputError


def images(count: int = 6, seed: int = 0) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    return Dataset(
        torch.rand(count, 3, 4, 5, generator=generator),
        torch.arange(count) % 3,
        attributes={"age": torch.arange(count), "weight": torch.rand(count, generator=generator)},
        classes=("a", "b", "c"),
        ids=tuple(f"r{row}" for row in range(count)),
    )


PIXELS = torch.rand(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 0, 1])

REFUSED = {
    "array": ((PIXELS.numpy(), LABELS), {}, "expected tensors, got inputs ndarray"),
    "double": ((PIXELS.double(), LABELS), {}, r"expected float32 .* got float64 of shape \(4, 1, 2, 2\)"),
    "bytes": (((PIXELS * 255).byte(), LABELS), {}, "divide images by 255"),
    "one axis": ((torch.rand(4), LABELS), {}, r"got float32 of shape \(4,\)"),
    "float labels": ((PIXELS, LABELS.float()), {}, r"targets: expected int64 of shape \(4,\)"),
    "fewer labels": ((PIXELS, LABELS[:3]), {}, r"got int64 of shape \(3,\)"),
    "negative label": ((PIXELS, LABELS - 1), {}, "class numbers from 0, got -1"),
    "label without class": ((PIXELS, LABELS), {"classes": ("a",)}, "label 1 is out of range for 1 classes"),
    "nan": ((PIXELS * float("nan"), LABELS), {}, "got NaN or infinity"),
    "infinity": ((torch.full((4, 2), float("inf")), LABELS), {}, "got NaN or infinity"),
    "pixels to 255": ((PIXELS * 255, LABELS), {}, r"expected pixels in \[0, 1\], got"),
    "normalized pixels": ((PIXELS - 0.5, LABELS), {}, "leave normalization to the model's first layer"),
    "attribute shape": (
        (PIXELS, LABELS),
        {"attributes": {"x": LABELS[:2]}},
        r"attribute 'x': expected int64 or float32",
    ),
    "attribute dtype": ((PIXELS, LABELS), {"attributes": {"x": LABELS.bool()}}, "got bool"),
    "code without name": (
        (PIXELS, LABELS),
        {"attributes": {"x": LABELS}, "attribute_classes": {"x": ("only",)}},
        "expected values from 0 to 0, one for each of its 1 names, got 0 to 1",
    ),
    "names without attribute": ((PIXELS, LABELS), {"attribute_classes": {"x": ("a",)}}, "no attribute 'x'"),
    "ids": ((PIXELS, LABELS), {"ids": ("a",)}, "expected 4 names"),
    "features of images": ((PIXELS, LABELS), {"features": ("a",)}, "one name for each column of a table"),
    "features": ((torch.rand(4, 2), LABELS), {"features": ("a",)}, "got 1 names"),
}


@pytest.mark.parametrize("case", REFUSED, ids=REFUSED)
def test_dataset_refuses(case):
    arguments, options, message = REFUSED[case]
    with pytest.raises(BadInputError, match=message):
        Dataset(*arguments, **options)


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (slice(1, 4), [1, 2, 3]),
        ([3, 0, 0], [3, 0, 0]),
        (np.array([5, 2]), [5, 2]),
        (torch.tensor([1]), [1]),
        (np.array([True, False] * 3), [0, 2, 4]),
        ([], []),
    ],
    ids=["slice", "list", "array", "tensor", "mask", "empty"],
)
def test_records_at_an_index(index, rows):
    data = images()
    part = data[index]
    assert part.inputs.tolist() == [data.inputs[row].tolist() for row in rows]
    assert part.targets.tolist() == [row % 3 for row in rows]
    assert part.attributes["age"].tolist() == rows
    assert part.ids == tuple(f"r{row}" for row in rows)
    assert part.classes == data.classes


def test_equal_inputs_have_equal_hashes_and_other_inputs_others():
    data = images()
    twice = concatenate([data, data[[4, 1]]])
    hashes = twice.hashes()
    assert hashes[6:] == [hashes[4], hashes[1]]
    assert len(set(hashes)) == 6
    direct = [hashlib.blake2b(record.numpy().tobytes(), digest_size=16).digest() for record in twice.inputs]
    assert hashes == direct


def test_hashes_of_no_records():
    assert images()[[]].hashes() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda data: {"inputs": data.inputs.clone().index_fill_(0, torch.tensor(0), 0.5)},
        lambda data: {"targets": 2 - data.targets},
        lambda data: {"attributes": {**data.attributes, "age": data.attributes["age"] + 1}},
        lambda data: {"attributes": {"old": data.attributes["age"], "weight": data.attributes["weight"]}},
        lambda data: {"classes": ("a", "b", "d")},
        lambda data: {"inputs": data.inputs.reshape(6, 3, 5, 4)},
    ],
    ids=["input", "target", "attribute", "attribute name", "class name", "shape"],
)
def test_fingerprint_tells_different_data_apart(change):
    from dataclasses import replace

    data = images()
    assert data.fingerprint() == images().fingerprint()
    assert replace(data, **change(data)).fingerprint() != data.fingerprint()


def test_concatenate_is_the_inverse_of_cutting():
    data = images()
    joined = concatenate([data[:2], data[2:]])
    assert torch.equal(joined.inputs, data.inputs)
    assert joined.ids == data.ids
    assert joined.fingerprint() == data.fingerprint()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Dataset(torch.rand(2, 3, 5, 5), torch.tensor([0, 1]), classes=("a", "b", "c")), "differ in their shape"),
        (Dataset(torch.rand(2, 3, 4, 5), torch.tensor([0, 1]), classes=("a", "b")), "differ in their classes"),
        (Dataset(torch.rand(2, 3, 4, 5), torch.tensor([0, 1]), classes=("a", "b", "c")), "differ in their attributes"),
    ],
    ids=["shape", "classes", "attributes"],
)
def test_concatenate_refuses(other, message):
    with pytest.raises(BadInputError, match=message):
        concatenate([images(), other])


def test_concatenate_refuses_nothing():
    with pytest.raises(BadInputError, match="got none"):
        concatenate([])


class Torch(torch.utils.data.Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


BYTES = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
NUMBERS = [0, 1, 2, 1, 0]

TAKEN = {
    "NHWC bytes": (BYTES, NUMBERS),
    "NCHW bytes": (BYTES.transpose(0, 3, 1, 2), np.array(NUMBERS, dtype=np.uint8)),
    "NHWC floats": ((BYTES.astype(np.float64) / 255), np.array(NUMBERS, dtype=float)),
    "big-endian floats": ((BYTES.astype(np.float32) / np.float32(255)).astype(">f4"), np.array(NUMBERS)[:, None]),
    "tensors": (torch.from_numpy(BYTES).permute(0, 3, 1, 2), torch.tensor(NUMBERS, dtype=torch.int32)),
    "torch set of PIL images": Torch(list(zip(map(Image.fromarray, BYTES), NUMBERS, strict=True))),
    "torch set of tensors": Torch(
        list(zip(torch.from_numpy(BYTES).permute(0, 3, 1, 2), torch.tensor(NUMBERS), strict=True))
    ),
}


@pytest.mark.parametrize("form", TAKEN, ids=TAKEN)
def test_as_dataset_takes_the_usual_forms(form):
    data = as_dataset(TAKEN[form], name="mine", classes=("a", "b", "c"))
    assert torch.equal(data.inputs, torch.from_numpy(BYTES.transpose(0, 3, 1, 2).astype(np.float32)) / 255)
    assert data.targets.tolist() == NUMBERS
    assert (data.name, data.classes) == ("mine", ("a", "b", "c"))


def test_as_dataset_leaves_the_callers_array_alone():
    values = np.zeros((2, 3), dtype=np.float32)
    data = as_dataset((values, [0, 1]))
    values += 1
    assert data.inputs.sum() == 0


def test_as_dataset_looks_palettes_up():
    picture = Image.fromarray(BYTES[0]).quantize(4)
    data = as_dataset(Torch([(picture, 0)]))
    assert torch.equal(
        data.inputs[0], torch.from_numpy(np.array(picture.convert("RGB")).transpose(2, 0, 1) / np.float32(255))
    )


def test_as_dataset_names_a_dataset_without_a_name_only():
    data = images()
    assert as_dataset(data) is data
    assert as_dataset(data, name="x").name == "x"
    assert as_dataset(as_dataset(data, name="x"), name="y").name == "x"


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(())


NOT_TAKEN = {
    "number": (3, "got int"),
    "triple": ((1, 2, 3), "a pair"),
    "texts": ((np.array([["a"]]), [0]), "inputs: expected numbers, got <U1"),
    "objects": ((np.array([[None]]), [0]), "inputs: expected numbers, got object"),
    "ragged": (([[1.0], [1.0, 2.0]], [0, 1]), "inputs: expected an array of one shape"),
    "text labels": ((np.zeros((2, 3)), ["a", "b"]), "targets: expected numbers"),
    "soft labels": ((np.zeros((2, 3)), [0.5, 1.0]), "targets: expected int64"),
    "one-hot labels": ((np.zeros((2, 3)), np.eye(2)), r"targets: expected int64 of shape \(2,\)"),
    "endless": (Endless(), "a torch Dataset with a length"),
    "no labels": (Torch([torch.zeros(3)]), r"record 0 .* expected \(input, target\), got Tensor"),
    "odd label": (Torch([(torch.zeros(3), "cat")]), "record 0 .* expected a class number"),
    "mixed sizes": (
        Torch([(torch.zeros(3), 0), (torch.zeros(4), 0)]),
        r"expected one shape and dtype, got .*\(3,\).*\(4,\)",
    ),
    "empty": (Torch([]), "got no record"),
}


@pytest.mark.parametrize("case", NOT_TAKEN, ids=NOT_TAKEN)
def test_as_dataset_refuses(case):
    value, message = NOT_TAKEN[case]
    with pytest.raises(BadInputError, match=message):
        as_dataset(value)
