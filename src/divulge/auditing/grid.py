"""Defenses tried on the target, each against an adversary who does not know it and one who does."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from divulge.attacks import ATTACKS
from divulge.attacks.membership import MembershipAttack
from divulge.auditing.adversaries import adversaries
from divulge.auditing.attack import Scene, look
from divulge.auditing.facts import Block, Point, Scatter, Table
from divulge.auditing.shadowing import ANEW
from divulge.auditing.subject import PRIVATE, Subject
from divulge.defenses import DEFENSES, Defense
from divulge.metrics import accuracy, auc
from divulge.runs.step import Artifact

Models = Mapping[str, Artifact]
"""What `target` and `shadows...` answered."""


@dataclass(frozen=True)
class Case:
    """One adversary of one defense.

    Args:
        series: what to call the defense.
        adversary: `blind`, `adaptive`, or `none` where there is no defense.
        models: whom the adversary attacks, and with which shadow models.
        defense: which.
        baseline: the series it is compared with.
    """

    series: str
    adversary: str
    models: Models
    defense: Defense | None = None
    baseline: str = "none"


def free() -> tuple[Defense, ...]:
    """One of each defense that is tried without training anything: those that act on the response only."""
    return tuple(one for one in _every() if one.in_response and not one.in_training)


def cases(subject: Subject, answers: Models, retrained: Mapping[str, Models]) -> Iterator[Case]:
    """Every defense with each of its adversaries, after the target as it is."""
    shadows = {name: model for name, model in answers.items() if name != "target"}
    yield Case("none", "none", answers)
    if ANEW in retrained:
        yield Case(ANEW, "none", {**shadows, **retrained[ANEW]}, baseline=ANEW)
    for defense in subject.defenses:
        name, own = defense.label, retrained.get(defense.label, answers)
        baseline = ANEW if name in retrained else "none"
        yield Case(name, "blind", {**shadows, "target": own["target"]}, defense, baseline)
        yield Case(name, "adaptive", own, defense, baseline)


def defended(subject: Subject, answers: Models, truth: np.ndarray, *, retrained: Mapping[str, Models]) -> list[Block]:
    """The trade-off of every defense: accuracy against leakage.

    For each defense and adversary the strongest attack is shown, its interval widened for the choice (Bonferroni).

    Args:
        subject: whose defenses are tried.
        answers: what the target and its shadows answered.
        truth: bool `(N,)`, members first.
        retrained: what the models of `divulge.auditing.shadowing.retraining` answered.
    """
    points: list[Point] = []
    rows: list[list[str | float | int | None]] = []
    baselines: dict[str, str] = {}
    for case in cases(subject, answers, retrained):
        name = case.defense.name if case.defense else "none"
        respond = case.defense if case.defense and case.defense.in_response else None
        knowing = case.adversary != "blind"
        scene = Scene(PRIVATE, population=subject.population, respond=respond, adaptive=knowing)
        view = look(subject.corpus, scene, case.models)
        told = view.candidates.target
        assert told is not None
        right = (told.argmax(axis=1) == view.candidates.labels)[~truth]
        useful = accuracy(np.ones(len(right), dtype=bool), right)
        attacks = [ATTACKS[one]() for one in adversaries(name).attacks]
        able = [one for one in attacks if isinstance(one, MembershipAttack) and one.unable(view) is None]
        level = 1 - 0.05 / len(able)
        areas = {one.name: auc(one.run(view, seed=subject.seed).scores, truth, confidence=level) for one in able}
        best = max(areas, key=lambda one: areas[one].low)
        area = areas[best]
        points.append(
            Point(case.series, case.adversary, useful.value, useful.low, useful.high, area.value, area.low, area.high)
        )
        baselines[case.series] = case.baseline
        rows.append(
            [
                case.series,
                case.adversary,
                f"{100 * useful.value:.2f} %",
                f"{area.value:.3f} [{area.low:.3f}, {area.high:.3f}]",
                best,
                adversaries(name).adaptive if case.adversary == "adaptive" else "",
            ]
        )
    scatter = Scatter(
        title="Accuracy against leakage",
        x_label="accuracy on non-members",
        x_unit="%",
        y_label="AUC of the strongest attack",
        points=points,
        chosen=_recommended(points, baselines),
        note="Down and to the right is better. A defense whose adaptive point lies far above its blind one only fools "
        "the adversary who does not know it.",
    )
    table = Table(
        title="Each defense against each adversary",
        columns=[
            "defense",
            "adversary",
            "accuracy",
            "AUC (higher is worse)",
            "strongest attack",
            "what the adversary does",
        ],
        rows=rows,
        note=_note(subject),
    )
    return [scatter, table]


def _note(subject: Subject) -> str:
    """How to read the table, and what it leaves out."""
    told = []
    if subject.retrained:
        told.append(
            f"For {_listed(subject.retrained)} the architecture was trained anew on the members, by the recipe under "
            f"settings: compare with '{ANEW}', for the model as given may have been trained otherwise."
        )
    drawn = {one.name: one.randomness for one in subject.defenses if one.randomness != "none"}
    if drawn:
        told += [f"{name} draws {what}." for name, what in drawn.items()]
        told.append("An oracle, who knows what was drawn, was not tried.")
    else:
        told.append(
            "None of these defenses draws random numbers: an oracle would know no more than the adaptive adversary."
        )
    named = {one.name for one in subject.defenses}
    others = [one for one in _every() if one.in_training and one.name not in named]
    if others and subject.target.module is not None:
        told.append(
            f"Not tried, as they act in training: {_listed(others)}. Name them (--defenses {others[0].name}, or "
            f'defenses=["{others[0].name}"] in Python) and the model is trained anew under each.'
        )
    return " ".join(told)


def _every() -> list[Defense]:
    return [cls() for cls in DEFENSES.classes.values()]


def _listed(defenses: Sequence[Defense]) -> str:
    return ", ".join(one.label for one in defenses)


def _recommended(points: list[Point], baselines: Mapping[str, str]) -> str:
    """Whose worst adversary learns least, of those within a point of the best accuracy that lower the AUC of what they
    are compared with by a point; empty where none does.
    """
    series = {point.series for point in points}
    worst = {name: max(p.y for p in points if p.series == name) for name in series}
    useful = {name: min(p.x for p in points if p.series == name) for name in series}
    eligible = [
        name
        for name in series
        if useful[name] >= max(useful.values()) - 0.01 and worst[name] < worst[baselines[name]] - 0.01
    ]
    return min(eligible, key=lambda name: (worst[name], name), default="")
