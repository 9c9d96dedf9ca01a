"""What the parts of a set are called: train, test, validation."""

from collections.abc import Iterable

from divulge.errors import BadInputError

_PARTS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "t10k": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
}


def known_part(name: str) -> str | None:
    """The part that a file or folder name stands for; None if it is no usual name of a part.

    Example:
        >>> known_part("valid"), known_part("t10k"), known_part("cats")
        ('validation', 'test', None)
    """
    return _PARTS.get(name.lower())


def require_part(part: str, present: Iterable[str], *, where: str) -> None:
    """Check that a part is there.

    Raises:
        BadInputError: it is not; the parts that are there are named.
    """
    present = tuple(present)
    if part not in present:
        raise BadInputError(f"{where}: expected one of its parts {', '.join(present)}, got {part!r}.")
