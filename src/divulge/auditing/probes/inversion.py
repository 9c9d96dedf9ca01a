"""Model inversion: what does the model take each class for?"""

import time
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from divulge.attacks.inversion import BlackBoxInversion, LatentInversion, MIFace
from divulge.auditing.facts import Card
from divulge.auditing.gradients.audit_steps import Carried
from divulge.auditing.inversion_grade import Drawn, Evidence
from divulge.auditing.inversion_steps import BLENDS, Asking, Looking, OnWeights, ask, dimensions, held_out, look
from divulge.auditing.inversion_telling import QUESTION, outcome
from divulge.auditing.probes.base import Outcome, Probe, Work
from divulge.auditing.subject import PRIVATE, Subject
from divulge.errors import BadInputError
from divulge.runs.engines import LocalEngine
from divulge.runs.graph import execute
from divulge.runs.step import Artifact, Step

QUERIES = {"quick": 500, "standard": 1000, "thorough": 5000}
"""Records that the model is asked about for each class, by the budget's name."""
CLASSES = {"quick": 10, "standard": 20, "thorough": 200}
"""Classes that are drawn, at most."""
PAIRS = 10
"""Mirrored pairs of steps of an estimate: few, as there are few queries."""
LEAST = 10 * (2 * PAIRS + 1)
"""Fewest queries of a class from which a search gets anywhere: ten estimates of a slope."""
TIMED = 64
"""Records that the time of an answer is measured on."""
SLOPE = 4
"""What a gradient step takes, in answers."""


@dataclass(frozen=True)
class Inversion(Probe):
    """What does the model show of each class? Drawn from its answers, or with its weights in hand, and then named."""

    name: ClassVar[str] = "inversion"
    release: ClassVar[str] = "posteriors"
    place: ClassVar[int] = 2

    def unable(self, subject: Subject) -> str | None:
        """Drawings are of pictures, and there must be other pictures of the classes to name them by."""
        data = subject.corpus.data
        if not subject.target.has_inputs:
            return "Classes were not drawn: only a table of answers was given, and without the model none can be asked."
        if not data.is_image:
            return (
                "Classes were not drawn: the records are no pictures, and whether a row is recognized has no measure."
            )
        known = known_classes(subject)
        if len(known) < 2:
            return (
                "Classes were not drawn: drawings are named by pictures that the model never saw, and the non-members "
                f"show {len(known)} of the classes that it was trained on. Give non-members of two classes or more."
            )
        if subject.spare is not None and subject.spare < 2 * LEAST + BLENDS:
            return (
                f"Classes were not drawn: that takes {LEAST} queries or more for each of two classes, and "
                f"{subject.spare:,} are left. Without a query budget, somebody else's model is asked at most twice as "
                "much as the records take. Set one, or a larger one (--query-budget)."
            )
        return None

    def work(self, subject: Subject) -> Work:
        """Asking, and with the weights in hand gradient steps as well."""
        classes, attack = chosen(subject), asking(subject)
        total = len(classes) * attack.queries
        steps = 2 * SLOPE * sum(one.steps * one.starts for one in looking(subject)) * len(classes)
        answers = total * (2 if subject.target.module else 1) + steps
        return Work(
            f"Drawing {len(classes)} of {subject.corpus.data.num_classes} classes by {total:,} queries"
            f"{' and with the weights' if subject.weights else ''}",
            1 + answers * _pace(subject),
        )

    def run(self, subject: Subject) -> Outcome:
        """Draw, draw again from an untrained copy, and have all drawings named."""
        target, data, classes = subject.target, {"data": subject.data}, chosen(subject)
        by_asking, others = asking(subject), looking(subject)
        settings = Asking(target.fingerprint, by_asking, classes, subject.seed, subject.trained_under, target.release)
        first = Step(ask, settings, data, label=f"{by_asking.name}, {len(classes)} classes")
        asked = execute([first], subject.store, engine=LocalEngine(1), progress=subject.progress)[first.key]
        # What answers labels alone is held against an untrained copy that does the same.
        by_asking = replace(by_asking, answers=asked.facts["answers"])
        attacks: dict[str, OnWeights | BlackBoxInversion] = {
            by_asking.name: by_asking,
            **{_called(one): one for one in others},
        }
        real, null = self._steps(subject, attacks, classes)
        steps = [*real.values(), *null.values()]
        done = execute(steps, subject.store, engine=subject.engine, progress=subject.progress) if steps else {}
        found = {by_asking.name: asked} | {name: done[step.key] for name, step in real.items()}
        drawn = [
            Drawn(name, attacks[name], artifact, _sound(done.get(null[name].key) if name in null else None))
            for name, artifact in found.items()
            if "refused" not in artifact.facts
        ]
        refused = {name: str(one.facts["refused"]) for name, one in found.items() if "refused" in one.facts}
        if not drawn:
            reason = f"Classes were not drawn: {' '.join(refused.values())}"
            return Outcome(Card(self.release, QUESTION, "", None, 1.0, {}, reason), None, "", "")
        public, photographs = held_out(subject.corpus, seed=subject.seed)
        return outcome(
            subject,
            Evidence(tuple(drawn), refused, classes, subject.corpus.part(PRIVATE[0]), public, photographs),
        )

    def _steps(
        self, subject: Subject, attacks: dict[str, OnWeights | BlackBoxInversion], classes: tuple[int, ...]
    ) -> tuple[dict[str, Step], dict[str, Step]]:
        """The attacks on the weights, and every attack on an untrained copy, where there is such a thing."""
        target, data = subject.target, {"data": subject.data}
        if target.module is None:
            return {}, {}
        try:
            maker = target.architecture()
        except BadInputError:
            maker = None
        real, null = {}, {}
        for name, one in attacks.items():
            model, known = Carried(target.module), subject.trained_under
            own = Looking(target.fingerprint, one, classes, subject.seed, known, False, model)
            if not isinstance(one, BlackBoxInversion):
                real[name] = Step(look, own, data, label=f"{name}, {len(classes)} classes")
            if maker is not None:
                blank = replace(own, untrained=True, model=maker)
                null[name] = Step(look, blank, data, label=f"{name} (control)")
        return real, null


