"""Defenses tried on the target, each against an adversary who does not know it and one who does."""

from collections.abc import Mapping

import numpy as np

from divulge.attacks import ATTACKS
from divulge.attacks.membership import MembershipAttack
from divulge.auditing.adversaries import adversaries
from divulge.auditing.attack import Scene, look
from divulge.auditing.facts import Block, Point, Scatter, Table
from divulge.auditing.subject import PRIVATE, Subject
from divulge.defenses import DEFENSES, Defense
from divulge.metrics import accuracy, auc
from divulge.runs.step import Artifact


def defended(subject: Subject, answers: Mapping[str, Artifact], truth: np.ndarray) -> list[Block]:
    """The trade-off of every defense at the response door, which needs no training: accuracy against leakage.

    For each defense and adversary the strongest attack is shown, its interval widened for the choice (Bonferroni).
    """
    points: list[Point] = []
    rows: list[list[str | float | int | None]] = []
    for defense in (None, *(cls() for cls in DEFENSES.classes.values() if cls.respond is not Defense.respond)):
        name = defense.name if defense else "none"
        for adversary in ("blind", "adaptive") if defense else ("adaptive",):
            scene = Scene(PRIVATE, population=subject.population, respond=defense, adaptive=adversary == "adaptive")
            view = look(subject.corpus, scene, answers)
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
            label = adversary if defense else "none"
            points.append(Point(name, label, useful.value, useful.low, useful.high, area.value, area.low, area.high))
            knows = adversaries(name).adaptive if defense and adversary == "adaptive" else ""
            rows.append(
                [
                    name,
                    label,
                    f"{100 * useful.value:.2f} %",
                    f"{area.value:.3f} [{area.low:.3f}, {area.high:.3f}]",
                    best,
                    knows,
                ]
            )
    scatter = Scatter(
        title="Accuracy against leakage",
        x_label="accuracy on non-members",
        x_unit="%",
        y_label="AUC of the strongest attack",
        points=points,
        chosen=_recommended(points),
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
        note="None of these defenses draws random numbers: an oracle would know no more than the adaptive adversary.",
    )
    return [scatter, table]


def _recommended(points: list[Point]) -> str:
    """Whose worst adversary learns least, of those within a point of the best accuracy; empty where none of them lowers
    the AUC of no defense by a point.
    """
    series = {point.series for point in points}
    worst = {name: max(p.y for p in points if p.series == name) for name in series}
    useful = {name: min(p.x for p in points if p.series == name) for name in series}
    eligible = [name for name in series if useful[name] >= max(useful.values()) - 0.01]
    best = min(eligible, key=lambda name: (worst[name], name))
    return best if worst[best] < worst["none"] - 0.01 else ""
