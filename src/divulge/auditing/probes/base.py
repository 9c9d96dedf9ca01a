"""The contract of a probe: one question asked of a release, answered by a family of attacks."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from divulge.auditing.facts import Card, Section
from divulge.auditing.subject import Subject


@dataclass(frozen=True)
class Outcome:
    """What one probe found.

    Args:
        card: its card in the report.
        band: how bad it is, an index into `divulge.auditing.facts.BANDS`; None if nothing ran.
        confidence: how sure that is, in words.
        advice: the one thing to do next.
        sections: its sections of the report.
        settings: what it ran with, label to text.
        assumptions: what it took for granted.
        not_tested: what it does not say.
        references: the sources of its methods.
        records: per-record risk for export, each column as long as the others.
        promise: what a privacy ledger promises beside what was measured, in a line; empty without one.
    """

    card: Card
    band: int | None
    confidence: str
    advice: str
    sections: list[Section] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    assumptions: list[str] = field(default_factory=list)
    not_tested: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    records: Mapping[str, list[Any]] = field(default_factory=dict)
    promise: str = ""


@dataclass(frozen=True)
class Work:
    """What a probe is about to do.

    Args:
        words: it, as the beginning of a sentence, such as `Drawing 10 classes`.
        seconds: how long that takes, about, if none of it is stored yet.
    """

    words: str
    seconds: float


@dataclass(frozen=True)
class Probe:
    """Base of every probe; a concrete one has a `name` and lives in a file of its own."""

    name: ClassVar[str] = ""
    release: ClassVar[str] = ""
    """The release it attacks."""
    place: ClassVar[int] = 0
    """Where its card stands among those of others, from 0."""

    def idle(self, subject: Subject) -> str | None:
        """Why the question does not arise of `subject`, as a line on what was not tested; None if it does."""
        return None

    @abstractmethod
    def unable(self, subject: Subject) -> str | None:
        """Why this probe cannot ask its question of `subject`, in words; None if it can."""

    @abstractmethod
    def work(self, subject: Subject) -> Work:
        """What `run` will do, and how long it takes."""

    @abstractmethod
    def run(self, subject: Subject) -> Outcome:
        """Ask, attack, score, and put what was found into words and blocks."""
