"""An attribute that was read off layers, or off answers, in words and blocks."""

import numpy as np

from divulge.attacks.attributes import Overlearning
from divulge.auditing.attribute_found import Found
from divulge.auditing.attribute_steps import exposure
from divulge.auditing.facts import Bars, Table, Text
from divulge.auditing.representations import (
    ACCURACY,
    ANSWER,
    BALANCED,
    INPUT,
    LABEL,
    MAJORITY,
    Exposure,
    Guessed,
)
from divulge.auditing.words import share
from divulge.metrics import Estimate, Finding, bootstrap, clopper_pearson
from divulge.runs.step import Artifact

ANYWAY = {MAJORITY: "the most frequent value", LABEL: "the class alone", INPUT: "the record itself"}
"""What stands behind a guess without the model, by the control's name."""


def of_layers(name: str, artifact: Artifact, *, confidence: float) -> Found:
    """An attribute that was read off layers, or off answers."""
    found = exposure(artifact)
    each = 1 - (1 - confidence) / len(found.layers)
    gains = {one.source: _gain(found, one, confidence=each) for one in found.layers}
    best = max(found.layers, key=lambda one: gains[one.source].low)
    if gains[best.source].low <= 0:
        best = found.strongest
    right = best.values == found.truth
    control = _right(f"{name} guessed right", _without(found, best).values == found.truth, confidence=0.95)
    finding = _right(f"{name} guessed right", right, confidence=each, control=control)
    answer = best.source == ANSWER
    return Found(
        name=name,
        release="posteriors" if answer else "weights",
        attack=f"{Overlearning.name} ({best.probe})",
        finding=finding,
        gained=gains[best.source],
        sentence=_sentence(found, best, learned=gains[best.source].low > 0),
        blocks=[_bars(found), _layers(found), *(Text(note[:1].upper() + note[1:] + ".") for note in found.notes)],
        records={
            "record": list(artifact.facts["ids"]),
            f"{name} as guessed": [found.names[value] for value in best.values.tolist()],
            f"{name} guessed right": right.tolist(),
        },
        references=[Overlearning.source],
        needed={
            "seen of a record": "the model's answer" if answer else f"what layer {best.source} makes of it",
            "records with known attribute": f"{artifact.facts['known']:,}",
        },
    )


def _without(found: Exposure, layer: Guessed) -> Guessed:
    """The best guess that takes no training of the model: anyway, or from the same layer of an untrained copy."""
    blank = [one for one in found.blank if one.source == layer.source]
    return max([found.anyway, *blank], key=_accuracy)


def _gain(found: Exposure, layer: Guessed, *, confidence: float) -> Estimate:
    """How many more of the records are guessed right from a layer than without the model's training, paired."""
    ours, theirs = ((one.values == found.truth).astype(float) for one in (layer, _without(found, layer)))
    return bootstrap(_difference, ours, theirs, seed=0, confidence=confidence)


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(ours.mean() - theirs.mean())


def _right(metric: str, right: np.ndarray, *, confidence: float, control: Finding | None = None) -> Finding:
    low, high = clopper_pearson(right.sum(), len(right), confidence=confidence)
    return Finding(metric, float(right.mean()), float(low), float(high), n=len(right), control=control)


def _accuracy(one: Guessed) -> float:
    return one.findings[ACCURACY].value


def _sentence(found: Exposure, best: Guessed, *, learned: bool) -> str:
    """The finding for a reader who does not know what a layer is."""
    where = (
        "From the model's answer about a record"
        if best.source == ANSWER
        else f"From what layer {best.source} of the model makes of a record"
    )
    anyway = found.anyway
    told = (
        f"{where}, {found.attribute} is guessed right for {share(_accuracy(best))} training records. Without the model "
        f"{share(_accuracy(anyway))} could be guessed anyway, from {ANYWAY[anyway.source]}"
    )
    blank = next((one for one in found.blank if one.source == best.source), None)
    if blank is not None:
        told += f"; from the same layer of an untrained copy {share(_accuracy(blank))}"
    itself = next((one for one in found.controls if one.source == INPUT), None)
    if itself is not None:
        told += f"; and who sees the record itself guesses {share(_accuracy(itself))}"
    if learned:
        return f"{told}."
    if blank is not None and min(best.findings[ACCURACY].low, _accuracy(blank)) > _accuracy(anyway):
        return (
            f"{told}. So the layer passes on what is in the record, and training added nothing to that: hand out what "
            "it makes of a record only where the record may be seen."
        )
    return f"{told}: no sure difference."


def _bars(found: Exposure) -> Bars:
    """How often each layer gives the attribute away, from the line of what is guessed anyway."""
    shown = [one.findings[ACCURACY] for one in found.layers]
    return Bars(
        title=f"{found.attribute} read off each layer",
        unit="%",
        measure="records guessed right",
        labels=[one.source for one in found.layers],
        values=[one.value for one in shown],
        low=[one.low for one in shown],
        high=[one.high for one in shown],
        counts=[one.n for one in shown],
        reference=_accuracy(found.anyway),
        note="Higher is worse. The line is what can be guessed without the model and without the record.",
    )


def _layers(found: Exposure) -> Table:
    blank = {one.source: one for one in found.blank}
    rows: list[list[str | float | int | None]] = []
    for one in found.layers:
        other = blank.get(one.source)
        rows.append([one.source, one.probe, *_cells(one), "" if other is None else f"{100 * _accuracy(other):.0f} %"])
    rows += [[f"without the model: {ANYWAY[one.source]}", one.probe, *_cells(one), ""] for one in found.controls]
    return Table(
        title=f"{found.attribute}, layer by layer and without the model",
        columns=["guessed from", "probe", "right", "balanced", "untrained"],
        rows=rows,
        note=f"Right: share of {len(found.truth):,} training records, with its interval. Balanced: the mean over "
        f"{', '.join(found.names[:8])}. Untrained: right from the same layer with its first weights. Higher is worse. "
        "The probe of each layer was chosen on the adversary's own records.",
    )


def _cells(one: Guessed) -> list[str]:
    return [
        f"{100 * f.value:.0f} % [{100 * f.low:.0f}, {100 * f.high:.0f}]"
        for f in (one.findings[ACCURACY], one.findings[BALANCED])
    ]
