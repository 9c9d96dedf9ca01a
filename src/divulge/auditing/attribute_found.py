"""What an attack on one attribute came to, whatever it was guessed from."""

from dataclasses import dataclass
from typing import Any

from divulge.auditing.facts import Block
from divulge.metrics import Estimate, Finding


@dataclass(frozen=True, eq=False)
class Found:
    """What one attribute came to.

    Args:
        name: of the attribute.
        release: what it was guessed from.
        attack: the strongest.
        finding: how often it is right, its control what is right without the model.
        gained: how much more often, with its interval; None where the two intervals are held against each other.
        sentence: in plain words.
        blocks: of the report.
        records: guesses for export.
        references: the sources of the attacks.
        needed: what the adversary needed.
    """

    name: str
    release: str
    attack: str
    finding: Finding
    gained: Estimate | None
    sentence: str
    blocks: list[Block]
    records: dict[str, list[Any]]
    references: list[str]
    needed: dict[str, str]

    @property
    def band(self) -> int:
        """How bad it is, an index into `divulge.auditing.facts.BANDS`.

        Nothing counts unless it surely exceeds what can be guessed without the model: `weak` by less than 10 of 100
        records, `moderate` by less than 25, `strong` by more.
        """
        control = self.finding.control
        assert control is not None
        surely = self.finding.low > control.high if self.gained is None else self.gained.low > 0
        more = self.finding.value - control.value
        if not surely or more <= 0:
            return 0
        return 3 if more >= 0.25 else 2 if more >= 0.1 else 1
