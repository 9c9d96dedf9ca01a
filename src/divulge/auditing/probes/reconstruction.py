"""Reconstruction: do training records come back out of the weights?"""

from dataclasses import dataclass
from typing import ClassVar

from divulge.auditing.gradients.audit_steps import Carried
from divulge.auditing.probes.base import Outcome, Probe, Work
from divulge.auditing.subject import Subject
from divulge.auditing.weights import MOST
from divulge.auditing.weights_step import Searching, search
from divulge.auditing.weights_telling import outcome, refused
from divulge.runs.graph import execute
from divulge.runs.step import Step

SECONDS = {"quick": 20.0, "standard": 180.0, "thorough": 1200.0}
"""What a search in the weights may take, by the budget's name."""


@dataclass(frozen=True)
class Reconstruction(Probe):
    """Do training records come back out of the weights? Searched for as a sum of gradients that the weights are."""

    name: ClassVar[str] = "reconstruction"
    release: ClassVar[str] = "weights"
    place: ClassVar[int] = 1

    def idle(self, subject: Subject) -> str | None:
        """The weights must be what others get to see."""
        if subject.weights:
            return None
        return "What the weights give away: this audit did not ask for them (--access weights)."

    def unable(self, subject: Subject) -> str | None:
        """There must be few enough records that a sample of them is not all that is at hand."""
        if subject.given <= MOST:
            return None
        return (
            f"The weights were not searched: there are {subject.given:,} training records, and so far some have been "
            f"found only in networks of {MOST:,} or fewer."
        )

    def work(self, subject: Subject) -> Work:
        """A search of bounded time, where there is a use in it."""
        return Work("Looking for training records in the weights, where there is a use in it", _seconds(subject))

    def run(self, subject: Subject) -> Outcome:
        """Search, and compare what came back with members and non-members."""
        module = subject.target.module
        assert module is not None
        settings = Searching(subject.target.fingerprint, _seconds(subject), subject.seed, Carried(module))
        step = Step(search, settings, {"data": subject.data}, label="training records in the weights")
        found = execute([step], subject.store, engine=subject.engine, progress=subject.progress)[step.key]
        reason = str(found.facts.get("refused", ""))
        return refused(subject, reason) if reason else outcome(subject, found)


def _seconds(subject: Subject) -> float:
    return SECONDS[subject.budget.name]
