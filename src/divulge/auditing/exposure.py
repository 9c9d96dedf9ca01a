"""Who is exposed: risk by class, by attribute and by record."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from divulge.auditing.facts import Bars, Block, Gallery, Histogram, Tile
from divulge.auditing.pictures import png, row_text
from divulge.data import Dataset
from divulge.metrics import clopper_pearson

SHOWN = 12
GROUPS = 30


def threshold(scores: np.ndarray, members: np.ndarray, *, rate: float) -> float:
    """The lowest score that flags at most a share `rate` of the non-members; records are flagged above it."""
    outside = np.sort(scores[~members])[::-1]
    return float(outside[min(int(rate * len(outside)), len(outside) - 1)])


def by_group(
    title: str, names: list[str], groups: np.ndarray, scores: np.ndarray, members: np.ndarray, *, rate: float
) -> Bars:
    """Share of each group's members that are flagged where a share `rate` of all non-members is."""
    flagged = scores > threshold(scores, members, rate=rate)
    counts = np.array([int((members & (groups == g)).sum()) for g in range(len(names))])
    hits = np.array([int((flagged & members & (groups == g)).sum()) for g in range(len(names))])
    kept = [g for g in np.argsort(-hits / np.maximum(counts, 1), kind="stable") if counts[g]][:GROUPS]
    low, high = clopper_pearson(hits[kept], counts[kept])
    left_out = int((counts > 0).sum()) - len(kept)
    note = "Higher is worse. The line is what guessing would catch."
    return Bars(
        title=title,
        unit="%",
        measure=f"members flagged where {100 * rate:g} % of outsiders are",
        labels=[names[g] for g in kept],
        values=(hits[kept] / counts[kept]).tolist(),
        low=low.tolist(),
        high=high.tolist(),
        counts=counts[kept].tolist(),
        reference=rate,
        note=f"{note} The {left_out} least exposed groups are left out." if left_out else note,
    )


def grouped(column: np.ndarray, names: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Names of the groups of an attribute's values, and the group of each record; many values fall into five ranges of
    about as many records each.

    Example:
        >>> grouped(np.array([1, 0, 1]), ("no", "yes"))[0], grouped(np.arange(100), ())[0][:2]
        (['no', 'yes'], ['0 to 19', '20 to 39'])
    """
    if names:
        return list(names), column.astype(np.int64)
    values = np.unique(column)
    if len(values) <= GROUPS:
        return [f"{value:g}" for value in values], np.searchsorted(values, column)
    cuts = np.unique(np.quantile(column, [0.2, 0.4, 0.6, 0.8]))
    groups = np.searchsorted(cuts, column, side="right")
    kept = np.unique(groups)
    told = [f"{column[groups == group].min():.4g} to {column[groups == group].max():.4g}" for group in kept]
    return told, np.searchsorted(kept, groups)


def histogram(scores: np.ndarray, members: np.ndarray, *, bins: int = 40) -> Histogram:
    """Scores of members and non-members in shared bins; the lowest and highest half per cent go into the last bins."""
    low, high = np.quantile(scores, [0.005, 0.995])
    least = 1e-6 * max(1.0, abs(low), abs(high))  # narrower bins would have edges that are one number
    edges = np.linspace(low, max(high, low + least), bins + 1)
    inside, outside = (np.histogram(scores[mask].clip(edges[0], edges[-1]), edges)[0] for mask in (members, ~members))
    return Histogram(
        title="Risk of every record",
        x_label="membership score (higher: more likely called a member)",
        edges=edges.tolist(),
        groups={"members": inside.tolist(), "non-members": outside.tolist()},
        note="Where the two overlap, nobody can tell. The members to the right of all non-members stand exposed.",
    )


def rarity(scores: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Share of non-members that score at least as high as each record: the false accusations it takes to flag it."""
    outside = np.sort(scores[~members])
    return (len(outside) - np.searchsorted(outside, scores, side="left")) / len(outside)


def gallery(data: Dataset, scores: np.ndarray, members: np.ndarray, *, pictures: bool) -> Gallery:
    """The most exposed members, as pictures or rows."""
    order = [row for row in np.argsort(-scores, kind="stable") if members[row]][:SHOWN]
    rare = rarity(scores, members)
    count = int((~members).sum())
    tiles = []
    for row in order:
        name = data.classes[int(data.targets[row])]
        above = round(rare[row] * count)
        caption = f"{data.id(row)}, {name}: {above:,} of {count:,} outsiders score as high"
        if data.is_image:
            tiles.append(Tile(caption, images=[png(data.inputs[row])]))
        else:
            tiles.append(Tile(caption, text=row_text(data, row) if pictures else ""))
    return Gallery(
        title="The most exposed training records",
        rows=["training record"],
        tiles=tiles,
        note="The members whose score is highest: records of the training set that the attack points at first.",
    )


def blocks(data: Dataset, scores: np.ndarray, members: np.ndarray, *, rate: float, pictures: bool) -> list[Block]:
    """All of it, for the candidates `data` in the order of `scores`."""
    told: list[Block] = []
    if data.num_classes > 1:
        told.append(by_group("By class", list(data.classes), data.targets.numpy(), scores, members, rate=rate))
    for name, column in data.attributes.items():
        names, groups = grouped(column.numpy(), data.attribute_classes.get(name, ()))
        if len(names) > 1:
            told.append(by_group(f"By {name}", names, groups, scores, members, rate=rate))
    return [*told, gallery(data, scores, members, pictures=pictures), histogram(scores, members)]


def columns(data: Dataset, scores: np.ndarray, members: np.ndarray) -> Mapping[str, list[Any]]:
    """Per-record risk for export."""
    return {
        "record": [data.id(row) for row in range(len(data))],
        "member": members.tolist(),
        "class": [data.classes[int(target)] for target in data.targets],
        "score": scores.tolist(),
        "non-members scoring as high": rarity(scores, members).tolist(),
    }
