"""Differential privacy at the client: noise on the sum of clipped gradients, before anything is shared."""

import copy
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from divulge.defenses.base import Defense, Shared
from divulge.defenses.gradient_noise import drawn_like
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.privacy.ledger import Ledger, Phase, Sampling
from divulge.releases import GradientRecord, Tampering
from divulge.training.private.clipping import clipper, flat


@dataclass(frozen=True)
class ClientDp(Defense):
    """Each record's gradient is clipped and Gaussian noise added to their sum before it leaves the client.

    Abadi et al. 2016 (arXiv 1607.00133), done by the client itself, so that the server need not be trusted: the record
    of a round is a noisy sum of DP-SGD on the client's own data, and a promise follows from it; see `ledger`.

    Args:
        noise_multiplier: standard deviation of the noise on the sum over `clip`; 0 for clipping alone, which promises
            nothing.
        clip: largest norm of one record's gradient over all tensors together.
        batch_size: what the noisy sum is divided by: the size of the batches where means are shared, 1 for sums.
    """

    name: ClassVar[str] = "client-dp"
    source: ClassVar[str] = "Abadi et al. 2016, arXiv 1607.00133"
    randomness: ClassVar[str] = "the noise on every tensor, by its name"

    noise_multiplier: float = 1.0
    clip: float = 1.0
    batch_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.noise_multiplier < math.inf:
            raise BadInputError(
                f"client-dp: expected a finite noise_multiplier of 0 or more, got {self.noise_multiplier}."
            )
        if not 0 < self.clip < math.inf:
            raise BadInputError(f"client-dp: expected a positive, finite clip, got {self.clip}.")
        if self.batch_size < 1:
            raise BadInputError(f"client-dp: expected batch_size >= 1, got {self.batch_size}.")

    def share(
        self, record: GradientRecord, *, model: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> Shared:
        """The noisy sum of clipped gradients, or that divided by `batch_size`.

        Raises:
            BadInputError: an update of several steps, a mean over another number than `batch_size`, or a model that
                mixes records.
        """
        if record.local_steps > 1:
            raise BadInputError(
                f"client-dp: expected the gradient of one batch, got an update of {record.local_steps} local steps, in "
                "which records cannot be told apart any more. Share every step."
            )
        size = record.batch_size if record.reduction == "mean" else 1
        if size != self.batch_size:
            raise BadInputError(
                f"client-dp: expected batch_size={size} for the {record.reduction} of {record.batch_size} records, got "
                f"{self.batch_size}. It is the size of the batch for a mean and 1 for a sum."
            )
        worker = copy.deepcopy(model).train(record.training)
        with seeded(int(torch.randint(2**31, (), generator=generator, device=generator.device))):
            sums = clipper(worker)(inputs, targets, flat(self.clip)).sums
        means = {
            name: (total / size).to(one) for (name, one), total in zip(record.gradients.items(), sums, strict=True)
        }
        std = self.noise_multiplier * self.clip / size
        drawn = {name: drawn_like(one, std, "gaussian", generator) for name, one in means.items()}
        return Shared(replace(record, gradients={name: one + drawn[name] for name, one in means.items()}), drawn)

    def tampering(self, model: nn.Module) -> Tampering:
        """The noise, in the units of what is shared, and that the gradient may have been shrunk.

        In a batch of several, each record's gradient is shrunk by a factor of its own, which is not told either.
        """
        std = self.noise_multiplier * self.clip / self.batch_size
        return Tampering(scaled=True, noise="gaussian", std=std) if std else Tampering(scaled=True)

    def ledger(
        self, *, records: int, rounds: int = 1, sampling_rate: float = 1.0, sampling: Sampling = "shuffled"
    ) -> Ledger:
        """What sharing spends of a client's records, from which `divulge.privacy.accounting.epsilon` follows.

        The noise comes from the generator that `share` is handed, whose seed can be known: the ledger says so. A client
        in the field draws it from a source that nobody can foresee.

        Args:
            records: of the client.
            rounds: gradients that it shares.
            sampling_rate: expected share of its records in each; 1 for all of them every time.
            sampling: `poisson` only where each record is drawn by a coin of its own, so that batches differ in size,
                and sums are shared; batches of a fixed size hide nothing of who is in them.

        Raises:
            BadInputError: no noise, or a value out of range.

        Example:
            >>> from divulge.privacy.accounting import epsilon
            >>> spent = ClientDp(noise_multiplier=4.0).ledger(records=600, rounds=10)
            >>> round(epsilon(spent, delta=1e-4).epsilon, 2)
            2.88
        """
        phase = Phase(sampling_rate, self.noise_multiplier, rounds, sampling)
        return Ledger(records, fixed_noise_seed=True).after(phase)
