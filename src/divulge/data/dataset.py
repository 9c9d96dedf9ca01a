"""The one shape in which records travel: tensors in memory, labels, and what is known about them."""

import hashlib
from collections.abc import Mapping, Sequence
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

    Raises:
        BadInputError: a wrong shape or dtype, a pixel outside `[0, 1]`, NaN, or a label without a class.

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

    def __post_init__(self) -> None:
        inputs, targets = self.inputs, self.targets
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
        if len(inputs):
            low, high = (float(edge) for edge in torch.aminmax(inputs))
            if not np.isfinite(low) or not np.isfinite(high):
                raise BadInputError("inputs: expected finite values, got NaN or infinity. Remove or impute those records.")
            if inputs.ndim == 4 and (low < 0 or high > 1):
                raise BadInputError(
                    f"inputs: expected pixels in [0, 1], got {low:.4g} to {high:.4g}. Divide by 255, and leave "
                    "normalization to the model's first layer (divulge.models.Normalize)."
                )
            if int(targets.min()) < 0:
                raise BadInputError(f"targets: expected class numbers from 0, got {int(targets.min())}.")
        if not self.classes:
            count = int(targets.max()) + 1 if len(targets) else 0
            object.__setattr__(self, "classes", tuple(str(number) for number in range(count)))
        elif len(targets) and int(targets.max()) >= len(self.classes):
            raise BadInputError(
                f"targets: label {int(targets.max())} is out of range for {len(self.classes)} classes (0 to "
                f"{len(self.classes) - 1}). Check the labels or name every class."
            )
        for key, column in self.attributes.items():
            if column.shape != targets.shape:
                raise BadInputError(f"attribute {key!r}: expected shape ({len(inputs)},), got {tuple(column.shape)}.")
        if self.ids and len(self.ids) != len(inputs):
            raise BadInputError(f"ids: expected {len(inputs)} names, one a record, got {len(self.ids)}.")

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: Index) -> "Dataset":
        """The records at a slice, a mask or an array of row numbers, as another dataset."""
        if not isinstance(index, (slice, Tensor)):
            index = torch.as_tensor(np.asarray(index))
        rows = torch.arange(len(self))[index]
        return replace(
            self,
            inputs=self.inputs[index],
            targets=self.targets[index],
            attributes={key: column[index] for key, column in self.attributes.items()},
            ids=tuple(self.id(int(row)) for row in rows) if self.ids else (),
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
        rows = np.ascontiguousarray(self.inputs.reshape(len(self), -1).numpy())
        return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]

    def fingerprint(self) -> str:
        """A hash of inputs, targets, attributes and class names: the identity of this data in a run's keys."""
        digest = hashlib.blake2b(digest_size=10)
        digest.update(repr((tuple(self.inputs.shape), self.classes)).encode())
        for tensor in (self.inputs, self.targets, *(self.attributes[key] for key in sorted(self.attributes))):
            digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
        return digest.hexdigest()


def concatenate(parts: Sequence[Dataset]) -> Dataset:
    """Join datasets of one record shape and one list of classes, in order.

    Raises:
        BadInputError: the parts differ in record shape, classes or attributes.
    """
    first = parts[0]
    for part in parts[1:]:
        if part.shape != first.shape or part.classes != first.classes or set(part.attributes) != set(first.attributes):
            raise BadInputError(
                f"parts differ: {first.shape} with {first.num_classes} classes and attributes {sorted(first.attributes)}, "
                f"against {part.shape} with {part.num_classes} and {sorted(part.attributes)}."
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
            items are `(input, target)` pairs with tensor, array or PIL inputs. Images of dtype uint8 are divided by 255.
        name: what to call the set.
        classes: class names in the order of their numbers.

    Raises:
        BadInputError: anything else, or records that `Dataset` refuses.
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, torch.utils.data.Dataset):
        data = _collect(data)
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise BadInputError(
            f"expected a divulge.Dataset, a torch Dataset, or a pair (inputs, targets), got {type(data).__name__}."
        )
    inputs, targets = (torch.as_tensor(np.asarray(part) if not isinstance(part, Tensor) else part) for part in data)
    if targets.is_floating_point() and bool((targets == targets.round()).all()):
        targets = targets.long()
    if inputs.dtype == torch.uint8:
        inputs = inputs.float() / 255 if inputs.ndim in (3, 4) else inputs.float()
    elif inputs.dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool):
        inputs = inputs.float()
    if inputs.ndim == 3:
        inputs = inputs.unsqueeze(1)
    if not targets.is_floating_point():
        targets = targets.long()
    return Dataset(inputs.detach().cpu(), targets.detach().cpu(), name=name, classes=tuple(classes))


def _collect(source: torch.utils.data.Dataset) -> tuple[Tensor, Tensor]:
    inputs, targets = [], []
    for row in range(len(source)):  # type: ignore[arg-type]
        item = source[row]
        if not isinstance(item, (tuple, list)) or len(item) < 2:
            raise BadInputError(f"record {row} of the torch Dataset: expected (input, target), got {type(item).__name__}.")
        value = item[0]
        if not isinstance(value, (Tensor, np.ndarray)):
            value = np.asarray(value)
            if value.ndim == 3:  # PIL gives height, width, channels
                value = value.transpose(2, 0, 1)
        value = torch.as_tensor(value)
        inputs.append(value.float() / 255 if value.dtype == torch.uint8 else value.float())
        targets.append(int(item[1]))
    shapes = {tuple(value.shape) for value in inputs}
    if len(shapes) != 1:
        raise BadInputError(f"records of a torch Dataset: expected one shape, got {sorted(shapes)[:3]}. Resize them first.")
    return torch.stack(inputs), torch.tensor(targets)
