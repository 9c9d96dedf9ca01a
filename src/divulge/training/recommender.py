"""A recommender trained across its users' devices: one user a client, some of them a round, Adam at the server."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from divulge.data.interactions import require_baskets
from divulge.errors import BadInputError
from divulge.metrics.ranking import ndcg, recall_at
from divulge.models import seeded
from divulge.models.multvae import multinomial
from divulge.models.stochastic import penalties
from divulge.privacy.ledger import Sampling
from divulge.releases.baskets import BasketSharing

HIDDEN = 0.2
"""Share of a held-out user's items that are to be recommended."""
BEST = 100
"""Items over which the gain of a recommendation counts."""
RECALLED = (20, 50)
"""Lengths of the lists whose recall is measured."""


@dataclass(frozen=True)
class RecommenderFederation:
    """How FedVAE trains: the mean of the updates of a round's users, and a step of Adam at the server.

    Polato 2021 (Federated Variational Autoencoder for Collaborative Filtering, IJCNN). The mean is over the users of
    the round.

    Args:
        epochs: passes over all users: as many rounds as it takes for each to take part once.
        users: of a round; with `poisson` in the mean.
        lr: of the server's Adam.
        sharing: what each user does before sharing.
        sampling: `shuffled`, each user once in a pass, in a new random order; or `poisson`, each user in each round by
            a coin of its own: a round's sum is divided by `users` and has the noise of as many, however many came.
    """

    epochs: int = 100
    users: int = 128
    lr: float = 1e-3
    sharing: BasketSharing = field(default_factory=BasketSharing)
    sampling: Sampling = "shuffled"

    def __post_init__(self) -> None:
        if min(self.epochs, self.users) < 1 or not 0 < self.lr < math.inf:
            raise BadInputError(
                f"recommender federation: expected epochs and users of 1 or more and a positive lr, got {self.epochs}, "
                f"{self.users} and {self.lr}."
            )

    def drawn(self, count: int, generator: torch.Generator) -> Sequence[Tensor]:
        """The users of each round of one pass over `count` users."""
        if self.sampling == "shuffled":
            return torch.randperm(count, generator=generator).split(self.users)
        rounds = math.ceil(count / self.users)
        return [(torch.rand(count, generator=generator) < self.users / count).nonzero()[:, 0] for _ in range(rounds)]


def fit_recommender(
    model: nn.Module,
    baskets: Tensor,
    federation: RecommenderFederation,
    *,
    seed: int,
    watch: Callable[[int], None] = lambda epoch: None,
) -> list[float]:
    """Train `model` in place on the baskets of all users.

    The gradients of a round are computed together: their mean is that of the loss, and with clipping each user's is
    scaled by a norm of its own, so that the server's step is the one that single clients would lead to. Noise of the
    users is drawn as one, with the standard deviation of their mean.

    Args:
        model: maps `(N, items)` to logits `(N, items)`; for clipping, all it learns is in linear layers.
        baskets: `(N, items)` of zeros and ones.
        federation: how.
        seed: of the order of users, dropout, the code, and what users draw.
        watch: called with the number of each epoch that is done, from 1.

    Returns:
        The mean loss of each epoch.

    Raises:
        BadInputError: a user without an item, or a model that cannot be clipped user by user.
    """
    require_baskets(baskets, where="recommender")
    sharing, generator = federation.sharing, torch.Generator().manual_seed(seed)
    learned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.Adam(learned.values(), lr=federation.lr)
    history = []
    model.train()
    for epoch in range(federation.epochs):
        lost = 0.0
        for rows in federation.drawn(len(baskets), generator):
            own, negatives = sharing.prepared(baskets[rows], generator=generator)
            with seeded(int(torch.randint(2**31, (), generator=generator))):
                total, losses = update(model, own, negatives, clip=sharing.clip)
            several = len(rows) if federation.sampling == "shuffled" else federation.users
            std = sharing.std * math.sqrt(several)
            for name, parameter in learned.items():
                noise = std * torch.randn(parameter.shape, generator=generator) if std else 0
                parameter.grad = (total[name] + noise) / several
            optimizer.step()
            lost += float(losses.sum())
        history.append(lost / len(baskets))
        watch(epoch + 1)
    optimizer.zero_grad()
    model.eval()
    return history


