"""Decoded pictures kept on disk, so that only the first load pays for decoding."""

import contextlib
import hashlib
import io
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from divulge import settings

_DIGEST = 20
_VERSION = 1


def cache_root() -> Path:
    """The user's cache folder: `DIVULGE_CACHE`, else `divulge` under `XDG_CACHE_HOME` or `~/.cache`."""
    chosen = os.environ.get("DIVULGE_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "divulge"


def cached(files: Sequence[Path], options: Any, make: Callable[[], np.ndarray]) -> np.ndarray:
    """What `make` returns, from the cache if these files were read with these options before.

    The key holds each file's path, size and time of change, so an edited file is read again. A cache file carries a
    digest of its content; a damaged one is made anew. Where the cache cannot be written, a warning says so.

    Args:
        files: what `make` reads.
        options: plain values that change what it makes of them.
        make: the decoding; returns a uint8 array.
    """
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    path = cache_root() / "decoded" / f"{settings.fingerprint([_VERSION, stats, options])}.npy"
    array = _read(path)
    if array is None:
        array = make()
        _write(path, array)
    return array


def _read(path: Path) -> np.ndarray | None:
    """The array at `path`; None if there is none or it is damaged."""
    try:
        with path.open("rb") as file:
            content = bytearray(os.fstat(file.fileno()).st_size)
            file.readinto(content)
    except OSError:
        return None
    body = memoryview(content)[:-_DIGEST]
    if hashlib.blake2b(body, digest_size=_DIGEST).digest() != content[-_DIGEST:]:
        return None
    head = io.BytesIO(body[:1024])
    npy.read_magic(head)
    shape, _, dtype = npy.read_array_header_1_0(head)
    return np.frombuffer(body, dtype, offset=head.tell()).reshape(shape)


def _write(path: Path, array: np.ndarray) -> None:
    array = np.ascontiguousarray(array)
    head = io.BytesIO()
    npy.write_array_header_1_0(head, npy.header_data_from_array_1_0(array))
    digest = hashlib.blake2b(head.getvalue(), digest_size=_DIGEST)
    digest.update(array.data)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(head.getvalue())
            file.write(array.data)
            file.write(digest.digest())
        partial.replace(path)
    except OSError as error:
        warnings.warn(
            f"decoded pictures were not cached ({error}); the next load decodes them again. "
            "Set DIVULGE_CACHE to a folder that can be written.",
            stacklevel=2,
        )
        with contextlib.suppress(OSError):
            partial.unlink()
