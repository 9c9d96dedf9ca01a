"""De-censoring: a censored representation mapped back to what an uncensored network would have seen."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from divulge.attacks.attributes.base import AttributeGuesses
from divulge.attacks.attributes.overlearning import Overlearning, unfinished
from divulge.attacks.base import Attack
from divulge.errors import BadInputError
from divulge.releases import Representation

LEAST = 20
"""Records that a map is learned from: a tenth of them, two at least, tells when to stop."""


@dataclass(frozen=True)
class Decensoring(Attack):
    """Learns a map from a censored representation to that of the adversary's own network, and reads what it gives.

    Song and Shmatikov 2020 (arXiv 1905.11742, algorithm 1). The adversary has trained a network for the attribute on
    its own records, knows what both networks make of these, and fits the probe to the mapped representation.

    Args:
        hidden: widths of the map.
        probe: what reads the attribute.
        seed: of the map's first weights and of the tenth of the records that tells it when to stop.
    """

    name: ClassVar[str] = "decensoring"
    source: ClassVar[str] = "Song and Shmatikov 2020, arXiv 1905.11742"

    hidden: tuple[int, ...] = (256, 128)
    probe: Overlearning = field(default_factory=Overlearning)
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.hidden, default=1) < 1:
            raise BadInputError(f"decensoring: expected widths from 1, got {self.hidden}.")

    def run(
        self, known: Representation, clear: Representation, attribute: np.ndarray, release: Representation
    ) -> AttributeGuesses:
        """Guess the attribute of the released records.

        Args:
            known: the censored representation of the adversary's records.
            clear: that of its own network, of the same records.
            attribute: their values, int64 `(len(known),)` from 0.
            release: the censored representation of the records to guess.

        Raises:
            BadInputError: representations of different records, fewer than 20, or what `Overlearning` refuses.
        """
        from sklearn.neural_network import MLPRegressor
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        if len(known) != len(clear) or len(known) < LEAST:
            raise BadInputError(
                f"decensoring: expected both representations of the same records, {LEAST} or more, got "
                f"{len(known)} and {len(clear)}."
            )
        wanted = StandardScaler().fit_transform(clear.values)
        regressor = MLPRegressor(
            hidden_layer_sizes=self.hidden, early_stopping=True, max_iter=60, random_state=self.seed
        )
        with unfinished():
            mapped = make_pipeline(StandardScaler(), regressor).fit(known.values, wanted)

        def through(one: Representation) -> Representation:
            given = mapped.predict(one.values).reshape(len(one), -1)
            return Representation(given.astype(np.float32), one.layer)

        return self.probe.run(through(known), attribute, through(release))
