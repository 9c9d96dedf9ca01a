"""From a promise and what was shown of it to words and blocks of the report."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from divulge.auditing.canaries.mechanism import LedgerGuesses
from divulge.auditing.facts import Curve, Plot, Section, Table, Text
from divulge.auditing.promise import CONFIDENCE, Promise, Shown, down, short
from divulge.metrics import Estimate
from divulge.privacy.bounds import BOUNDS
from divulge.privacy.words import at_most, in_words, stops, up

ACCOUNTING = "Koskela et al. 2020, arXiv 1906.03049; Doroshenko et al. 2022, arXiv 2207.04380"
GRID = np.unique(np.concatenate([np.geomspace(1e-6, 1, 150), np.linspace(0, 1, 101)]))
"""False positive rates at which the limit is drawn, for either kind of axes."""

CHECK = (
    "Check the training. Is there noise on every step's sum, its standard deviation the noise multiplier times the "
    "clipping norm? Is each record's gradient clipped over all layers together? Are batches drawn at the ledger's "
    "rate, no record twice in one, and is every step counted? Is this the ledger of these very weights? Until that is "
    "found, treat the model as trained without privacy."
)
SECRET = "Train again with noise of a secret seed (noise_seed none), and audit the model that comes of it."
GAP = (
    "The promise is made against somebody who knows every record but one and sees every noisy sum of the training; the "
    "measurement asked the finished model about records. So a gap between the two is no sign of a loose promise. "
    "Canaries planted before a training (divulge.auditing.canaries.audit) come closer."
)


@dataclass(frozen=True)
class Told:
    """What a report says of a promise.

    Args:
        line: upper and lower bound side by side.
        alarm: that the promise does not hold; empty where nothing speaks against it.
        advice: the one thing to do next; empty where membership decides.
        section: of the report.
        limit: the largest true positive rates, for the ROC plot.
        settings: label to text.
        assumptions: what the bounds take for granted.
        references: the sources of the methods.
    """

    line: str
    alarm: str
    advice: str
    section: Section
    limit: Curve
    settings: dict[str, str]
    assumptions: list[str]
    references: list[str]


def told(promise: Promise, found: Shown, *, roc: Curve, caught: Sequence[Estimate | None]) -> Told:
    """Put a promise, and what one attack showed of it, into words and blocks.

    Args:
        promise: the ledger's.
        found: by the strongest attack.
        roc: its curve.
        caught: its true positive rate at each of `divulge.privacy.words.RATES`, None where too few non-members are
            known.
    """
    limit = Curve(f"ruled out by {promise.name}", GRID.tolist(), promise.loss.most(GRID).tolist(), role="bound")
    alarm, advice = "", SECRET if promise.ledger.fixed_noise_seed else ""
    if found.breaks(promise):
        alarm, advice = _alarm(promise, found), CHECK
    return Told(
        line=line(promise, found),
        alarm=alarm,
        advice=advice,
        section=Section(
            "What epsilon promises",
            "What can nobody do to the people in the data, and does what was measured agree?",
            [
                Text(" ".join(filter(None, [alarm, line(promise, found)]))),
                Text(("If it held: " if alarm else "") + in_words(replace(promise.loss, caveats=()))),
                _side_by_side(promise, found),
                _plot(limit, roc),
                _limits(promise, caught),
                Text(GAP),
            ],
        ),
        limit=limit,
        settings=promise.settings(),
        assumptions=_assumptions(promise, found),
        references=[
            ACCOUNTING,
            LedgerGuesses.source,
            *(BOUNDS[name].source for name in found.bounds if name in BOUNDS.classes),
        ],
    )


def line(promise: Promise, found: Shown) -> str:
    """Upper and lower bound side by side, in one or two sentences, and what else the ledger's reader must know."""
    best = found.strongest
    upper = f"Epsilon is at most {up(promise.spent.epsilon, 3):g} at delta {short(promise.spent.delta)} by the ledger"
    lower = (
        f", and at least {down(best.epsilon):g} by the attack {found.attack} (bound {best.name}, "
        f"{100 * CONFIDENCE:g} % confidence; so many records could show {down(best.ceiling):g} at most)."
        if found.alike
        else ". No lower bound can be measured, for these members and non-members can be told apart without the model."
    )
    return " ".join([upper + lower, *promise.ledger.caveats])


