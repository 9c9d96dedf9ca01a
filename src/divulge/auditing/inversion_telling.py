"""From drawings of classes to a card, a section and words."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from divulge.attacks.inversion import BlackBoxInversion
from divulge.auditing.facts import Block, Card, Gallery, Section, Table, Text, Tile
from divulge.auditing.inversion_grade import Drawn, Evidence, Grade, grade, means, recognized
from divulge.auditing.pictures import blank, png
from divulge.auditing.probes.base import Outcome
from divulge.auditing.subject import Subject
from divulge.metrics import Finding
from divulge.metrics.images import ssim
from divulge.metrics.nearest import correlation

QUESTION = "What does the model show of each class?"
SHOWN = 10
"""Classes of the gallery, at most."""


def outcome(subject: Subject, evidence: Evidence) -> Outcome:
    """Everything the report says about drawings."""
    level = 1 - 0.05 / len(evidence.drawn)
    grades = {one.name: grade(one, evidence, confidence=level, seed=subject.seed) for one in evidence.drawn}
    best = max(evidence.drawn, key=lambda one: (grades[one.name].named.low, grades[one.name].named.value))
    head = grades[best.name]
    known = len(evidence.photographs.targets.unique())
    widened = f", widened for choosing the best of {len(evidence.drawn)} attacks" if len(evidence.drawn) > 1 else ""
    confidence = (
        f"95 % interval {100 * head.named.low:.0f} to {100 * head.named.high:.0f} of 100{widened}; "
        f"{len(evidence.classes)} classes, each drawing named out of {known} by the nearest of "
        f"{len(evidence.photographs):,} pictures that the model never saw. {_control_words(best)}"
    )
    advice = _advice(head)
    card = Card(
        release="posteriors" if isinstance(best.attack, BlackBoxInversion) else "weights",
        question=QUESTION,
        attack=best.name,
        finding=head.named,
        worst=1.0,
        unit="%",
        needed={
            "queries": f"{best.queries:,}" if best.queries else "none, the weights",
            "other pictures": f"{len(evidence.public):,}",
            "time": f"{float(best.artifact.facts['seconds']):.1f} s",
        },
        sentence=sentence(head, best, evidence),
    )
    return Outcome(
        card=card,
        band=head.band,
        confidence=confidence,
        advice=advice,
        sections=[
            Section(
                "What the model shows of each class",
                "Would somebody who knows the classes recognize what is drawn from the model?",
                [_sheet(best, head, evidence), _table(evidence, grades, head.anyway), *_reading(best, evidence)],
            )
        ],
        settings={"inversion: " + one.name: str(one.attack) for one in evidence.drawn},
        assumptions=[
            "Who draws the classes knows the shape of a picture and has other pictures of the kind, without labels: "
            f"{len(evidence.public):,} of the non-members. Other non-members name the drawings.",
        ],
        not_tested=[
            *(f"{name}: {reason.rstrip('.')}." for name, reason in evidence.refused.items()),
            "Drawings with a generative model of the kind of picture, which come out sharper.",
        ],
        references=sorted({one.attack.source for one in evidence.drawn}),
    )


def sentence(head: Grade, best: Drawn, evidence: Evidence) -> str:
    """The finding for a reader who does not know what an inversion is."""
    n, named, control = head.named.n, round(head.named.value * head.named.n), head.named.control
    assert control is not None
    asked = isinstance(best.attack, BlackBoxInversion)
    who = f"may ask the model {best.queries:,} times" if asked else "holds the weights"
    by_chance = f"{max(1, round(control.value * n)):,}" if control.value > 0 else "none"
    if head.band == 0 and head.named.value > control.value:
        return (
            f"Of drawings of what the model takes its classes for {named:,} of {n:,} were recognized, where an "
            f"untrained copy or a guess comes to {by_chance}: with so few classes that may be luck."
        )
    if head.band == 0:
        return (
            f"Drawings of what the model takes its classes for were named no more often than they would be anyway: "
            f"{named:,} of {n:,}, where an untrained copy or a guess comes to {by_chance}."
        )
    told = (
        f"Whoever {who} can draw what it takes each class for, and {named:,} of {n:,} drawings are recognized by "
        f"pictures that it never saw; an untrained copy or a guess comes to {by_chance}."
    )
    if (anyway := head.anyway) is not None:
        few = len(evidence.public)
        told += (
            f" Who has a few other pictures of a class can draw it without the model: the mean of those ({few:,} in "
            f"all) is recognized for {round(anyway.value * anyway.n):,} of {anyway.n:,}."
        )
    if head.records:
        nearer = round(head.training.value * n)
        told += (
            f" {nearer:,} drawings are nearer to training pictures than to others of their class, where half would be "
            "chance: they show records, and not only classes."
        )
    return told


def _advice(head: Grade) -> str:
    if head.band == 0:
        return "Nothing found speaks against giving out this model on account of what it shows of its classes."
    return (
        "Where a class is a person or another secret, answer few queries, with labels alone where that will do, and "
        "train with differential privacy (dp-sgd) for a bound; then repeat the audit. Where classes are public things, "
        "such as digits, there is nothing to hide here."
    )


def _control_words(best: Drawn) -> str:
    if best.blanks is None:
        return "Control: a guess, as there is no untrained copy of this model to draw from."
    return "Control: the same attack on an untrained copy of the model, or a guess where that does better."


def _sheet(best: Drawn, head: Grade, evidence: Evidence) -> Gallery:
    """Drawings between what they are of and what they could have been anyway, from the best to the worst."""
    data = evidence.members
    targets = torch.from_numpy(np.asarray(best.artifact.arrays["targets"]))
    middle, _ = means(data, tuple(targets.tolist()))
    alike = correlation(best.pictures, middle).diagonal().numpy()
    order = np.lexsort((-alike, np.array(head.ranks)))
    places = np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int))
    tiles = []
    for place in places:
        row = int(order[place])
        own = data.inputs[data.targets == targets[row]]
        nearest = own[int(correlation(best.pictures[row : row + 1], own)[0].argmax())]
        nothing = blank(*data.shape[1:]) if best.blanks is None else png(best.blanks[row])
        rank = head.ranks[row]
        said = "recognized" if rank == 0 else f"{rank} other {'class' if rank == 1 else 'classes'} nearer"
        name = data.classes[int(targets[row])]
        tiles.append(Tile(f"{name}: {said}", [png(best.pictures[row]), png(middle[row]), png(nearest), nothing]))
    return Gallery(
        title=f"Drawn by {best.name}",
        rows=["drawn", "mean of its training pictures", "nearest training picture", "drawn from an untrained copy"],
        tiles=tiles,
        note=f"From the best to the worst of {len(order)} classes"
        + (", evenly spaced." if len(places) < len(order) else "."),
    )


def _table(evidence: Evidence, grades: Mapping[str, Grade], anyway: Finding | None) -> Table:
    middle, targets = means(evidence.members, evidence.classes)
    rows: list[list[str | float | int | None]] = []
    for one in evidence.drawn:
        found = grades[one.name]
        control = found.named.control
        assert control is not None
        rows.append(
            [
                one.name,
                _percent(found.named),
                f"{100 * found.five:.0f} %",
                f"{100 * control.value:.0f} %",
                f"{100 * found.training.value:.0f} %",
                f"{float(ssim(one.pictures, middle, window=_window(middle)).mean()):.2f}",
                f"{one.queries:,}",
            ]
        )
    drawn = recognized(middle, targets, evidence)
    assert drawn is not None
    rows.append(["the mean training picture itself", _percent(drawn), "", "", "", "1.00", ""])
    if anyway is not None:
        rows.append(["without the model: mean of outsiders", _percent(anyway), "", "", "", "", "0"])
    return Table(
        title="Every attack, and what could be drawn anyway",
        columns=["drawn by", "first", "top 5", "control", "nearer", "SSIM", "queries"],
        rows=rows,
        note="First: share of the classes whose drawing is nearest to another picture of the right class, with its "
        "interval; top 5: is among the five nearest classes. Control: first, from an untrained copy, or by a guess. "
        "Nearer: drawings nearer to a training picture than to as many others of the class; half would be chance. "
        "SSIM: with the mean training picture. Higher is worse.",
    )


def _window(pictures: Tensor) -> int:
    """Side of the window of SSIM: 7 pixels, or what fits."""
    side = min(7, *pictures.shape[2:])
    return side - 1 + side % 2


def _percent(found: Finding) -> str:
    return f"{100 * found.value:.0f} % [{100 * found.low:.0f}, {100 * found.high:.0f}]"


def _reading(best: Drawn, evidence: Evidence) -> list[Block]:
    told = []
    if best.artifact.facts.get("answers") == "labels":
        told.append(
            "The model answers with labels alone, so each search went along the border of its class; a class whose "
            "label no random picture was given could not be drawn."
        )
    left = evidence.members.num_classes - len(evidence.classes)
    if left:
        told.append(
            f"{left} of {evidence.members.num_classes} classes were not drawn: no training record or no other picture "
            "shows them, or the budget ends before."
        )
    return [Text(text) for text in told]
