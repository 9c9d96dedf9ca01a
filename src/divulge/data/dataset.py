"""The one shape in which records travel: tensors in memory, labels, and what is known about them."""

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from divulge.errors import BadInputError

Index = slice | Sequence[int] | np.ndarray | Tensor


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled records in memory.

    Args:
        inputs: float32. Images `(N, C, H, W)` in `[0, 1]`; tables `(N, D)`, finite.
        targets: int64 `(N,)`, class numbers from 0.
        attributes: further int64 or float32 columns `(N,)` by name, such as `race`.
        classes: class names in the order of their numbers; numbers as names if left out.
        name: what to call the set in reports.
        ids: what to call each record in reports; row numbers if left out.
        attribute_classes: for attributes that are categories, the names of their values in the order of their numbers.
        features: column names of a table, in order; a category's column is called `column=value`.

    Raises:
        BadInputError: a wrong shape or dtype, a pixel outside `[0, 1]`, NaN, or a label or category without a name.

    Example:
        >>> data = Dataset(torch.rand(4, 1, 2, 2), torch.tensor([0, 1, 0, 1]), classes=("cat", "dog"))
        >>> len(data[:2]), data.num_classes, data.is_image
        (2, 2, True)
    """

    inputs: Tensor
    targets: Tensor
    attributes: Mapping[str, Tensor] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    name: str = ""
    ids: tuple[str, ...] = ()
    attribute_classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        inputs, targets = self.inputs, self.targets
        if not isinstance(inputs, Tensor) or not isinstance(targets, Tensor):
            raise BadInputError(
                f"expected tensors, got inputs {type(inputs).__name__} and targets {type(targets).__name__}. "
                "divulge.data.as_dataset takes arrays and lists."
            )
        if inputs.dtype != torch.float32 or inputs.ndim not in (2, 4):
            raise BadInputError(
                "inputs: expected float32 of shape (N, C, H, W) or (N, D), got "
                f"{str(inputs.dtype).removeprefix('torch.')} of shape {tuple(inputs.shape)}. "
                "Convert with .float(), and divide images by 255."
            )
        if targets.dtype != torch.int64 or targets.shape != inputs.shape[:1]:
            raise BadInputError(
                f"targets: expected int64 of shape ({len(inputs)},), one class number a record, got "
                f"{str(targets.dtype).removeprefix('torch.')} of shape {tuple(targets.shape)}."
            )
        if inputs.numel():
            low, high = (float(edge) for edge in torch.aminmax(inputs))
            if not np.isfinite(low) or not np.isfinite(high):
                raise BadInputError(
                    "inputs: expected finite values, got NaN or infinity. Remove or impute those records."
                )
            if inputs.ndim == 4 and (low < 0 or high > 1):
                raise BadInputError(
                    f"inputs: expected pixels in [0, 1], got {low:.4g} to {high:.4g}. Divide by 255, and leave "
                    "normalization to the model's first layer (divulge.models.Normalize)."
                )
        if len(targets) and int(targets.min()) < 0:
            raise BadInputError(f"targets: expected class numbers from 0, got {int(targets.min())}.")
        if not self.classes:
            count = int(targets.max()) + 1 if len(targets) else 0
            object.__setattr__(self, "classes", tuple(str(number) for number in range(count)))
        elif len(targets) and int(targets.max()) >= len(self.classes):
            raise BadInputError(
                f"targets: label {int(targets.max())} is out of range for {len(self.classes)} classes (0 to "
                f"{len(self.classes) - 1}). Check the labels or name every class."
            )
        self._check_columns()
        if self.ids and len(self.ids) != len(inputs):
            raise BadInputError(f"ids: expected {len(inputs)} names, one a record, got {len(self.ids)}.")
        if self.features and (inputs.ndim != 2 or len(self.features) != inputs.shape[1]):
            raise BadInputError(
                f"features: expected one name for each column of a table, got {len(self.features)} names for inputs of "
                f"shape {tuple(inputs.shape)}."
            )

    def _check_columns(self) -> None:
        for key, column in self.attributes.items():
            if column.shape != self.targets.shape or column.dtype not in (torch.int64, torch.float32):
                raise BadInputError(
                    f"attribute {key!r}: expected int64 or float32 of shape ({len(self)},), got "
                    f"{str(column.dtype).removeprefix('torch.')} of shape {tuple(column.shape)}."
                )
        for key, names in self.attribute_classes.items():
            if key not in self.attributes:
                raise BadInputError(
                    f"attribute_classes: no attribute {key!r}. There are: {', '.join(self.attributes)}."
                )
            column = self.attributes[key]
            if len(column) and not 0 <= float(column.min()) <= float(column.max()) < len(names):
                raise BadInputError(
                    f"attribute {key!r}: expected values from 0 to {len(names) - 1}, one for each of its {len(names)} "
                    f"names, got {float(column.min()):g} to {float(column.max()):g}."
                )

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: Index) -> "Dataset":
        """The records at a slice, a mask or an array of row numbers, as another dataset."""
        if not isinstance(index, (slice, Tensor)):
            array = np.asarray(index)
            index = torch.as_tensor(array if array.size else array.astype(np.int64))
        rows = torch.arange(len(self))[index]
        return replace(
            self,
            inputs=self.inputs[index],
            targets=self.targets[index],
            attributes={key: column[index] for key, column in self.attributes.items()},
            ids=tuple(self.ids[row] for row in rows.tolist()) if self.ids else (),
        )

    def id(self, row: int) -> str:
        """What to call the record at `row`."""
        return self.ids[row] if self.ids else str(row)

    @property
    def is_image(self) -> bool:
        """Whether the records are images `(C, H, W)`."""
        return self.inputs.ndim == 4

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one record."""
        return tuple(self.inputs.shape[1:])

    @property
    def num_classes(self) -> int:
        """How many classes there are, seen or not."""
        return len(self.classes)

    def hashes(self) -> list[bytes]:
        """A 16-byte digest of each record's input alone: equal for exact copies, whatever their label."""
        rows = _bytes(self.inputs).reshape(len(self), math.prod(self.shape))
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing a row of over 2 kB lets go of the interpreter's lock
            parts = pool.map(_digests, (rows[start : start + 1024] for start in range(0, len(rows), 1024)))
            return [digest for part in parts for digest in part]

    def fingerprint(self) -> str:
        """A hash of inputs, targets, attributes and class names: the identity of this data in a run's keys."""
        digest = hashlib.blake2b(digest_size=10)
        names = sorted(self.attributes)
        digest.update(repr((tuple(self.inputs.shape), self.classes, names)).encode())
        for tensor in (self.inputs, self.targets, *(self.attributes[key] for key in names)):
            digest.update(_bytes(tensor).data)
        return digest.hexdigest()


