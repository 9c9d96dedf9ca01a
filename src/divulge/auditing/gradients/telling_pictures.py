"""Originals beside what was rebuilt of them, from the best to the worst."""

import numpy as np
from torch import Tensor

from divulge.auditing.facts import Block, Gallery, Histogram, Table, Tile
from divulge.auditing.gradients.audit import Exchange
from divulge.auditing.gradients.audit_steps import others_of, victims_of
from divulge.auditing.gradients.audit_strongest import Rebuilt
from divulge.auditing.gradients.scoring import MOST
from divulge.auditing.pictures import blank, png

SHOWN = 10
"""At most so many records are shown of each batch size."""
ROWS = 12
"""At most so many columns are shown of each row of a table."""


def pictures(exchange: Exchange, rebuilt: Rebuilt) -> list[Block]:
    """The sheet of one case: images, or rows of a table side by side."""
    order = ranking(rebuilt)
    return [sheet(exchange, rebuilt, order)] if exchange.records.is_image else rows(exchange, rebuilt, order)


def ranking(rebuilt: Rebuilt) -> np.ndarray:
    """The records of a case `(clients * batch,)` from the best rebuilt to the worst."""
    return np.lexsort((rebuilt.scores["mse"], ~rebuilt.scores["exact"]))


def spread(count: int, most: int) -> list[int]:
    """Places out of `count` from first to last, evenly spaced.

    Example:
        >>> spread(4, 10), spread(9, 3)
        ([0, 1, 2, 3], [0, 4, 8])
    """
    if count <= most:
        return list(range(count))
    return sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})


def sheet(exchange: Exchange, rebuilt: Rebuilt, order: np.ndarray) -> Gallery:
    """Originals above reconstructions above other records of their classes."""
    batch = rebuilt.case.batch
    truth, others = exchange.corpus.part(victims_of(batch)), exchange.corpus.part(others_of(batch))
    tiles = []
    for place in spread(len(order), SHOWN):
        row = int(order[place])
        tiles.append(
            Tile(
                _caption(rebuilt, row, truth.classes[int(truth.targets[row])]),
                [png(truth.inputs[row]), _rebuilt(rebuilt, row), png(others.inputs[row])],
                heading=_heading(place, len(order)),
            )
        )
    return Gallery(
        title=_title(batch),
        rows=["original", "rebuilt from the gradient", "another of its class (control)"],
        tiles=tiles,
        note=f"From the best to the worst of {len(order)}"
        + (", evenly spaced." if len(order) > SHOWN else ".")
        + " dB: how near the two are, higher is worse for whoever it is a picture of; SSIM 1 is the same picture.",
    )


def rows(exchange: Exchange, rebuilt: Rebuilt, order: np.ndarray) -> list[Block]:
    """The best, the median and the worst row beside what was rebuilt of it."""
    batch, data = rebuilt.case.batch, exchange.records
    truth, others = exchange.corpus.part(victims_of(batch)), exchange.corpus.part(others_of(batch))
    names = data.features or tuple(f"column {number + 1}" for number in range(data.shape[0]))
    flat = rebuilt.records.flatten(0, 1)
    blocks: list[Block] = []
    for place in spread(len(order), 3):
        row = int(order[place])
        sides = [exchange.own_units(one[row]) for one in (truth.inputs, flat, others.inputs)]
        shown = _telling_columns(truth.inputs)
        hidden = len(names) - len(shown)
        blocks.append(
            Table(
                title=f"{_title(batch)}: {_heading(place, len(order)).lower()}",
                columns=["column", "original", "rebuilt", "another of its class"],
                rows=[[names[column], *(_value(side, column) for side in sides)] for column in shown],
                note=_caption(rebuilt, row, truth.classes[int(truth.targets[row])])
                + (f"; {hidden} more columns are left out." if hidden else "."),
            )
        )
    return blocks


