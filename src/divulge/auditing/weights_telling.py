"""From what came back out of a network's weights to a card, a section and words."""

import torch
from torch import Tensor

from divulge.attacks.reconstruction import KKT
from divulge.auditing.facts import Block, Card, Gallery, Section, Table, Text, Tile
from divulge.auditing.pictures import png
from divulge.auditing.probes.base import Outcome
from divulge.auditing.subject import Subject
from divulge.auditing.weights import Rebuilt
from divulge.auditing.weights_step import unpacked
from divulge.auditing.words import share
from divulge.data import Dataset
from divulge.runs.step import Artifact

QUESTION = "Do training records come back out of the weights?"
COLUMNS = 12
"""At most so many columns are shown of each row of a table."""
ROWS = 3
"""At most so many rows of a table are shown."""


def refused(subject: Subject, reason: str) -> Outcome:
    """A card that says why nothing was searched, and what would change that."""
    return Outcome(
        card=Card("weights", QUESTION, "", None, 1.0, {}, reason),
        band=None,
        confidence="",
        advice="",
        not_tested=["Training records in the weights: see the card on the weights for why they were not searched."],
    )


def outcome(subject: Subject, artifact: Artifact) -> Outcome:
    """Everything the report says about the weights."""
    found, data = unpacked(artifact), subject.corpus.data
    band = 3 if surely(found) else 0
    finding, control = found.found, found.found.control
    assert control is not None
    confidence = (
        f"95 % interval {100 * finding.low:.1f} to {100 * finding.high:.1f} of 100; {finding.n:,} training records. A "
        f"record counts as come back where {found.judged}. Control: of {control.n:,} records that the model never saw, "
        f"{round(control.value * control.n):,} would count as well, by the same rule turned around."
    )
    advice = _advice(subject, found, band)
    card = Card(
        release="weights",
        question=QUESTION,
        attack=KKT.name,
        finding=finding,
        worst=1.0,
        unit="%",
        needed={
            "access": "the weights, once",
            "known": "how many records each class had",
            "time": f"about {float(artifact.facts['seconds']):,.0f} s",
        },
        sentence=sentence(found),
    )
    return Outcome(
        card=card,
        band=band,
        confidence=confidence,
        advice=advice,
        sections=[
            Section("What the weights give back", "Which training records can be seen in them?", _blocks(found, data))
        ],
        settings={f"weights: {name}": text for name, text in found.settings.items()}
        | {"mean loss on members": f"{found.loss:.3g} nats"},
        assumptions=[
            "Who searches the weights knows the architecture, the range of the entries and how many training records "
            "each class had, and that the members given are all of them.",
            *found.caveats,
        ],
        not_tested=["Longer searches in the weights: from a larger budget more may come back."],
        references=[KKT.source],
    )


def surely(found: Rebuilt) -> bool:
    """Whether more of the members came back than of the non-members, beyond doubt."""
    control = found.found.control
    return control is not None and found.found.low > control.high


def sentence(found: Rebuilt) -> str:
    """The finding for a reader who does not know what weights are."""
    real, control = found.found, found.found.control
    assert control is not None
    back, by_chance = round(real.value * real.n), round(control.value * control.n)
    if surely(found):
        return (
            f"Whoever holds the weights can rebuild training records without ever seeing one: {back:,} of {real.n:,} "
            f"came back well enough to be told from all others. Of {control.n:,} records that were not in the training "
            f"{by_chance:,} would pass for rebuilt."
        )
    if back > by_chance:
        return (
            f"What came out of the weights is like {back:,} of {real.n:,} training records, and like {by_chance:,} of "
            f"{control.n:,} that were not in the training: too small a difference to be sure that anything came back."
        )
    return (
        f"No training record surely came back out of the weights: what did is as near to records that were not in the "
        f"training ({by_chance:,} of {control.n:,}) as to those that were ({back:,} of {real.n:,}, "
        f"{share(real.value)}). That is no proof of safety: a longer search may find some."
    )


def _advice(subject: Subject, found: Rebuilt, band: int) -> str:
    if band == 0:
        longer = "" if subject.budget.name == "thorough" else " with the budget thorough, which searches longer,"
        return (
            f"Before publishing the weights, repeat the audit{longer} or train with differential privacy (dp-sgd), "
            "whose ledger bounds what any search can rebuild."
        )
    return (
        "Do not publish these weights. Train with differential privacy (dp-sgd) and keep the ledger, which bounds what "
        "any search can rebuild; stopping at a larger training loss and training on more records make it harder, "
        "without a promise. Then repeat this audit."
    )


def _blocks(found: Rebuilt, data: Dataset) -> list[Block]:
    told: list[Block] = []
    if data.is_image:
        told += [
            _sheet(
                "Training pictures and what came back" if surely(found) else "Training pictures and what is nearest",
                ["training picture", "out of the weights"],
                found.originals,
                found.back,
                [f"SSIM {value:.2f}" for value in found.likeness.tolist()],
                "The most alike, best first, contrast stretched: likeness alone is no find, see the control.",
            ),
            _sheet(
                "Control: outsiders and what comes nearest to them",
                ["outsider", "nearest thing that came back"],
                found.strangers,
                found.strangers_back,
                ["" for _ in found.strangers],
                "Pictures that the model never saw, held against the same search. What looks alike here does so by "
                "chance.",
            ),
        ]
    else:
        told += [_row(found, place, data) for place in range(min(ROWS, len(found.originals)))]
    return [*told, Text(f"A record counts as come back where {found.judged}."), *map(Text, found.caveats)]


def _sheet(title: str, rows: list[str], above: Tensor, below: Tensor, captions: list[str], note: str) -> Gallery:
    tiles = [Tile(caption, [png(one), png(other)]) for one, other, caption in zip(above, below, captions, strict=True)]
    return Gallery(title, rows, tiles, note)


def _row(found: Rebuilt, place: int, data: Dataset) -> Table:
    """A training row beside what came back of it, the columns that differ most first."""
    true, back = found.originals[place], found.back[place]
    names = data.features or tuple(f"column {number + 1}" for number in range(len(true)))
    order = torch.argsort((true - back).abs(), descending=True)[:COLUMNS].tolist()
    return Table(
        title=f"Training row that came back, number {place + 1}",
        columns=["column", "training row", "out of the weights"],
        rows=[[names[column], float(true[column]), float(back[column])] for column in order],
        note=f"Correlation {float(found.likeness[place]):.2f} over all columns; shown are those that differ most.",
    )