def _bytes(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())


def _digests(rows: np.ndarray) -> list[bytes]:
    return [hashlib.blake2b(row, digest_size=16).digest() for row in rows]


def concatenate(parts: Sequence[Dataset]) -> Dataset:
    """Join datasets of one record shape and one list of classes, in order.

    Raises:
        BadInputError: no parts, or parts that differ in record shape, classes, features or attributes.
    """
    if not parts:
        raise BadInputError("expected at least one dataset to concatenate, got none.")
    first = parts[0]
    for part in parts[1:]:
        for what in ("shape", "classes", "features", "attribute_classes"):
            if getattr(part, what) != getattr(first, what):
                raise BadInputError(
                    f"parts differ in their {what}: {_short(getattr(first, what))} against "
                    f"{_short(getattr(part, what))}."
                )
        if set(part.attributes) != set(first.attributes):
            raise BadInputError(
                f"parts differ in their attributes: {list(first.attributes)} against {list(part.attributes)}."
            )
    return replace(
        first,
        inputs=torch.cat([part.inputs for part in parts]),
        targets=torch.cat([part.targets for part in parts]),
        attributes={key: torch.cat([part.attributes[key] for part in parts]) for key in first.attributes},
        ids=tuple(part.id(row) for part in parts for row in range(len(part))) if any(p.ids for p in parts) else (),
    )


