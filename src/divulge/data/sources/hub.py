"""Folders of parquet files as the Hugging Face hub lays them out: pictures with labels, or plain tables."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from divulge.data.cache import cached
from divulge.data.dataset import Dataset
from divulge.data.images import Size, both_sides, decode, to_inputs
from divulge.data.parts import known_part, require_part
from divulge.data.tables import Encoding, categories, encode, encode_attribute, from_columns, target_column
from divulge.data.text import inert
from divulge.errors import BadInputError, MissingExtraError

if TYPE_CHECKING:
    import pyarrow

_SHARD = re.compile(r"(?P<part>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})")


def parts(path: Path) -> tuple[str, ...]:
    """The parts found at a parquet file or a folder of them; none if it is neither."""
    return tuple(files(path))


def read(
    path: Path,
    *,
    part: str = "train",
    target: str = "",
    attributes: Sequence[str] = (),
    size: Size | None = None,
    channels: int | None = None,
    encoding: Encoding | None = None,
) -> Dataset:
    """Read a parquet file or a folder of them, in the layout of a download from the Hugging Face hub.

    A column of pictures (a struct of encoded `bytes` and `path`, or the bytes themselves) makes an image set; without
    one, every column but the target is a feature, and the texts of all parts together make its categories.

    Args:
        path: a `.parquet` file, or a folder of files such as `train-00000-of-00001.parquet`, `test.parquet`.
        part: which part to read; a file or folder without parts is all `train`.
        target: the column of labels; one with a usual name if left out.
        attributes: further columns to keep as attributes.
        size: resize pictures to this height and width.
        channels: 1 for gray, 3 for color; by default as the pictures are.
        encoding: how texts become numbers.

    Raises:
        BadInputError: an unknown part or column, a damaged file, a missing value, or pictures of several sizes.
        MissingExtraError: pyarrow is not installed.
    """
    by_part = files(path)
    require_part(part, by_part, where=str(path))
    own = by_part[part]
    schema = _schema(own[0])
    picture = _picture_column(schema)
    target = target_column([name for name in schema.names if name != picture], target, where=str(path))
    encoding = _named(encoding or Encoding(), target, _class_names(schema.metadata or {}))
    if picture:
        return _read_pictures(own, picture, target, attributes, size, channels, encoding)
    if size or channels:
        raise BadInputError(f"{path}: a table takes no size and no channels; it has no column of pictures.")
    columns = _arrays(table(own), str(path))
    texts = [name for name, values in columns.items() if values.dtype.kind == "U"]
    others = [file for other, listed in by_part.items() if other != part for file in listed]
    beyond = _arrays(table(others, texts), str(path)) if others and texts else {}
    vocabulary = {
        inert(name): categories(np.concatenate([columns[name], beyond[name]])) for name in texts if name in beyond
    }
    return from_columns(
        columns, where=str(path), target=target, attributes=attributes, encoding=encoding, vocabulary=vocabulary
    )


def files(path: Path) -> dict[str, list[Path]]:
    """The parquet files of each part at a file or folder, in order."""
    if path.is_file():
        return {"train": [path]} if path.suffix == ".parquet" else {}
    found = sorted(path.glob("*.parquet")) or sorted(path.glob("*/*.parquet")) or sorted(path.glob("*/*/*.parquet"))
    by_part: dict[str, list[Path]] = {}
    for file in found:
        shard = _SHARD.fullmatch(file.stem)
        name = shard["part"] if shard else file.stem
        part = known_part(file.parent.name if name.isdigit() else name)
        by_part.setdefault(part or "", []).append(file)
    unknown = by_part.pop("", [])
    if not by_part:
        return {"train": unknown} if unknown else {}
    for part, listed in by_part.items():
        _refuse_incomplete(part, listed)
    return by_part


def _refuse_incomplete(part: str, files: Sequence[Path]) -> None:
    if len({file.parent for file in files}) > 1:
        folders = ", ".join(sorted({str(file.parent) for file in files}))
        raise BadInputError(f"several folders hold a part {part!r}: {folders}. Pass one of them.")
    shards = [shard for file in files if (shard := _SHARD.fullmatch(file.stem))]
    if shards and len(files) != int(shards[0]["count"]):
        raise BadInputError(
            f"{files[0].parent}: expected {int(shards[0]['count'])} files of part {part!r}, found {len(files)}. "
            "The download is incomplete; get the others too."
        )


def _parquet() -> ModuleType:
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("reading parquet files needs pyarrow: pip install 'divulge[hub]'.") from None
    return pyarrow.parquet


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:
    parquet = _parquet()
    import pyarrow

    try:
        with parquet.ParquetFile(file) as opened:
            yield opened
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, OSError) as error:
        raise BadInputError(f"{file}: expected a parquet file, but {inert(error)}. Get the file again.") from None


def _schema(file: Path) -> "pyarrow.Schema":
    with _opened(file) as opened:
        return opened.schema_arrow


def column_names(file: Path) -> list[str]:
    """The names of the columns of a parquet file."""
    return list(_schema(file).names)


def table(files: Sequence[Path], names: Sequence[str] | None = None) -> dict[str, Any]:
    """Columns of several parquet files, joined, as pyarrow's chunked arrays.

    Raises:
        BadInputError: a damaged file, or files of several layouts.
        MissingExtraError: pyarrow is not installed.
    """
    tables = []
    for file in files:
        with _opened(file) as opened:
            tables.append(opened.read(columns=names))
    import pyarrow

    try:
        joined = pyarrow.concat_tables(tables)
    except pyarrow.ArrowInvalid as error:
        raise BadInputError(f"{files[0].parent}: expected files of one layout, but {inert(error)}.") from None
    return dict(zip(joined.column_names, joined.columns, strict=True))


def _arrays(columns: Mapping[str, Any], where: str) -> dict[str, np.ndarray]:
    return {name: _array(column, f"{where}, column {inert(name)!r}") for name, column in columns.items()}


def _array(column: Any, where: str) -> np.ndarray:
    """A column as numbers or texts."""
    import pyarrow

    kind = column.type
    if pyarrow.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    text = pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)
    if not text and not pyarrow.types.is_boolean(kind) and not _is_number(kind):
        raise BadInputError(
            f"{where}: expected numbers, texts or pictures, got {kind}. Leave the column out of the file."
        )
    if column.null_count:
        raise BadInputError(f"{where}: {column.null_count} missing values. Remove those records or fill them in.")
    if text:
        return np.array(column.to_pylist(), dtype=np.str_)
    return column.to_numpy().astype(np.float64 if pyarrow.types.is_floating(kind) else np.int64)


def _is_number(kind: Any) -> bool:
    import pyarrow

    return pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)


def _picture_column(schema: "pyarrow.Schema") -> str:
    import pyarrow

    for column in schema:
        if pyarrow.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
            return column.name
        if pyarrow.types.is_binary(column.type) or pyarrow.types.is_large_binary(column.type):
            return column.name
    return ""


def _read_pictures(
    files: Sequence[Path],
    picture: str,
    target: str,
    attributes: Sequence[str],
    size: Size | None,
    channels: int | None,
    encoding: Encoding,
) -> Dataset:
    where = str(files[0].parent)
    known = _schema(files[0]).names
    for name in attributes:
        if name not in known:
            raise BadInputError(
                f"{where}: no column {name!r} for an attribute. Columns: {', '.join(map(inert, known))}."
            )
    columns = _arrays(table(files, list(dict.fromkeys((target, *attributes)))), where)
    targets, classes = encode(columns[target], encoding.classes, where=f"{where}, column {inert(target)!r}")
    kept, attribute_classes = {}, {}
    for name in attributes:
        names = encoding.attribute_classes.get(name, ())
        values, names = encode_attribute(columns[name], names, where=f"{where}, column {inert(name)!r}")
        kept[name] = torch.from_numpy(values)
        if names:
            attribute_classes[name] = names
    ids = _ids(files, picture)
    labels = ids or tuple(f"in row {row} of {where}" for row in range(len(targets)))
    options = {"kind": "hub", "column": picture, "size": both_sides(size), "channels": channels}
    pixels = cached(
        files, options, lambda: decode(_encoded(files, picture, labels), ids=labels, size=size, channels=channels)
    )
    return Dataset(
        to_inputs(pixels),
        torch.from_numpy(targets),
        attributes=kept,
        classes=classes,
        ids=ids,
        attribute_classes=attribute_classes,
    )


def _named(encoding: Encoding, target: str, names: Mapping[str, tuple[str, ...]]) -> Encoding:
    """The encoding, with the file's own names where it has none."""
    return replace(
        encoding,
        classes=encoding.classes or names.get(target, ()),
        attribute_classes={**names, **encoding.attribute_classes},
    )


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """The names of the values of each column, where the file's hub metadata tells them."""
    try:
        columns = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"].items()
        return {
            name: tuple(map(str, column["names"])) for name, column in columns if column.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _ids(files: Sequence[Path], picture: str) -> tuple[str, ...]:
    """The pictures' paths if each has one of its own."""
    import pyarrow

    kind = _schema(files[0]).field(picture).type
    if not pyarrow.types.is_struct(kind) or kind.get_field_index("path") < 0:
        return ()
    (column,) = table(files, [f"{picture}.path"]).values()
    paths = [path for chunk in column.chunks for path in chunk.field("path").to_pylist()]
    return tuple(map(inert, paths)) if None not in paths and len(set(paths)) == len(paths) else ()


def _encoded(files: Sequence[Path], picture: str, labels: Sequence[str]) -> Iterator[bytes]:
    row = 0
    for file in files:
        with _opened(file) as opened:
            for batch in opened.iter_batches(batch_size=1024, columns=[picture]):
                values = batch.column(0)
                for content in (values.field("bytes") if hasattr(values, "field") else values).to_pylist():
                    if content is None:
                        raise BadInputError(
                            f"picture {labels[row]}: expected its encoded bytes, found none. "
                            "Save the set with its pictures embedded."
                        )
                    yield content
                    row += 1
