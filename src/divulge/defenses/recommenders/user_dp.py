"""Differential privacy of users: each update is clipped and noised, and a ledger follows."""

import math
from dataclasses import dataclass
from typing import ClassVar

from divulge.defenses.recommenders.base import BasketDefense
from divulge.errors import BadInputError
from divulge.privacy.ledger import Ledger, Phase, Sampling
from divulge.releases.baskets import BasketSharing


@dataclass(frozen=True)
class UserDp(BasketDefense):
    """Each user's update is clipped over all tensors together, and Gaussian noise is added before it is shared.

    McMahan et al. 2018 (arXiv 1710.06963). What it promises is about a user with all items.

    Args:
        noise_multiplier: standard deviation over `clip` of the noise on what anyone sees; 0 for clipping alone, which
            promises nothing.
        clip: largest norm of a user's update.
        users: whose updates are added up before anyone sees them: each then adds a share of the noise. 1 where the
            server sees every update by itself.
    """

    name: ClassVar[str] = "user-dp"
    source: ClassVar[str] = "McMahan et al. 2018, arXiv 1710.06963"
    randomness: ClassVar[str] = "the noise on every tensor, by its name"
    adaptive: ClassVar[str] = (
        "averages the noise down along the layer's leading direction and names what is likely given how popular it is"
    )

    noise_multiplier: float = 1.0
    clip: float = 1.0
    users: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.noise_multiplier < math.inf or not 0 < self.clip < math.inf or self.users < 1:
            raise BadInputError(
                f"{self.name}: expected a finite noise_multiplier of 0 or more, a positive, finite clip and users of 1 "
                f"or more, got {self.noise_multiplier}, {self.clip} and {self.users}."
            )

    @property
    def sharing(self) -> BasketSharing:
        """The clipped update with this user's part of the noise."""
        return BasketSharing(clip=self.clip, noise_multiplier=self.noise_multiplier / math.sqrt(self.users))

    @property
    def summed(self) -> int:
        """`users`."""
        return self.users

    def ledger(self, *, users: int, rounds: int, sampling_rate: float = 1.0) -> Ledger | None:
        """What the noise promises; None without noise.

        Drawing users by coins amplifies the promise where only sums are seen. Where each update is seen by itself,
        whoever reads it knows who took part: there `rounds` are those of one user, and the rate is 1.

        The noise comes from the generator that a user is handed, whose seed can be known: the ledger says so.

        Raises:
            BadInputError: a sampling rate below 1 where each update is seen by itself, or a value out of range.

        Example:
            >>> from divulge.privacy.accounting import epsilon
            >>> spent = UserDp(noise_multiplier=1.0, users=128).ledger(users=6000, rounds=900, sampling_rate=128 / 6000)
            >>> 2 < epsilon(spent, delta=1e-5).epsilon < 5
            True
        """
        if not self.noise_multiplier:
            return None
        if self.users == 1 and sampling_rate != 1:
            raise BadInputError(
                f"{self.name}: expected a sampling_rate of 1 where each update is seen by itself, got {sampling_rate}. "
                "Add up the updates of several users (users=...) for the draw to hide who took part."
            )
        sampled: Sampling = "poisson" if sampling_rate < 1 else "shuffled"
        return Ledger(users, fixed_noise_seed=True).after(Phase(sampling_rate, self.noise_multiplier, rounds, sampled))