def known_classes(subject: Subject) -> np.ndarray:
    """Classes that the model was trained on and that other pictures show."""
    _, photographs = held_out(subject.corpus, seed=subject.seed)
    members = subject.corpus.data.targets[subject.corpus.rows(PRIVATE[:1])]
    return np.intersect1d(members.numpy(), photographs.targets.numpy())


def chosen(subject: Subject) -> tuple[int, ...]:
    """The classes that are drawn, in their order."""
    known = known_classes(subject)
    most = CLASSES[subject.budget.name]
    if subject.spare is not None:
        most = min(most, (subject.spare - BLENDS) // LEAST)
    return tuple(np.sort(np.random.default_rng(subject.seed).permutation(known)[:most]).tolist())


def asking(subject: Subject) -> BlackBoxInversion:
    """The attack by queries."""
    public, _ = held_out(subject.corpus, seed=subject.seed)
    queries = QUERIES[subject.budget.name]
    if subject.spare is not None:
        queries = min(queries, (subject.spare - BLENDS) // len(chosen(subject)))
    return BlackBoxInversion(queries=queries, pairs=PAIRS, dimensions=dimensions(len(public)))


def looking(subject: Subject) -> list[OnWeights]:
    """The attacks on the weights, where others get to see those."""
    if not subject.weights:
        return []
    public, _ = held_out(subject.corpus, seed=subject.seed)
    few = dimensions(len(public))
    if few is None:
        return [MIFace()]
    return [MIFace(), MIFace(dimensions=few, lr=0.3), LatentInversion(prior="pca", dimensions=few)]


def _called(attack: OnWeights) -> str:
    among = isinstance(attack, MIFace) and attack.dimensions is not None
    return f"{attack.name}, among likely pictures" if among else attack.name


def _sound(artifact: Artifact | None) -> Artifact | None:
    return None if artifact is None or "refused" in artifact.facts else artifact


def _pace(subject: Subject) -> float:
    """Seconds of an answer about one record; of what answers elsewhere a guess, as it is not asked for this."""
    if subject.spare is not None:
        return 0.01
    records = subject.corpus.part(PRIVATE[1]).inputs[:TIMED]
    times = []
    for _ in range(2):  # what is made ready but once is ready by the second time
        started = time.perf_counter()
        with torch.no_grad():
            subject.target.release.answer(records)
        times.append(time.perf_counter() - started)
    return times[-1] / len(records)
