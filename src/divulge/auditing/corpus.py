"""The records of a run and which of them play which part, kept in the run's store."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from divulge.data import Dataset
from divulge.errors import BadInputError, StoreError
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store


@dataclass(frozen=True, eq=False)
class Corpus:
    """A dataset and named, disjoint lists of its rows, such as `members` and `nonmembers`.

    Args:
        data: all records.
        parts: row numbers of each part.
    """

    data: Dataset
    parts: Mapping[str, np.ndarray]

    def rows(self, names: Sequence[str]) -> np.ndarray:
        """Row numbers of several parts, one after another.

        Raises:
            BadInputError: no such part.
        """
        for name in names:
            if name not in self.parts:
                raise BadInputError(f"expected a part out of {', '.join(self.parts)}, got {name!r}.")
        return np.concatenate([self.parts[name] for name in names])

    def part(self, *names: str) -> Dataset:
        """The records of one or several parts."""
        return self.data[self.rows(names)]


def keep(corpus: Corpus, store: Store) -> Step:
    """Write a corpus into a store, unless it is there, and return the step that stands for it in a run's graph."""
    data = corpus.data
    step = Step(_kept, {"data": data.fingerprint(), "parts": _digests(corpus.parts)}, label=f"data {data.name}".strip())
    if not store.has(step.key):
        arrays: dict[str, Any] = {"inputs": _compact(data.inputs), "targets": data.targets}
        arrays |= {f"attribute/{name}": column for name, column in data.attributes.items()}
        arrays |= {f"part/{name}": rows.astype(np.int64) for name, rows in corpus.parts.items()}
        facts = {
            "name": data.name,
            "classes": list(data.classes),
            "ids": list(data.ids),
            "attribute_classes": {name: list(values) for name, values in data.attribute_classes.items()},
            "features": list(data.features),
        }
        store.write(step, Artifact(arrays, facts), 0.0)
    return step


def opened(artifact: Artifact, parts: Sequence[str] = (), *, inputs: bool = True) -> Corpus:
    """The parts of the corpus that `keep` wrote, equal to the bit, their rows numbered anew.

    Args:
        artifact: what `keep`'s step left, or `divulge.auditing.features.featurize`.
        parts: the parts wanted; all if empty.
        inputs: whether to load the records themselves; left out they are empty, which is all that most attacks need.
    """
    arrays, facts = artifact.arrays, artifact.facts
    wanted = parts or [name.removeprefix("part/") for name in arrays if name.startswith("part/")]
    own = {name: np.asarray(arrays[f"part/{name}"]) for name in dict.fromkeys(wanted)}
    rows = np.concatenate(list(own.values()))
    records = torch.zeros(len(rows), 0)
    if inputs:
        records = spread(np.asarray(arrays["inputs"])[rows])
    names = [name.removeprefix("attribute/") for name in arrays if name.startswith("attribute/")]
    data = Dataset(
        records,
        torch.from_numpy(np.asarray(arrays["targets"])[rows]),
        attributes={name: torch.from_numpy(np.asarray(arrays[f"attribute/{name}"])[rows]) for name in names},
        classes=tuple(facts["classes"]),
        name=facts["name"],
        ids=tuple(facts["ids"][row] for row in rows) if facts["ids"] else (),
        attribute_classes={name: tuple(values) for name, values in facts["attribute_classes"].items()},
        features=tuple(facts["features"]) if inputs else (),
    )
    ends = np.cumsum([len(part) for part in own.values()])
    return Corpus(
        data, {name: np.arange(end - len(part), end) for (name, part), end in zip(own.items(), ends, strict=True)}
    )


def spread(kept: np.ndarray) -> Tensor:
    """Records as float32, from the form they are kept in: pixels as bytes, features as float16, anything else as is."""
    records = torch.from_numpy(kept)
    return records.float() / 255 if records.dtype == torch.uint8 else records.float()


def _kept(settings: Mapping[str, Any], inputs: Mapping[str, Artifact], context: Any) -> Artifact:
    raise StoreError(
        "the records of this run are no longer in its folder; start the same command again to bring them back."
    )


def _digests(parts: Mapping[str, np.ndarray]) -> dict[str, str]:
    return {name: hashlib.sha256(rows.astype(np.int64).tobytes()).hexdigest()[:20] for name, rows in parts.items()}


def _compact(inputs: Tensor) -> Tensor:
    """Pixels as bytes where that loses nothing, a quarter of the space."""
    if inputs.ndim == 4:
        pixels = (inputs * 255).round().to(torch.uint8)
        if torch.equal(pixels.float() / 255, inputs):
            return pixels
    return inputs
