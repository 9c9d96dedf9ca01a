"""The prior-aware attack: which of some candidates was the one training record that is not known?"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from divulge.attacks.base import Attack
from divulge.attacks.reconstruction.transcript import Transcript
from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.training.private import Privacy
from divulge.training.private.clipping import automatic, flat

NUMBERS = 2**24
"""Numbers in the gradients that are held at once."""
TINY = 1e-30


@dataclass(frozen=True, eq=False)
class Identification:
    """What the attack says of each candidate.

    Args:
        evidence: log-likelihood of the transcript if this candidate was the record, up to a constant, float64 `(n,)`.
    """

    evidence: np.ndarray

    @property
    def best(self) -> int:
        """The candidate it names."""
        return int(self.evidence.argmax())


@dataclass(frozen=True)
class PriorAware(Attack):
    """Sees every noisy sum of DP-SGD and knows all records but one, for which it has candidates; names the likeliest.

    Hayes, Mahloujifar and Balle 2023 (arXiv 2302.07225), algorithm 1, with the likelihood of a sampled step in place
    of its inner product: where every step takes every record and clips all candidates, both name the same candidate.
    Nobody can be right more often than the ledger's trade-off curve allows at the prior, see
    `divulge.privacy.tradeoff.most_reconstruction`.
    """

    name: ClassVar[str] = "prior-aware"
    source: ClassVar[str] = "Hayes et al. 2023, arXiv 2302.07225"

    def run(self, transcript: Transcript, *, known: Dataset, candidates: Dataset) -> Identification:
        """Weigh the candidates.

        Args:
            transcript: of the training on the known records and one more.
            known: all records of the training but one. Which of them a step drew is not known.
            candidates: for the one, two or more.

        Raises:
            BadInputError: fewer than two candidates, or a training whose clipped gradients cannot be computed again:
                random augmentation, adaptive clipping, or an optimizer other than SGD.
        """
        privacy, recipe = transcript.privacy, transcript.recipe
        if len(candidates) < 2:
            raise BadInputError(f"prior-aware: expected two candidates or more, got {len(candidates)}.")
        if recipe.augment or privacy.clipping == "adaptive":
            raise BadInputError(
                "prior-aware: expected a training whose clipped gradients can be computed again, got random "
                f"augmentation {recipe.augment} and {privacy.clipping} clipping. Use no augmentation, and flat or "
                "automatic clipping."
            )
        records = torch.cat([known.inputs, candidates.inputs])
        targets = torch.cat([known.targets, candidates.targets])
        evidence = torch.zeros(len(candidates), dtype=torch.float64)
        steps = clipped_gradients(transcript.model, transcript.weights[:-1], records, targets, privacy)
        for clipped, total, (rate, noise) in zip(steps, transcript.sums, transcript.rates, strict=True):
            others, own = clipped[: len(known)], clipped[len(known) :]
            rest = total - rate * others.sum(dim=0)
            square = own.square().sum(dim=1)
            # Along a candidate's gradient, the coins of the known records are noise too.
            coins = rate * (1 - rate) * (others @ own.T).square().sum(dim=0) / square.clamp(min=TINY)
            gain = (own @ rest - square / 2) / ((noise * privacy.clip) ** 2 + coins)
            evidence += _sampled(gain, rate)
        return Identification(evidence.numpy())


def clipped_gradients(
    model: nn.Module, weights: Tensor, inputs: Tensor, targets: Tensor, privacy: Privacy
) -> Iterator[Tensor]:
    """The clipped gradients of some records' cross-entropy at some weights.

    Args:
        model: what the weights belong to; left as it was.
        weights: all trainable parameters as one vector, of several steps, `(steps, P)`.
        inputs: `(N, *shape)`.
        targets: `(N,)`.
        privacy: says how to clip.

    Yields:
        For each step, float64 `(N, P)`.
    """
    learned = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    rule = (automatic if privacy.clipping == "automatic" else flat)(privacy.clip)

    def loss(vector: Tensor, record: Tensor, target: Tensor) -> Tensor:
        parts = vector.split([p.numel() for _, p in learned])
        values = {name: part.view_as(p) for (name, p), part in zip(learned, parts, strict=True)}
        return functional.cross_entropy(functional_call(model, values, (record[None],)), target[None])

    each = vmap(vmap(grad(loss), in_dims=(None, 0, 0)), in_dims=(0, None, None))
    at_once = max(1, NUMBERS // (len(inputs) * weights.shape[1]))
    for vectors in weights.split(at_once):
        rows = each(vectors, inputs, targets)
        yield from (rows * rule(rows.norm(dim=2))[..., None]).double()


def _sampled(gain: Tensor, rate: float) -> Tensor:
    """Log-likelihood ratio of a step that takes the record with a chance of `rate`, from that of one that takes it."""
    if rate == 1:
        return gain
    return torch.logaddexp(torch.full_like(gain, math.log1p(-rate)), gain + math.log(rate))