def as_dataset(data: Any, *, name: str = "", classes: Sequence[str] = ()) -> Dataset:
    """Take records in any of the usual forms.

    Args:
        data: a `Dataset`; a pair `(inputs, targets)` of tensors, arrays or lists; or a `torch.utils.data.Dataset` whose
            items are `(input, target)` pairs with tensor, array or PIL inputs. Images of dtype uint8 are divided by
            255; images `(N, H, W)` are gray; `(N, H, W, C)` with 1, 3 or 4 channels become `(N, C, H, W)`.
        name: what to call the set, if it has no name yet.
        classes: class names in the order of their numbers; those of a `Dataset` stay.

    Raises:
        BadInputError: anything else, or records that `Dataset` refuses.

    Example:
        >>> pixels = np.full((2, 28, 28), 255, dtype=np.uint8)
        >>> as_dataset((pixels, [0, 1])).inputs.amax().item()
        1.0
    """
    if isinstance(data, Dataset):
        return data if data.name or not name else replace(data, name=name)
    if isinstance(data, torch.utils.data.Dataset):
        data = _collect(data)
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise BadInputError(
            f"expected a divulge.Dataset, a torch Dataset, or a pair (inputs, targets), got {type(data).__name__}."
        )
    inputs, targets = _tensor(data[0], "inputs"), _tensor(data[1], "targets")
    if inputs.dtype == torch.uint8 and inputs.ndim in (3, 4):
        inputs = inputs.to(torch.float32).div_(255)
    inputs = inputs.to(torch.float32)
    if inputs.ndim == 3:
        inputs = inputs.unsqueeze(1)
    if inputs.ndim == 4 and inputs.shape[3] in (1, 3, 4) and inputs.shape[1] not in (1, 3, 4):
        inputs = inputs.permute(0, 3, 1, 2).contiguous()
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if not targets.is_floating_point() or bool((targets == targets.round()).all()):
        targets = targets.long()
    return Dataset(inputs, targets, name=name, classes=tuple(classes))


def _tensor(values: Any, what: str) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu()
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise BadInputError(f"{what}: expected an array of one shape, but {error}.") from None
    if array.dtype.kind not in "buif":
        raise BadInputError(f"{what}: expected numbers, got {array.dtype} of shape {array.shape}.")
    kept: type = np.float64 if array.dtype.kind == "f" else np.int64
    return torch.from_numpy(np.array(array, dtype=array.dtype.type if array.dtype in (np.uint8, np.float32) else kept))


def _collect(source: torch.utils.data.Dataset) -> tuple[Tensor, Tensor]:
    if not hasattr(source, "__len__"):
        raise BadInputError(
            f"expected a torch Dataset with a length, got {type(source).__name__}. Collect its records first."
        )
    inputs, targets = [], []
    for row in range(len(source)):
        item = source[row]
        if not isinstance(item, (tuple, list)) or len(item) < 2:
            raise BadInputError(
                f"record {row} of the torch Dataset: expected (input, target), got {type(item).__name__}."
            )
        where = f"record {row} of the torch Dataset"
        inputs.append(_picture(item[0]) if hasattr(item[0], "convert") else _tensor(item[0], where))
        try:
            targets.append(int(item[1]))
        except (TypeError, ValueError) as error:
            raise BadInputError(f"record {row} of the torch Dataset: expected a class number, but {error}.") from None
    kinds = {(tuple(value.shape), str(value.dtype).removeprefix("torch.")) for value in inputs}
    if len(kinds) != 1:
        raise BadInputError(
            f"records of a torch Dataset: expected one shape and dtype, got {sorted(kinds)[:3] or 'no record'}. "
            "Resize or convert them first."
        )
    return torch.stack(inputs), torch.tensor(targets)


def _picture(image: Any) -> Tensor:
    """A PIL image as `(C, H, W)`; a palette is looked up."""
    pixels = np.atleast_3d(np.asarray(image.convert("RGB") if image.mode == "P" else image))
    return _tensor(pixels.transpose(2, 0, 1), "picture")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "..."