def update(
    model: nn.Module, baskets: Tensor, negatives: Tensor | None, *, clip: float | None
) -> tuple[dict[str, Tensor], Tensor]:
    """The sum of the users' gradients, each clipped to a norm of `clip`, and the loss of each user `(N,)`.

    The norms are those of outer products: no user's gradient is written out.

    Raises:
        BadInputError: clipping of parameters outside of linear layers that are called once.
    """
    learned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not len(baskets):
        # a round of coins to which nobody came is still a round, of noise alone
        return {name: torch.zeros_like(p) for name, p in learned.items()}, baskets.new_zeros(0)
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {}
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    hooks = [
        layer.register_forward_hook(lambda _, given, out, name=name: calls.setdefault(name, []).append((given[0], out)))
        for name, layer in layers.items()
    ]
    try:
        with penalties(model) as extra:
            logits = model(baskets)
            if negatives is not None:
                logits = logits.masked_fill(~negatives & (baskets == 0), -torch.inf)
            losses = sum(extra, start=multinomial(logits, baskets))
    finally:
        for hook in hooks:
            hook.remove()
    if clip is None:
        gradients = torch.autograd.grad(losses.sum(), list(learned.values()))
        return dict(zip(learned, gradients, strict=True)), losses.detach()
    owned = [f"{name}.{own}" for name, layer in layers.items() for own, _ in layer.named_parameters()]
    if sorted(owned) != sorted(learned) or any(len(seen) != 1 for seen in calls.values()):
        raise BadInputError("recommender: clipping takes a model that learns in linear layers alone, each called once.")
    entered = {name: seen[0][0].detach() for name, seen in calls.items()}
    signals = dict(zip(calls, torch.autograd.grad(losses.sum(), [seen[0][1] for seen in calls.values()]), strict=True))
    squares = [
        signals[name].square().sum(dim=1) * (entered[name].square().sum(dim=1) + (layers[name].bias is not None))
        for name in signals
    ]
    factor = (clip / torch.stack(squares).sum(dim=0).sqrt().clamp(min=1e-30)).clamp(max=1)
    total: dict[str, Tensor] = {}
    for name, signal in signals.items():
        scaled = signal * factor[:, None]
        total[f"{name}.weight"] = scaled.T @ entered[name]
        if layers[name].bias is not None:
            total[f"{name}.bias"] = scaled.sum(dim=0)
    return total, losses.detach()


def hold_out(baskets: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
    """Hide a fifth of each user's items, rounded down; users with fewer than five items are left out.

    Returns:
        What is given to the recommender and what is hidden, `(users, items)` each.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(baskets.shape, generator=generator).masked_fill(baskets == 0, 2.0).argsort(dim=1)
    count = (HIDDEN * baskets.sum(dim=1) + 1e-6).floor().long()
    first = torch.arange(baskets.shape[1]) < count[:, None]
    hidden = torch.zeros_like(baskets).scatter(1, order, first.to(baskets))
    kept = count > 0
    return (baskets - hidden)[kept], hidden[kept]


def recommendations(scores: np.ndarray, given: Tensor, hidden: Tensor) -> Mapping[str, np.ndarray]:
    """How well scores `(users, items)` rank what was hidden above all that was not given: each metric `(users,)`."""
    ranked = np.where(given.numpy() > 0, -np.inf, scores)
    relevant = hidden.numpy() > 0
    found = {f"NDCG@{BEST}": ndcg(ranked, relevant, k=BEST)}
    return found | {f"Recall@{k}": recall_at(ranked, relevant, k=k) for k in RECALLED}
