"""One attribute of a table: where it stands among the inputs, and how each of its values is written there."""

import difflib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from divulge.data.dataset import Dataset
from divulge.errors import BadInputError

MOST_VALUES = 20
"""Distinct numbers that a column may hold and still be read as categories."""


@dataclass(frozen=True, eq=False)
class Column:
    """An attribute with few values, as the inputs of a model hold it.

    Args:
        name: of the attribute.
        places: its columns among the inputs; none if the inputs do not hold it.
        written: what stands there for each value, float32 `(values, len(places))`.
        values: their names.
        width: columns of a whole record.
    """

    name: str
    places: tuple[int, ...]
    written: Tensor
    values: tuple[str, ...]
    width: int

    @property
    def kept(self) -> list[int]:
        """The columns of a record that are not the attribute's."""
        return [place for place in range(self.width) if place not in self.places]

    def take(self, data: Dataset) -> tuple[Tensor, np.ndarray]:
        """The other columns `(n, width - len(places))` of records, and their values, int64 `(n,)`.

        Raises:
            BadInputError: records of another width, without the attribute, or with a value that it does not have.
        """
        if data.shape != (self.width,):
            raise BadInputError(
                f"attribute {self.name!r}: expected a table of {self.width} columns, got records of shape {data.shape}."
            )
        if not self.places:
            if self.name not in data.attributes:
                raise _missing(data, self.name)
            codes = data.attributes[self.name].numpy()
            if len(codes) and not 0 <= codes.min() <= codes.max() < len(self.values):
                raise BadInputError(
                    f"attribute {self.name!r}: expected values from 0 to {len(self.values) - 1}, got "
                    f"{codes.min():g} to {codes.max():g}."
                )
            return data.inputs, codes.astype(np.int64)
        own = data.inputs[:, list(self.places)]
        same = (own[:, None] == self.written).all(dim=2)
        if not bool(same.any(dim=1).all()):
            row = int((~same.any(dim=1)).int().argmax())
            raise BadInputError(
                f"attribute {self.name!r}: record {row} holds {own[row].tolist()}, which is none of its "
                f"{len(self.values)} values ({', '.join(self.values)})."
            )
        return data.inputs[:, self.kept], same.int().argmax(dim=1).numpy().astype(np.int64)

    def put(self, others: Tensor, value: int) -> Tensor:
        """Whole records `(n, width)` of the other columns, all with one value."""
        whole = others.new_empty(len(others), self.width)
        whole[:, self.kept] = others
        whole[:, list(self.places)] = self.written[value]
        return whole


def column_of(data: Dataset, name: str) -> Column:
    """Find an attribute in a table: a category's columns `name=value`, a column of few numbers, or an attribute beside.

    Args:
        data: a table; without names of features, columns are called by their numbers from 0.
        name: of the attribute.

    Raises:
        BadInputError: images, no such attribute, one with a single value, or a column of over 20 distinct numbers.

    Example:
        >>> table = Dataset(torch.tensor([[1.0, 0, 7], [0, 1, 8]]), torch.tensor([0, 1]), features=("a=x", "a=y", "b"))
        >>> column = column_of(table, "a")
        >>> column.values, column.put(torch.tensor([[9.0]]), 1).tolist()
        (('x', 'y'), [[0.0, 1.0, 9.0]])
    """
    if data.is_image:
        raise BadInputError(
            f"attribute {name!r}: expected a table, got images of shape {data.shape}. Attributes of images are read "
            "off representations (divulge.attacks.attributes.Overlearning)."
        )
    width = data.shape[0]
    features = data.features or tuple(str(place) for place in range(width))
    category = tuple(place for place, feature in enumerate(features) if feature.startswith(f"{name}="))
    if category:
        values = tuple(features[place].removeprefix(f"{name}=") for place in category)
        found = Column(name, category, torch.eye(len(category)), values, width)
    elif name in features:
        place = features.index(name)
        distinct = data.inputs[:, place].unique()
        if len(distinct) > MOST_VALUES:
            raise BadInputError(
                f"attribute {name!r}: expected at most {MOST_VALUES} values, got {len(distinct):,} different numbers. "
                "Group them into categories before the model is trained."
            )
        found = Column(name, (place,), distinct[:, None], tuple(f"{value:g}" for value in distinct.tolist()), width)
    elif name in data.attributes:
        found = Column(name, (), *_beside(data, name), width)
    else:
        raise _missing(data, name)
    if len(found.values) < 2:
        raise BadInputError(f"attribute {name!r} has one value, {', '.join(found.values)}: there is nothing to guess.")
    return found


def _beside(data: Dataset, name: str) -> tuple[Tensor, tuple[str, ...]]:
    codes = data.attributes[name]
    if codes.is_floating_point() or (len(codes) and int(codes.min()) < 0):
        raise BadInputError(f"attribute {name!r}: expected categories numbered from 0, got {codes[:3].tolist()}...")
    count = int(codes.max()) + 1 if len(codes) else 0
    values = tuple(data.attribute_classes.get(name) or (str(number) for number in range(count)))
    return torch.zeros(len(values), 0), values


def _missing(data: Dataset, name: str) -> BadInputError:
    known = sorted({feature.split("=")[0] for feature in data.features} | set(data.attributes))
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; the nearest is {near[0]!r}" if near else ""
    return BadInputError(f"no attribute {name!r}{hint}. There are: {', '.join(known[:30]) or 'numbers of columns'}.")