def _alarm(promise: Promise, found: Shown) -> str:
    return (
        f"The promise does not hold: the privacy ledger says that epsilon is at most {up(promise.spent.epsilon, 3):g}, "
        f"but an attack on this model shows that it is at least {down(found.strongest.epsilon):g}."
    )


def _side_by_side(promise: Promise, found: Shown) -> Table:
    upper = [one for one in (promise.spent, promise.check) if one is not None]
    rows: list[list[str | float | int | None]] = [
        [f"accountant {one.accountant}", f"at most {up(one.epsilon, 3):g}", "", "", "yes"] for one in upper
    ]
    for name, bound in sorted(found.bounds.items(), key=lambda item: (item[0] not in found.proofs, -item[1].epsilon)):
        control = found.control.get(name)
        counts = name in found.proofs and found.alike
        rows.append(
            [
                f"bound {name}",
                f"at least {down(bound.epsilon):g}",
                "none" if control is None else f"at least {down(control.epsilon):g}",
                f"{down(bound.ceiling):g}" if math.isfinite(bound.ceiling) else "anything",
                "yes" if counts else "no",
            ]
        )
    why = (
        "What does not count assumes what one training does not grant: that the scores of its records are independent, "
        "or that its mechanism is Gaussian."
        if found.alike
        else "No lower bound counts, for members and non-members can be told apart without the model."
    )
    return Table(
        title="Epsilon, promised and measured",
        columns=["by", "epsilon", "control", "could have shown", "counts"],
        rows=rows,
        note=f"At delta {short(promise.spent.delta)}. The lower bounds are by the strongest attack, {found.attack}, "
        f"and all right together with {100 * CONFIDENCE:g} % confidence, whichever that is. {why}",
    )


def _plot(limit: Curve, roc: Curve) -> Plot:
    return Plot(
        title="The largest chance to catch a member, or to tell a record",
        x_label="without the model: outsiders accused, or records guessed",
        y_label="with the model: members caught, or records told",
        curves=[limit, Curve("guessing", [0.0, 1.0], [0.0, 1.0], role="chance"), replace(roc, low=[], high=[])],
        x_unit="%",
        y_unit="%",
        note="Higher is worse. The edge of the shaded region is the best that any adversary can do under the promise, "
        "for both: who guesses a record right with the chance on the lower axis before seeing the model does so "
        "afterwards with at most that on the left one. The other curve is what the strongest attack on membership did.",
    )


def _limits(promise: Promise, caught: Sequence[Estimate | None]) -> Table:
    limits = stops(promise.loss)
    rates = [
        None if one is None else f"{100 * one.value:.2g} % [{100 * one.low:.2g}, {100 * one.high:.2g}]"
        for one in caught
    ]
    measured = [*(rate or "too few non-members" for rate in rates), *["not tried"] * (len(limits) - len(rates))]
    return Table(
        title=f"What {promise.name} stops",
        columns=["what an adversary gets", "without the model", "at most", "measured"],
        rows=[
            [stop.what, at_most(stop.guess), at_most(stop.most), text]
            for stop, text in zip(limits, measured, strict=True)
        ],
        note="Higher is worse. Measured is the strongest attack on membership, with 95 % intervals.",
    )


def _assumptions(promise: Promise, found: Shown) -> list[str]:
    lines = [
        "The ledger is that of these very weights, and whoever wrote it told the truth: it is not checked, it is held "
        "against what the attacks show.",
        "For the lower bound of epsilon, the members and non-members are canaries from one pool. "
        + " ".join(dict.fromkeys(text for bound in found.proofs.values() for text in bound.assumptions)),
    ]
    if promise.ledger.adjacency == "replace-one":
        lines.append(
            "The ledger's epsilon is for one record exchanged for another; the lower bounds are for one record more or "
            "less, whose epsilon is smaller."
        )
    if promise.ledger.records > promise.members:
        lines.append(
            f"The ledger tells of {promise.ledger.records:,} records, of which {promise.members:,} were given as "
            "members: the others are taken to be the same whoever was picked."
        )
    return lines
