"""From membership evidence to a card, sections and words."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from divulge.attacks.membership import MembershipAttack
from divulge.auditing import exposure, words
from divulge.auditing.facts import BANDS, Block, Card, Curve, Plot, Section, Table, Text
from divulge.auditing.grid import defended
from divulge.auditing.probes.base import Outcome
from divulge.auditing.promise import shown
from divulge.auditing.promise_telling import Told, told
from divulge.auditing.shadowing import QUICK
from divulge.auditing.subject import PRIVATE, Subject
from divulge.metrics import Estimate, Finding, auc, auc_difference, roc_curve, thinned, tpr_at_fpr, tpr_metric
from divulge.privacy.words import RATES
from divulge.runs.step import Artifact
from divulge.training import Privacy

OTHERS = 3
"""How many attacks besides the strongest are drawn."""


@dataclass(frozen=True)
class Tried:
    """One attack that ran: its scores, those of its control where one was possible, and what both came to."""

    attack: MembershipAttack
    scores: np.ndarray
    null: np.ndarray | None
    findings: Mapping[str, Finding]
    seconds: float


@dataclass(frozen=True)
class Evidence:
    """All that the membership probe gathered.

    Args:
        tried: attacks that ran.
        refused: why the others did not, by name.
        truth: bool `(N,)`, members first.
        answers: what `target` and `shadows...` answered.
        shadows: how many shadow models were trained.
        obstacle: why there are none, in words; empty where there are some.
        posing: whether an untrained copy stood in the target's place in the controls.
        outside: what can be guessed from the records without the model.
        retrained: what models trained anew under defenses answered, as `divulge.auditing.shadowing.retraining` names
            them.
    """

    tried: tuple[Tried, ...]
    refused: Mapping[str, str]
    truth: np.ndarray
    answers: Mapping[str, Artifact]
    shadows: int
    obstacle: str
    posing: bool
    outside: Finding | None
    retrained: Mapping[str, Mapping[str, Artifact]] = field(default_factory=dict)


@dataclass(frozen=True)
class Headline:
    """The strongest attack, with intervals widened for having been chosen out of several (Bonferroni).

    Args:
        best: the attack.
        rate: the false positive rate that was looked at.
        auc: its AUC.
        tpr: its true positive rate at `rate`, None where it does not surely exceed guessing and the control.
        control: the control's findings, by `AUC` and `TPR`.
        band: how bad it is.
        doubt: why it counts for nothing although it exceeds guessing: `kind`, the control exceeds guessing as well, so
            members and non-members differ in kind; `few`, there are too few records to tell it from its control.
    """

    best: Tried
    rate: float | None
    auc: Estimate
    tpr: Estimate | None
    control: dict[str, Finding]
    band: int
    doubt: words.Doubt


def outcome(subject: Subject, evidence: Evidence) -> Outcome:
    """Everything the report says about membership."""
    head = headline(evidence)
    candidates = subject.corpus.part(*PRIVATE)
    accuracy = _accuracies(evidence)
    finding = _finding(head, len(evidence.truth))
    control = _control_words(evidence)
    promise = _promise(subject, evidence, head)
    outside = int((~evidence.truth).sum())
    confidence = (
        f"95 % interval, widened for choosing the strongest of {len(evidence.tried)} attacks; "
        f"{int(evidence.truth.sum()):,} members, {outside:,} non-members, {evidence.shadows} shadow models. {control}"
    )
    if evidence.outside is not None and _differ(evidence):
        confidence += (
            " Careful: members and non-members can be told apart without the model (AUC "
            f"{evidence.outside.value:.2f}), so they differ in kind, and part of the finding may be that difference."
        )
    sentence = words.sentence(head.band, auc=head.auc, rate=head.rate, tpr=head.tpr, doubt=head.doubt)
    advice = words.advice(
        head.band,
        head.doubt,
        gap=accuracy[0] - accuracy[1],
        shadows=evidence.shadows,
        trainable=evidence.obstacle in ("", QUICK),
        budget=subject.budget.name,
        # Controls on shadow models carry the difference in kind as well: what exceeds them is the model's doing.
        alike=bool(evidence.shadows) or not _differ(evidence),
        private=promise is not None,
    )
    card = Card(
        release="posteriors",
        question="Who was in the training set?",
        attack=head.best.attack.name,
        finding=finding,
        worst=1.0,
        unit="" if finding.metric == "AUC" else "%",
        needed={
            "queries": f"{evidence.answers['target'].facts['queries']:,}",
            "shadow models": str(evidence.shadows),
            "attack": f"{head.best.seconds:.1f} s",
        },
        sentence=f"{promise.alarm} {sentence}" if promise and promise.alarm else sentence,
    )
    rate = head.rate or 0.1
    sections = [
        Section(
            "The picture",
            "How many members are caught at which share of false accusations?",
            _picture(evidence, head, promise),
        ),
        Section(
            "Who is exposed",
            "Which classes and which records does this concern?",
            exposure.blocks(
                candidates, head.best.scores, evidence.truth, rate=rate, pictures=subject.target.has_inputs
            ),
        ),
    ]
    if evidence.shadows:
        grid = defended(subject, evidence.answers, evidence.truth, retrained=evidence.retrained)
        sections.append(Section("Defenses", "What does each defense buy, against an adversary who knows it?", grid))
    if promise:
        sections.append(promise.section)
    return Outcome(
        card=card,
        band=len(BANDS) - 1 if promise and promise.alarm else head.band,
        confidence=confidence,
        advice=(promise.advice if promise else "") or advice,
        sections=sections,
        settings={
            "accuracy on members": f"{100 * accuracy[0]:.2f} %",
            "accuracy on non-members": f"{100 * accuracy[1]:.2f} %",
            "shadow models": str(evidence.shadows),
            "defenses tried": (", ".join(map(str, subject.defenses)) if evidence.shadows else "") or "none",
            "attacks that ran": ", ".join(one.attack.name for one in evidence.tried),
            **(promise.settings if promise else {}),
        },
        assumptions=[*_assumptions(subject, evidence), *(promise.assumptions if promise else [])],
        not_tested=_not_tested(evidence),
        references=sorted(
            {one.attack.source for one in evidence.tried if one.attack.source}
            | set(promise.references if promise else [])
        ),
        records=exposure.columns(candidates, head.best.scores, evidence.truth),
        promise=promise.line if promise else "",
    )


def _promise(subject: Subject, evidence: Evidence, head: Headline) -> Told | None:
    """What the ledger promises beside what the strongest attack shows; None without a ledger."""
    if subject.promise is None:
        return None
    best, truth = head.best, evidence.truth
    found = shown(
        subject.promise,
        best.attack.name,
        best.scores,
        best.null,
        truth,
        alike=head.doubt != "kind" and not _differ(evidence),
        attacks=len(evidence.tried),
        seed=subject.seed,
    )
    return told(
        subject.promise,
        found,
        roc=_curve(best.attack.name, best.scores, truth, role="main"),
        caught=[tpr_at_fpr(best.scores, truth, fpr=rate) for rate in RATES],
    )


def headline(evidence: Evidence) -> Headline:
    """The strongest attack by the lower end of its true positive rate, or of its AUC where no rate beats chance."""
    truth, level = evidence.truth, 1 - 0.05 / len(evidence.tried)
    outside = int((~truth).sum())
    rate = words.headline_rate(outside)
    guess = words.chance(rate, outside, confidence=level) if rate else 1.0
    judged = []
    for one in evidence.tried:
        area = auc(one.scores, truth, confidence=level)
        caught = tpr_at_fpr(one.scores, truth, fpr=rate, confidence=level) if rate else None
        judged.append((max(0.0, caught.low - guess) if caught else 0.0, area.low, area, caught, one))
    _, _, area, caught, best = max(judged, key=lambda entry: entry[:2])
    control = {}
    if null := best.findings["AUC"].control:
        control["AUC"] = null
    name = tpr_metric(rate) if rate else ""
    if name in best.findings and (null := best.findings[name].control):
        control["TPR"] = null
    null = control.get("TPR")
    by_rate = caught is not None and caught.low > max(guess, null.high if null else guess)
    lead = None if best.null is None else auc_difference(best.scores, best.null, truth, confidence=level)
    seen = by_rate or (area.low > 0.5 and (lead is None or lead.low > 0))
    found = caught if by_rate else None
    lift = found.value / rate if found and rate else 0.0
    doubt: words.Doubt = ""
    if not seen and (area.low > 0.5 or (caught is not None and caught.low > guess)):
        apart = best.null is not None and auc(best.null, truth, confidence=level).low > 0.5
        doubt = "kind" if apart or _differ(evidence) else "few"
    return Headline(best, rate, area, found, control, words.band(area, lift, seen=seen), doubt)


def _differ(evidence: Evidence) -> bool:
    """Whether members and non-members can be told apart without the model."""
    return evidence.outside is not None and evidence.outside.low > 0.55


def _finding(head: Headline, n: int) -> Finding:
    if head.tpr is not None and head.rate is not None:
        return Finding(tpr_metric(head.rate), *head.tpr, n=n, control=head.control.get("TPR"))
    return Finding("AUC", *head.auc, n=n, control=head.control.get("AUC"))


def _not_tested(evidence: Evidence) -> list[str]:
    told = [f"{name}: {reason}." for name, reason in evidence.refused.items()]
    if evidence.obstacle:
        told.insert(0, f"Attacks with shadow models, the strongest there are: {evidence.obstacle.rstrip('.')}.")
    return told


def _control_words(evidence: Evidence) -> str:
    if evidence.posing:
        return "The control is the same attack on an untrained copy of the model, which never saw a record."
    if evidence.shadows:
        return "The control is the same attack on shadow models, about records they were not trained on."
    return (
        "No control was possible: there is no model of this kind that never saw the records. Chance stands in for it."
    )


def _accuracies(evidence: Evidence) -> tuple[float, float]:
    target = evidence.answers["target"]
    chosen = len(evidence.truth)
    right = target.arrays["logits"][0][:chosen].argmax(axis=1) == np.asarray(target.arrays["labels"])[:chosen]
    return float(right[evidence.truth].mean()), float(right[~evidence.truth].mean())


def _assumptions(subject: Subject, evidence: Evidence) -> list[str]:
    told = [
        "The members given are training records of this model and the non-members are not, and both were drawn alike.",
        "The adversary has the records themselves with their labels and asks whether each was used.",
        *subject.target.notes,
    ]
    if evidence.outside is not None:
        area = evidence.outside
        told.append(
            f"Checked without the model: the records alone tell members from non-members with AUC {area.value:.3f} "
            f"[{area.low:.3f}, {area.high:.3f}]; 0.5 would mean that the two were drawn alike."
        )
    if evidence.shadows:
        told.append(
            "Shadow models were trained on random halves of members and non-members together, by the recipe under "
            "settings. An adversary with a better guess at the recipe may do better."
        )
        if subject.promise and not isinstance(subject.trained_under, Privacy):
            told.append(
                "They were trained without differential privacy, though the ledger says that the model was. Name the "
                "defense (--defense dp-sgd) for an adversary who trains as its owner did."
            )
    return told


def _picture(evidence: Evidence, head: Headline, promise: Told | None) -> list[Block]:
    truth = evidence.truth
    ranked = sorted(evidence.tried, key=lambda one: -one.findings["AUC"].value)
    others = [one for one in ranked if one is not head.best][:OTHERS]
    curves = [_curve(one.attack.name, one.scores, truth, role="other") for one in others]
    if head.best.null is not None:
        curves.append(_curve("control", head.best.null, truth, role="control"))
    grid = np.geomspace(1 / max(1, int((~truth).sum())), 1, 50).tolist()
    curves.append(Curve("guessing", grid, grid, role="chance"))
    curves.append(_curve(head.best.attack.name, head.best.scores, truth, role="main"))
    note = "Higher is worse. Both axes are logarithmic: what counts is the left edge, where hardly anybody is accused "
    note += "wrongly."
    if promise:
        curves.append(promise.limit)
        note += f" No attack on a training that keeps its promise enters the region {promise.limit.label}, but by "
        note += "chance, at the left, where a handful of outsiders decide."
    plot = Plot(
        title="Members caught against outsiders accused",
        x_label="false positive rate (share of non-members called members)",
        y_label="true positive rate (share of members caught)",
        curves=curves,
        log=True,
        x_unit="%",
        y_unit="%",
        note=note,
    )
    return [plot, _table(evidence), Text(_control_words(evidence))]


def _curve(label: str, scores: np.ndarray, truth: np.ndarray, *, role: str) -> Curve:
    band = thinned(roc_curve(scores, truth))
    wide = role in ("main", "control")
    return Curve(
        label,
        band.fpr.tolist(),
        band.tpr.tolist(),
        low=band.low.tolist() if wide else [],
        high=band.high.tolist() if wide else [],
        role=role,  # type: ignore[arg-type]
    )


def _table(evidence: Evidence) -> Table:
    metrics = list(evidence.tried[0].findings)
    rows: list[list[str | float | int | None]] = []
    for one in sorted(evidence.tried, key=lambda one: -one.findings["AUC"].value):
        null = one.findings["AUC"].control
        cells = [f"{f.value:.3f} [{f.low:.3f}, {f.high:.3f}]" for f in (one.findings[name] for name in metrics)]
        rows.append(
            [one.attack.name, *cells, f"{null.value:.3f} [{null.low:.3f}, {null.high:.3f}]" if null else "none"]
        )
    return Table(
        title="Every attack that ran",
        columns=["attack", *metrics, "control AUC"],
        rows=rows,
        note="Values with 95 % intervals. Higher is worse; 0.5 is chance for AUC and balanced accuracy.",
    )
