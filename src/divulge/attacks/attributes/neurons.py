"""Reading an attribute off the neurons that know of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from divulge.attacks.attributes.base import AttributeGuesses
from divulge.attacks.attributes.blanked import normalized
from divulge.attacks.base import Attack
from divulge.errors import BadInputError
from divulge.releases import Representation


@dataclass(frozen=True)
class Neurons(Attack):
    """Averages the neurons that go with a value on the adversary's records, and ranks others by that average.

    Jayaraman and Evans 2022 (arXiv 2209.01292), the white-box attack. Every record is given to the network with the
    same value put in; the `count` neurons whose outputs correlate most with whether the adversary's records truly have
    it are brought to 0 to 1 on these records, turned around where the correlation is negative, and averaged. So for
    each value in turn. One logistic curve for each value, fitted on the adversary's records, makes probabilities of the
    averages, which is ours.

    Args:
        count: how many neurons are averaged; published 1, 10 and 100.
    """

    name: ClassVar[str] = "neurons"
    source: ClassVar[str] = "Jayaraman and Evans 2022, arXiv 2209.01292"

    count: int = 10

    def __post_init__(self) -> None:
        if self.count < 1:
            raise BadInputError(f"neurons: expected count >= 1, got {self.count}.")

    def run(
        self, known: Sequence[Representation], attribute: np.ndarray, release: Sequence[Representation]
    ) -> AttributeGuesses:
        """Guess the attribute.

        Args:
            known: the network's neurons on the adversary's records with each value put in; one entry where the
                network's inputs do not hold the attribute.
            attribute: their true values, int64 `(n,)`.
            release: likewise of the records to guess; as many entries.

        Raises:
            BadInputError: other neurons, another number of entries, or an attribute that never varies.
        """
        _require(known, attribute, release)
        values = max(int(attribute.max()) + 1, len(known))
        shares = np.bincount(attribute, minlength=values) / len(attribute)
        probabilities = np.zeros((len(release[0]), values))
        for value in np.flatnonzero(shares).tolist():
            place = value if len(known) > 1 else 0
            mine, theirs = self._averages(known[place].values, attribute == value, release[place].values)
            curve = _curve().fit(mine[:, None], attribute == value)
            probabilities[:, value] = curve.predict_proba(theirs[:, None])[:, 1]
        return AttributeGuesses(normalized(probabilities, shares))

    def _averages(self, known: np.ndarray, has: np.ndarray, release: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The averaged neurons of the adversary's records and of the others, each `(n,)`."""
        spread = known - known.mean(axis=0)
        deviation = np.sqrt((spread**2).mean(axis=0))
        alive = deviation > 1e-8
        with np.errstate(invalid="ignore", divide="ignore"):
            goes_with = np.where(alive, spread.T @ (has - has.mean()) / len(has) / deviation, 0)
        chosen = np.argsort(-np.abs(goes_with), kind="stable")[: self.count]
        low, high = known[:, chosen].min(axis=0), known[:, chosen].max(axis=0)
        sign = np.sign(goes_with[chosen])

        def average(outputs: np.ndarray) -> np.ndarray:
            scaled = (outputs[:, chosen] - low) / np.where(high > low, high - low, 1)
            return np.where(sign < 0, 1 - scaled, scaled).mean(axis=1).astype(np.float64)

        return average(known), average(release)


def _require(known: Sequence[Representation], attribute: np.ndarray, release: Sequence[Representation]) -> None:
    widths = {part.values.shape[1] for part in (*known, *release)}
    if not known or len(known) != len(release) or len(widths) != 1 or attribute.shape != (len(known[0]),):
        raise BadInputError(
            f"neurons: expected the same neurons of known records and of those to guess, once for each value, and a "
            f"value of each known record; got {len(known)} and {len(release)} entries, widths {sorted(widths)} and "
            f"attributes of shape {attribute.shape}."
        )
    if not np.issubdtype(attribute.dtype, np.integer) or len(np.unique(attribute)) < 2 or attribute.min() < 0:
        raise BadInputError(
            f"neurons: expected two values of the attribute or more among the known records, numbered from 0, got "
            f"{np.unique(attribute)[:5].tolist()}."
        )
    counts = [{len(part) for part in parts} for parts in (known, release)]
    if any(len(count) > 1 for count in counts) or (len(known) > 1 and attribute.max() >= len(known)):
        raise BadInputError(
            f"neurons: expected an entry for each value, each of the same records; got {len(known)} entries for values "
            f"up to {attribute.max()}, of {sorted(counts[0])} known records and {sorted(counts[1])} to guess."
        )


def _curve() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=1e4)
