"""Attribute inference: what does the model tell of a record beyond what it was made for?"""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from divulge.attacks.attributes import Overlearning
from divulge.auditing.ask import target_answers
from divulge.auditing.attribute_steps import Reading, Trying, guess, read
from divulge.auditing.attribute_telling import outcome
from divulge.auditing.gradients.audit_steps import Carried
from divulge.auditing.probes.base import Outcome, Probe, Work
from divulge.auditing.subject import Subject
from divulge.data.columns import column_of
from divulge.errors import BadInputError
from divulge.runs.graph import execute
from divulge.runs.step import Step

MOST = 6
"""Attributes that are guessed, the first ones."""
PER_RECORD = 60
"""Queries that guessing a column takes for a record, at most: three attacks, each with up to 20 values."""


@dataclass(frozen=True)
class Means:
    """What guessing an attribute may take.

    Args:
        known: records of the adversary.
        test: training records to guess.
        attack: the probes that read layers.
        pace: seconds that these take for a layer, about.
    """

    known: int
    test: int
    attack: Overlearning
    pace: float


MEANS = {
    "quick": Means(1_000, 1_000, Overlearning(probes=("logistic",)), 1.0),
    "standard": Means(4_000, 2_000, Overlearning(probes=("logistic", "mlp-128-64")), 8.0),
    "thorough": Means(10_000, 5_000, Overlearning(), 40.0),
}
"""By the budget's name."""


@dataclass(frozen=True)
class Attributes(Probe):
    """What does the model tell of a record's attributes? Read off its layers or answers, or tried on it."""

    name: ClassVar[str] = "attributes"
    release: ClassVar[str] = "posteriors"
    place: ClassVar[int] = 3

    def idle(self, subject: Subject) -> str | None:
        """The records must carry attributes."""
        if subject.corpus.data.attributes:
            return None
        return "Attributes of records, such as sex or age: the records given carry none (--attributes)."

    def unable(self, subject: Subject) -> str | None:
        """There must be a model to ask."""
        if subject.target.has_inputs:
            return None
        return "Attributes were not guessed: only a table of answers was given."

    def work(self, subject: Subject) -> Work:
        """Reading layers, or trying the values of columns."""
        layers = 1 if not subject.weights else sum(1 for _ in _leaves(subject))
        columns = sum(tried(subject, name) for name in asked(subject))
        pace = MEANS[subject.budget.name].pace
        seconds = pace * ((len(asked(subject)) - columns) * (2 * layers + 2) + 3 * columns)
        return Work(f"Guessing {', '.join(asked(subject))}", seconds)

    def run(self, subject: Subject) -> Outcome:
        """Guess each attribute, with the model and without it."""
        steps = {name: self._step(subject, name) for name in asked(subject)}
        done = execute(list(steps.values()), subject.store, engine=subject.engine, progress=subject.progress)
        return outcome(subject, {name: done[step.key] for name, step in steps.items()})

    def _step(self, subject: Subject, name: str) -> Step:
        means, target, seed = MEANS[subject.budget.name], subject.target, subject.seed
        data, label = {"data": subject.data}, f"attribute {name}"
        if tried(subject, name):
            records = means.test
            if subject.spare is not None:
                records = min(records, subject.spare // (2 * PER_RECORD * len(asked(subject))))
            trying = Trying(target.fingerprint, name, subject.weights, records, seed, target)
            return Step(guess, trying, data, label=label)
        model = Carried(target.module) if subject.weights and target.module is not None else None
        answers = {} if model else {"answers": target_answers(subject)}
        reading = Reading(
            target.fingerprint,
            name,
            means.attack,
            subject.answered,
            means.known,
            means.test,
            seed,
            model,
        )
        return Step(read, reading, data | answers, label=label)


def asked(subject: Subject) -> list[str]:
    """The attributes that are guessed."""
    return list(subject.corpus.data.attributes)[:MOST]


def tried(subject: Subject, name: str) -> bool:
    """Whether an attribute is a column that the model is given, whose values can be tried on it."""
    if subject.corpus.data.is_image:
        return False
    try:
        return bool(column_of(subject.corpus.data, name).places)
    except BadInputError:
        return False


def _leaves(subject: Subject) -> list[nn.Module]:
    module = subject.target.module
    return [] if module is None else [one for one in module.modules() if not list(one.children())]
