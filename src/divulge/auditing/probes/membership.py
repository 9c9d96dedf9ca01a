"""Membership inference: who was in the training set?"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from divulge.attacks import ATTACKS
from divulge.attacks.membership import MembershipAttack
from divulge.auditing.ask import Refitting, refit, target_answers
from divulge.auditing.attack import Attempt, Scene, attack, look
from divulge.auditing.cost import estimate
from divulge.auditing.outsider import without_model
from divulge.auditing.probes.base import Outcome, Probe, Work
from divulge.auditing.shadowing import retraining, shadow_maker, training
from divulge.auditing.subject import PRIVATE, Subject
from divulge.auditing.telling import Evidence, Tried, outcome
from divulge.auditing.train import Design, shadow_steps, untrained
from divulge.metrics import score_membership
from divulge.runs.engines import LocalEngine
from divulge.runs.graph import execute
from divulge.runs.step import Artifact, Step

OVERHEAD = 10.0
"""Seconds that asking and the attacks take, about."""


@dataclass(frozen=True)
class Membership(Probe):
    """Was this record in the training set? Asked of the posteriors, by every attack that the means allow."""

    name: ClassVar[str] = "membership"
    release: ClassVar[str] = "posteriors"

    def unable(self, subject: Subject) -> str | None:
        """Always able: posteriors on members and non-members are what an audit starts from."""
        return None

    def work(self, subject: Subject) -> Work:
        """Asking, and training shadow models."""
        cost = estimate(subject)
        asked = sum(len(rows) for rows in subject.corpus.parts.values())
        again = f", and {cost.retrained} models to try {', '.join(one.label for one in subject.retrained)}"
        return Work(
            f"Asking {subject.target.name} about {asked:,} records and training {cost.shadows or 'no'} shadow models"
            f"{again if cost.retrained else ''}",
            cost.seconds + OVERHEAD,
        )

    def run(self, subject: Subject) -> Outcome:
        """Ask the target, train the shadows the budget allows, run every attack with its control, score."""
        target, shadows, posing, obstacle = self._steps(subject)
        here = LocalEngine(1)
        asked = execute([target], subject.store, engine=here, progress=subject.progress)[target.key]
        engine = subject.engine if shadows else here
        anew = retraining(subject) if shadows else {}
        steps = [step for models in ({**shadows, **posing}, *anew.values()) for step in models.values()]
        done = execute(steps, subject.store, engine=engine, progress=subject.progress)
        answers = {"target": asked, **{name: done[step.key] for name, step in shadows.items()}}
        retrained = {name: {who: done[step.key] for who, step in models.items()} for name, models in anew.items()}
        truth = np.repeat([True, False], [len(subject.corpus.parts[part]) for part in PRIVATE])

        scene = Scene(PRIVATE, population=subject.population, inputs=subject.target.has_inputs)
        able, refused = self._runnable(subject, scene, answers)
        real = {one.name: _step(one, scene, subject, {"target": target, **shadows}) for one in able}
        null_scene = replace(scene, control=True)
        null = {one.name: _step(one, null_scene, subject, shadows or posing) for one in able if posing or shadows}
        steps = [*real.values(), *null.values()]
        scored = execute(steps, subject.store, engine=engine, progress=subject.progress)
        seconds = {record.key: record.seconds for record in subject.store.steps()}

        tried = []
        for one in able:
            scores = np.asarray(scored[real[one.name].key].arrays["scores"])
            nothing = np.asarray(scored[null[one.name].key].arrays["scores"]) if null else None
            findings = score_membership(
                scores,
                truth,
                control=None if nothing is None else (nothing, truth),
                adversary="adaptive" if subject.trained_under else None,
                seed=subject.seed,
            )
            tried.append(Tried(one, scores, nothing, findings, seconds[real[one.name].key]))
        count = sum(len(answers[name].arrays["members"]) for name in shadows)
        outside = None
        if subject.target.has_inputs:
            members, nonmembers = (subject.corpus.part(part) for part in PRIVATE)
            outside = without_model(members, nonmembers, seed=subject.seed)
        return outcome(
            subject,
            Evidence(
                tuple(tried),
                refused,
                truth,
                answers,
                count,
                obstacle,
                posing=bool(posing),
                outside=outside,
                retrained=retrained,
            ),
        )

    def _steps(self, subject: Subject) -> tuple[Step, dict[str, Step], dict[str, Step], str]:
        """The target asked, its shadows, without shadows what can stand in its place in a control, and why there are
        no shadows.
        """
        target, data = subject.target, {"data": subject.data}
        asked = target_answers(subject)
        maker, obstacle = shadow_maker(subject)
        count, seed = subject.budget.shadows, subject.seed + 1
        if target.refit is not None and not obstacle:
            shadows = {}
            for number in range(count):
                design = Design(number, 1, subject.seed)
                settings = Refitting(target.fingerprint, PRIVATE, subject.answered, design, seed, target.refit)
                shadows[f"shadows-{number:03d}"] = Step(refit, settings, data, label=f"shadow {number + 1} of {count}")
            return asked, shadows, {}, ""
        if maker is None:
            return asked, {}, {}, obstacle
        like = training(subject, maker, subject.trained_under)
        if obstacle:
            posing = {"shadows-untrained": Step(untrained, like, data, label="ask an untrained copy")}
            return asked, {}, posing, obstacle
        return asked, shadow_steps(like, subject.data, like=subject.corpus.data, count=count), {}, ""

    def _runnable(
        self, subject: Subject, scene: Scene, answers: Mapping[str, Artifact]
    ) -> tuple[list[MembershipAttack], dict[str, str]]:
        """Every registered attack that can run on what there is, and why the others cannot."""
        view = look(subject.corpus, scene, answers)
        able: list[MembershipAttack] = []
        refused: dict[str, str] = {}
        for name, cls in ATTACKS.kind_of(MembershipAttack).items():
            one = cls()
            reason = one.unable(view)
            if reason is None and one.trains and not subject.budget.shadows:
                reason = "trains a model of its own, which the quick budget leaves out"
            if reason is None:
                able.append(one)
            else:
                refused[name] = reason
        return able, refused


def _step(one: MembershipAttack, scene: Scene, subject: Subject, models: Mapping[str, Step]) -> Step:
    label = f"{one.name}{' (control)' if scene.control else ''}"
    return Step(attack, Attempt(one, scene, subject.seed), {"data": subject.data, **models}, label=label, cost=0.1)
