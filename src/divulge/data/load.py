"""Records from wherever they are: a name, a path or an object."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from divulge.data.catalog import named_set, named_sets
from divulge.data.dataset import Dataset, as_dataset
from divulge.data.images import Size
from divulge.data.layouts import read_path
from divulge.data.tables import Encoding
from divulge.errors import BadInputError


def load(
    source: Any,
    *,
    part: str = "train",
    data_dir: str | Path | None = None,
    target: str = "",
    attributes: Sequence[str] = (),
    size: Size | None = None,
    channels: int | None = None,
    like: Dataset | None = None,
) -> Dataset:
    """Load records.

    Args:
        source: the name of a data set (`divulge list datasets`); a path to a `.npz`, `.csv` or parquet file, a folder
            of parquet files, IDX files, CIFAR batches, numbered PGM folders or class folders of pictures; or anything
            that `as_dataset` takes. A name goes before a file of that name: write `./mnist` for the folder.
        part: which part of a set that has parts.
        data_dir: where to look for a named set, before `DIVULGE_DATA` and the user's cache.
        target: the column of labels, where there are several.
        attributes: columns to keep as attributes; a named set keeps its own by default.
        size: resize pictures to this height and width; one number means a square.
        channels: 1 for gray, 3 for color; by default as the pictures are.
        like: number the classes and categories as in this dataset, so that two files of one kind match.

    Raises:
        MissingDataError: a named set that is not on this machine; the message says where to get it and where to put it.
        BadInputError: anything that cannot be read as asked.

    Example:
        >>> digits = load("digits")
        >>> len(digits), digits.shape, digits.classes[:3]
        (1797, (1, 8, 8), ('0', '1', '2'))
    """
    asked = {"target": target, "attributes": tuple(attributes), "size": size, "channels": channels}
    options: dict[str, Any] = {name: value for name, value in asked.items() if value}
    if like is not None:
        options["encoding"] = Encoding.of(like)
    if isinstance(source, str) and (source in named_sets() or not Path(source).exists()):
        entry = named_set(source)
        return entry.load(part=part, data_dir=Path(data_dir) if data_dir else None, options=options)
    if isinstance(source, (str, Path)):
        return read_path(Path(source), part=part, options=options)
    if options or part != "train":
        raise BadInputError(
            f"{', '.join(options) or 'part'}: only for data sets on disk, not for a {type(source).__name__}."
        )
    return as_dataset(source)
