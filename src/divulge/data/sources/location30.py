"""Location-30: which of 446 places a person visited, and to which of 30 groups they belong."""

from pathlib import Path

import numpy as np
import torch

from divulge.data.dataset import Dataset
from divulge.data.parts import require_part
from divulge.data.sources import hub
from divulge.data.sources.csvfile import read_columns
from divulge.errors import BadInputError

_BITS = 446


def parts(path: Path) -> tuple[str, ...]:
    """`train` for a folder with `bangkok`, or with a parquet file of packed bits."""
    return ("train",) if (path / "bangkok").is_file() or "train" in hub.parts(path) else ()


def read(path: Path, *, part: str = "train") -> Dataset:
    """Read the file `bangkok` of comma-separated numbers, or a parquet file of packed bits.

    Source: R. Shokri, M. Stronati, C. Song and V. Shmatikov, "Membership Inference Attacks against Machine Learning
    Models", 2017, arXiv:1610.05820.

    Args:
        path: the folder of the file. `bangkok` has the label 1 to 30 first; the parquet file has columns `features`
            (446 bits as bytes, highest bit first) and `label` from 0.
        part: `train`; there is no other.

    Raises:
        BadInputError: a file of another layout.
    """
    require_part(part, parts(path), where=str(path))
    if (path / "bangkok").is_file():
        columns = list(read_columns(path / "bangkok").values())
        bits, labels = np.stack(columns[1:], axis=1), columns[0] - 1
    else:
        bits, labels = _packed(path)
    if bits.shape != (len(labels), _BITS) or not np.isin(bits, (0, 1)).all():
        raise BadInputError(f"{path}: expected {_BITS} zeros or ones a record, got shape {bits.shape}.")
    return Dataset(torch.from_numpy(bits.astype(np.float32)), torch.from_numpy(labels.astype(np.int64)))


def _packed(path: Path) -> tuple[np.ndarray, np.ndarray]:
    columns = hub.table(hub.files(path)["train"])
    if set(columns) != {"features", "label"}:
        raise BadInputError(f"{path}: expected columns features and label, got {', '.join(columns)}.")
    packed = columns["features"].to_pylist()
    width = -(-_BITS // 8)
    if not all(isinstance(bits, bytes) and len(bits) == width for bits in packed):
        raise BadInputError(f"{path}: expected {width} bytes of packed bits a record.")
    rows = np.frombuffer(b"".join(packed), np.uint8).reshape(-1, width)
    return np.unpackbits(rows, axis=1)[:, :_BITS], columns["label"].to_numpy()
