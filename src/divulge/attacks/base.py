"""What every attack is: a frozen dataclass of settings with one verb, `run`."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Attack:
    """Base of every attack; a concrete one has a `name` and lives in a file of its own."""

    name: ClassVar[str] = ""
    source: ClassVar[str] = ""