def closeness(rebuilt: Rebuilt) -> Histogram:
    """How near the reconstructions are to the true records, and to others of their classes."""
    near, far = rebuilt.scores["psnr"], rebuilt.control["psnr"]
    top = min(MOST, max(40.0, float(np.ceil(max(near.max(), far.max()) / 10) * 10)))
    edges = np.linspace(0, top, 31)
    counts = [np.histogram(values.clip(0, top), edges)[0].tolist() for values in (near, far)]
    return Histogram(
        title=f"How near what was rebuilt is: {_title(rebuilt.case.batch).lower()}",
        x_label="peak signal-to-noise ratio (higher: nearer)",
        x_unit="dB",
        edges=edges.tolist(),
        groups={"to the true record": counts[0], "to another of its class (control)": counts[1]},
        note="Where the two overlap, what was rebuilt is no more like the record than like its class. From about 50 dB "
        "on, nobody sees a difference.",
    )


def _rebuilt(rebuilt: Rebuilt, row: int) -> str:
    """What was rebuilt of a record, as a picture; an empty one where nothing was."""
    picture = rebuilt.records.flatten(0, 1)[row]
    return png(picture) if rebuilt.found.reshape(-1)[row] else blank(picture.shape[1], picture.shape[2])


def _telling_columns(inputs: Tensor) -> list[int]:
    """The columns that differ most between records, in their order."""
    most = inputs.std(dim=0, correction=0).argsort(descending=True, stable=True)[:ROWS]
    return sorted(most.tolist())


def _value(record: Tensor, column: int) -> str:
    return f"{float(record[column]):.4g}"


def _title(batch: int) -> str:
    return "From the gradient of one record" if batch == 1 else f"From the gradient of a batch of {batch}"


def _heading(place: int, count: int) -> str:
    if place == 0:
        return "Best"
    if place == count - 1:
        return "Worst"
    return "Median" if place == round((count - 1) / 2) else f"{place + 1} of {count}"


def _caption(rebuilt: Rebuilt, row: int, name: str) -> str:
    """The scores of a record, in the fewest words."""
    scores = rebuilt.scores
    if not rebuilt.found.reshape(-1)[row]:
        return f"{name}: not rebuilt"
    told = [f"{scores['psnr'][row]:.0f} dB" if scores["psnr"][row] < MOST else f"{MOST:.0f} dB or more"]
    if scores["exact"][row]:
        told.insert(0, "exact")
    if "ssim" in scores:
        told.append(f"SSIM {scores['ssim'][row]:.2f}")
    if "columns" in scores:
        told.append(f"{100 * scores['columns'][row]:.0f} % of columns right")
    return f"{name}: {', '.join(told)}"


def side_by_side(exchange: Exchange, cases: dict[str, list[tuple[str, Rebuilt]]], plain: Rebuilt) -> Gallery:
    """One record as each adversary of each defense rebuilds it.

    Args:
        exchange: the audit.
        cases: adversaries and what they rebuilt, by the defense's label.
        plain: what was rebuilt without a defense, of the same clients at the least.
    """
    fewest = min(len(one) for own in cases.values() for _, one in own)
    order = [int(row) for row in ranking(plain) if row < fewest * plain.case.batch]
    row = order[(len(order) - 1) // 2]
    truth = exchange.corpus.part(victims_of(plain.case.batch))
    original = png(truth.inputs[row])

    def tile(label: str, several: list[tuple[str, Rebuilt]]) -> Tile:
        images = [original, *(_rebuilt(one, row) for _, one in several)]
        told = [f"{who} {one.scores['psnr'][row]:.0f} dB" for who, one in several]
        return Tile(", ".join(told), images, heading=label)

    most = max(len(own) for own in cases.values())
    return Gallery(
        title="One record under each defense",
        rows=["original", *[f"rebuilt by the {who} adversary" for who in ("blind", "adaptive", "oracle")[:most]]],
        tiles=[tile("no defense", [("", plain)]), *(tile(label, own) for label, own in cases.items())],
        note="The record that came out in the middle without a defense.",
    )
