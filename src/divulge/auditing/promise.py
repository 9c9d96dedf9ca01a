"""What private training promises, and how much of it the strongest attack shows to be spent."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from divulge.auditing.canaries.audit import every_bound, proofs
from divulge.defenses import Defense
from divulge.defenses.dp_sgd import DpSgd
from divulge.errors import BadInputError
from divulge.privacy.accounting import Spent, epsilon
from divulge.privacy.bounds import LowerBound
from divulge.privacy.ledger import Ledger
from divulge.privacy.loss import PrivacyLoss, privacy_loss
from divulge.privacy.words import at_most, up

CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Promise:
    """What a ledger promises of the model that was trained under it.

    Args:
        ledger: what the training spent.
        spent: its epsilon, an upper bound, by the tight accountant.
        check: the same by Renyi divergences; None where they cannot account for the ledger.
        loss: the whole privacy loss.
        members: how many of the ledger's records are known.
    """

    ledger: Ledger
    spent: Spent
    check: Spent | None
    loss: PrivacyLoss
    members: int

    @property
    def name(self) -> str:
        """Epsilon as a title writes it."""
        return f"epsilon = {up(self.spent.epsilon, 3):g}"

    def settings(self) -> dict[str, str]:
        """What it was computed from, label to text."""
        told = [
            f"{phase.steps:,} steps with noise multiplier {phase.noise_multiplier:.4g}, {phase.sampling} sampling of "
            f"{at_most(phase.sampling_rate)} a step"
            for phase in self.ledger.phases
        ]
        records = f"{self.ledger.records:,} records, {self.ledger.adjacency} adjacency"
        given = {
            "privacy ledger": "; ".join([records, *told]),
            "epsilon promised": f"{up(self.spent.epsilon, 3):g} at delta {short(self.spent.delta)}, by "
            f"{self.spent.accountant}",
        }
        if self.check is None:
            return given
        edge = ", an end of the grid" if self.check.on_edge else ""
        order = "" if self.check.order is None else f" (order {self.check.order:g}{edge})"
        return {**given, "epsilon cross-checked": f"{up(self.check.epsilon, 3):g}, by {self.check.accountant}{order}"}


def promised(ledger: Ledger, *, delta: float, members: int) -> Promise:
    """What `ledger` promises at `delta`.

    Raises:
        BadInputError: fewer records in the ledger than members, or a delta that one record would meet.
    """
    if ledger.records < members:
        raise BadInputError(
            f"ledger: expected one of a training on all {members:,} members or more, got one on {ledger.records:,} "
            "records. It belongs to another model, or some of the members are no training records."
        )
    check = epsilon(ledger, delta=delta, accountant="rdp") if ledger.adjacency == "add-remove" else None
    return Promise(ledger, epsilon(ledger, delta=delta), check, privacy_loss(ledger), members)


def as_in_ledger(defense: Defense | None, ledger: Ledger | None) -> Defense | None:
    """The defense that shadow models are trained under: plain `dp-sgd` takes its noise from the ledger, if that tells
    of one setting only.
    """
    if ledger is None or defense != DpSgd() or len(ledger.phases) != 1:
        return defense
    (phase,) = ledger.phases
    return DpSgd(epsilon=None, noise_multiplier=phase.noise_multiplier, sampling=phase.sampling)


@dataclass(frozen=True)
class Shown:
    """How much the scores of one attack show to be spent.

    Args:
        attack: whose scores.
        bounds: every bound, by name, all right together at `CONFIDENCE` whichever attack was chosen.
        control: the same of the attack where there is nothing to find; empty without a control.
        alike: whether members and non-members are of one kind, as far as can be told. Where they are not, no bound says
            anything about the model.
    """

    attack: str
    bounds: Mapping[str, LowerBound]
    control: Mapping[str, LowerBound]
    alike: bool

    @property
    def proofs(self) -> Mapping[str, LowerBound]:
        """The bounds that hold for records of one training, whatever that training did."""
        return proofs(self.bounds, independent=False)

    @property
    def strongest(self) -> LowerBound:
        """The proof that shows most."""
        return max(self.proofs.values(), key=lambda bound: (bound.epsilon, bound.ceiling))

    def breaks(self, promise: Promise) -> bool:
        """Whether a proof exceeds the ledger's epsilon."""
        return self.alike and self.strongest.epsilon > promise.spent.epsilon


def shown(
    promise: Promise,
    attack: str,
    scores: np.ndarray,
    null: np.ndarray | None,
    truth: np.ndarray,
    *,
    alike: bool,
    attacks: int,
    seed: int,
) -> Shown:
    """What the scores of the strongest attack prove about the training.

    One-run bounds want about as many records inside as outside, as fair coins give, so of the larger side as many are
    drawn. The risk of a wrong statement is shared by all attacks that the strongest was chosen from.

    Args:
        promise: of the training.
        attack: its name.
        scores: `(N,)`, higher for likely members.
        null: the attack's scores where there is nothing to find; None without a control.
        truth: bool `(N,)`.
        alike: whether members and non-members are of one kind, as far as is known. Where the control proves anything,
            they are not.
        attacks: how many ran.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    sides = [np.flatnonzero(truth), np.flatnonzero(~truth)]
    inside, outside = (rng.permutation(side)[: min(map(len, sides))] for side in sides)

    def bounds(values: np.ndarray) -> dict[str, LowerBound]:
        return every_bound(
            promise.ledger,
            values[inside],
            values[outside],
            delta=promise.spent.delta,
            confidence=1 - (1 - CONFIDENCE) / attacks,
            seed=seed,
        )

    control = {} if null is None else bounds(null)
    nothing = all(bound.epsilon == 0 for bound in proofs(control, independent=False).values())
    return Shown(attack, bounds(scores), control, alike and nothing)


def down(value: float) -> float:
    """A number to three significant digits, rounded down so that it stays a lower bound.

    Example:
        >>> down(1.2399), down(0.0)
        (1.23, 0.0)
    """
    if value <= 0 or math.isinf(value):
        return value
    places = 2 - math.floor(math.log10(value))
    return math.floor(value * 10.0**places + 1e-9) / 10.0**places


def short(value: float) -> str:
    """A small number as it is typed.

    Example:
        >>> short(1e-5), short(0.001)
        ('1e-5', '0.001')
    """
    return f"{value:g}".replace("e-0", "e-")
