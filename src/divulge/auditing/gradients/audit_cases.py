"""What an audit of gradients goes through: each adversary of each defense, and what each of its attacks left."""

from dataclasses import dataclass, field

import numpy as np

from divulge.auditing.gradients.attempt import Adversary
from divulge.defenses import Defense
from divulge.runs.step import Artifact

CLEAR = 1e-4
"""A batch that leaves less of the shared gradient unexplained counts as found, and nobody searches further."""


@dataclass(frozen=True)
class Case:
    """One adversary of one defense, on clients with batches of one size.

    Args:
        batch: records that each client has.
        clients: how many of the clients are attacked.
        defense: which; the base class for none.
        adversary: what the attacker knows of it.
    """

    batch: int
    clients: int
    defense: Defense = field(default_factory=Defense)
    adversary: Adversary = "blind"


@dataclass(frozen=True, eq=False)
class Tried:
    """One attack on the clients of one case.

    Args:
        artifacts: what its steps left, in the order of the clients.
        seconds: that the attack took.
    """

    artifacts: tuple[Artifact, ...]
    seconds: float

    @property
    def refused(self) -> str:
        """Why it could not be run, in words; empty if it could."""
        return next((str(one.facts["refused"]) for one in self.artifacts if "refused" in one.facts), "")

    def array(self, name: str) -> np.ndarray:
        """An array of all clients."""
        return np.concatenate([np.asarray(one.arrays[name]) for one in self.artifacts])

    def has(self, name: str) -> bool:
        """Whether the attack gave that array."""
        return all(name in one.arrays for one in self.artifacts)

    @property
    def clients(self) -> int:
        """How many clients it was run on."""
        return sum(len(one.arrays["found"]) for one in self.artifacts)

    def claims(self) -> np.ndarray:
        """Whose records it surely has, by what an attacker can see, bool `(clients,)`.

        Those whose replayed gradient is the shared one; and batches of which it gives some records and leaves out the
        rest, as only attacks do that tell a record from a mixture.
        """
        found = self.array("found")
        return (self.array("unexplained") < CLEAR) | (found.any(axis=1) & ~found.all(axis=1))
