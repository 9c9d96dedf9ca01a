"""A small variational autoencoder of public records, whose code a search may go on in."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.models import seeded

WIDTH, BATCH, LR = 256, 64, 1e-3


@dataclass(frozen=True, eq=False)
class Variational:
    """Records of a kind as a decoder draws them from a standard normal code.

    Kingma and Welling 2014 (arXiv 1312.6114), with one hidden layer of 256 units on either side and an output of
    sigmoids.

    Args:
        decoder: codes `(n, k)` to the logits of entries `(n, D)`.
        dimensions: of a code.
        shape: of a record.
    """

    decoder: nn.Module
    dimensions: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, public: Dataset, *, dimensions: int, epochs: int, generator: torch.Generator) -> "Variational":
        """Learn them from records in `[0, 1]`.

        Raises:
            BadInputError: records outside `[0, 1]`, or fewer than two.
        """
        flat = public.inputs.flatten(1)
        if len(flat) < 2 or dimensions < 1 or not (flat.min() >= 0 and flat.max() <= 1):
            raise BadInputError(
                f"variational prior: expected two public records or more with entries in [0, 1] and a positive number "
                f"of dimensions, got {len(flat)} records and {dimensions} dimensions."
            )
        entries = flat.shape[1]
        with seeded(int(torch.randint(2**31, (), generator=generator))):
            encoder = nn.Sequential(nn.Linear(entries, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2 * dimensions))
            last = nn.Linear(WIDTH, entries)
            decoder = nn.Sequential(nn.Linear(dimensions, WIDTH), nn.ReLU(), last)
        # the mean record is where the decoder starts, so that it learns only how records differ
        with torch.no_grad():
            last.bias.copy_(flat.mean(dim=0).clamp(0.01, 0.99).logit())
        optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=LR)
        for _ in range(epochs):
            for rows in torch.randperm(len(flat), generator=generator).split(BATCH):
                batch = flat[rows]
                mean, raw = encoder(batch).chunk(2, dim=1)
                std = functional.softplus(raw)
                code = mean + std * torch.randn(mean.shape, generator=generator)
                # the likelihood of a normal law around the output, its variance the mean squared error itself
                error = (decoder(code).sigmoid() - batch).square().mean()
                divergence = ((mean.square() + std.square() - 1) / 2 - std.log()).sum(dim=1).mean()
                loss = entries / 2 * error.log() + divergence
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return cls(decoder.requires_grad_(False), dimensions, public.shape)

    def records(self, points: Tensor) -> Tensor:
        """Records `(n, *shape)` at points `(n, k)`."""
        return self.decoder(points).sigmoid().unflatten(1, self.shape)
