"""What a privacy loss stops, for a reader who does not know what an epsilon is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from divulge.privacy.ledger import Ledger, Phase
from divulge.privacy.loss import PrivacyLoss, privacy_loss
from divulge.privacy.tradeoff import most_reconstruction

RATES = (0.001, 0.01, 0.1)
PRIORS = (1 / 10, 1 / 256)
NOTHING = 0.99  # an adversary who finds that many of the people in the data is stopped by nothing


@dataclass(frozen=True)
class Stop:
    """One thing that a privacy loss limits.

    Args:
        what: the adversary's success, in words.
        most: its largest rate, 0 to 1.
        guess: its rate without the model.
    """

    what: str
    most: float
    guess: float


def stops(what: Ledger | Sequence[Phase] | PrivacyLoss, *, priors: Sequence[float] = PRIORS) -> list[Stop]:
    """The limits worth a table: members found at the false positive rates of `RATES`, records told at `priors`.

    Example:
        >>> found = stops([Phase(1, 1.0, 1)])[1]
        >>> f"{found.what}: {found.most:.3f}, not {found.guess}"
        'members found, 1 outsider in 100 accused: 0.092, not 0.01'
    """
    loss = privacy_loss(what)
    asked = [(f"members found, 1 outsider in {round(1 / rate):,} accused", rate) for rate in RATES]
    asked += [(f"records told {_among(prior)}", prior) for prior in priors]
    return [Stop(text, most_reconstruction(loss, rate), rate) for text, rate in asked]


def in_words(what: Ledger | Sequence[Phase] | PrivacyLoss, *, fpr: float = 0.01, prior: float = 0.1) -> str:
    """What the loss promises to the people in the data, and what its reader must know besides.

    Args:
        what: a ledger, phases, or their `privacy_loss`.
        fpr: share of outsiders that the adversary may wrongly accuse.
        prior: chance of guessing a record right without the model.

    Example:
        >>> print(in_words([Phase(1, 2.0, 1)]))
        Of 1,000 people in the data, an adversary who may wrongly accuse 1 in 100 outsiders can point to at most 34. A \
guess at a record among 10 candidates succeeds at most 22 % of the time, against 10 % without the model.
    """
    loss = privacy_loss(what)
    found, told = (most_reconstruction(loss, rate) for rate in (fpr, prior))
    if found >= NOTHING:
        promise = "So little noise stops nobody: the promise allows an adversary to point to everyone in the data."
    else:
        promise = (
            f"Of 1,000 people in the data, an adversary who may wrongly accuse 1 in {round(1 / fpr):,} outsiders can "
            f"point to at most {up(1000 * found):g}. A guess at a record {_among(prior)} succeeds at most "
            f"{at_most(told)} of the time, against {at_most(prior)} without the model."
        )
    return " ".join([*loss.caveats, promise])


def at_most(share: float) -> str:
    """A share in percent, to two significant digits or whole, rounded up so that it stays a bound.

    Example:
        >>> at_most(0.2301), at_most(0.01841), at_most(0.00101)
        ('24 %', '1.9 %', '0.11 %')
    """
    return f"{up(100 * share):g} %"


def _among(prior: float) -> str:
    ways = 1 / prior
    return (
        f"among {round(ways):,} candidates" if abs(ways - round(ways)) < 1e-6 else f"with a chance of {100 * prior:g} %"
    )


def up(value: float, digits: int = 2) -> float:
    """A number to that many significant digits, or whole if it has more before the point, rounded up.

    Example:
        >>> up(0.01841), up(1.06847, 4)
        (0.019, 1.069)
    """
    places = max(0, digits - 1 - math.floor(math.log10(value))) if value > 0 else 0
    return math.ceil(value * 10**places - 1e-9) / 10**places
