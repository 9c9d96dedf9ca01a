"""What is audited: a recommender, the users who share its updates, and the means of who attacks them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from divulge.attacks.recommenders.base import outer
from divulge.auditing.recommender import shared
from divulge.auditing.subject import BUDGETS
from divulge.data import Dataset
from divulge.data.interactions import are_interactions, over_items
from divulge.defenses.recommenders import BasketDefense
from divulge.defenses.recommenders.base import Undefended
from divulge.errors import BadInputError
from divulge.releases.baskets import BasketSharing


@dataclass(frozen=True)
class Plan:
    """How much may be spent.

    Args:
        name: what to call it.
        users: who are attacked.
        tried: of those, under each defense.
        searched: of those, where no closed form claims every basket.
        steps: of a search.
    """

    name: str
    users: int
    tried: int
    searched: int
    steps: int


PLANS = {
    "quick": Plan("quick", users=20, tried=10, searched=0, steps=0),
    "standard": Plan("standard", users=100, tried=40, searched=4, steps=500),
    "thorough": Plan("thorough", users=400, tried=100, searched=16, steps=1000),
}


@dataclass(frozen=True, eq=False)
class UserExchange:
    """A recommender whose users share updates.

    Args:
        title: what to call the model.
        network: it, as the users compute with it: `(N, items)` to logits `(N, items)`.
        kind: name of its class.
        users: their baskets, over the items of the model.
        public: baskets of others that the adversary has; None for none.
        victims: rows of the users who are attacked.
        declared: the defense that the users share under.
        defenses: others to try.
        plan: how much may be spent.
        seed: of everything drawn.
        several: whether the model answers with more than its logits, which are then the first.
    """

    title: str
    network: nn.Module
    kind: str
    users: Dataset
    public: Dataset | None
    victims: Tensor
    declared: BasketDefense
    defenses: tuple[BasketDefense, ...]
    plan: Plan
    seed: int
    several: bool = False

    @property
    def items(self) -> int:
        """How many the model knows."""
        return self.users.inputs.shape[1]

    def name_of(self, item: int) -> str:
        """What to call an item."""
        return self.users.features[item] if self.users.features else str(item)

    def seconds(self) -> float:
        """How long the audit takes, about: one update is made and attacked."""
        started = time.perf_counter()
        generator = torch.Generator().manual_seed(self.seed)
        shared(self.network, self.users.inputs[self.victims[:1]], BasketSharing(), generator=generator)
        one = time.perf_counter() - started
        cases = [self.declared, *self.defenses]
        return one * sum(2 * 4 * min(self.plan.users, len(self.victims)) for _ in cases) + 5

    def announcement(self) -> str:
        """What will be done."""
        tried = f", also under {', '.join(one.label for one in self.defenses)}" if self.defenses else ""
        under = "" if isinstance(self.declared, Undefended) else f" under {self.declared.label}"
        return (
            f"Sharing updates of {self.title} as {len(self.victims):,} of its {len(self.users):,} users would{under}, "
            f"and reading their baskets out of them{tried}."
        )


class FirstAnswer(nn.Module):
    """A recommender that answers with several things, of which the first are its logits."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, baskets: Tensor) -> Tensor:
        """The logits."""
        answer: Tensor = self.inner(baskets)[0]
        return answer


def prepare(
    model: object,
    users: Dataset,
    *,
    budget: str,
    public: Dataset | None = None,
    defense: BasketDefense | None = None,
    defenses: Sequence[BasketDefense] = (),
    title: str = "",
    seed: int = 0,
) -> UserExchange:
    """Choose the users who are attacked, and see that they can share an update and that the defenses can act on it.

    Args:
        model: a torch module from baskets `(N, items)` to logits of the same shape, or to several answers of which
            those are the first.
        users: a table of interactions, such as `divulge.data.load` and `divulge.data.interactions.of_pairs` give.
        budget: `quick`, `standard` or `thorough`.
        public: a table of other users, whom the adversary knows.
        defense: that the users share under; None for none.
        defenses: others to try.
        title: what to call the model.
        seed: of everything drawn.

    Raises:
        BadInputError: a model that is no torch module, has no linear layer, or knows other items than the table; a user
            without an item; too few users for a defense that adds them up; or an update that is zero or not finite.
    """
    if budget not in PLANS:
        raise BadInputError(f"budget: expected one of {', '.join(BUDGETS)}, got {budget!r}.")
    if seed < 0:
        raise BadInputError(f"seed: expected 0 or more, got {seed}.")
    if not isinstance(model, nn.Module):
        raise BadInputError(
            f"gradients: a user shares the gradient of a torch module, and this is a {type(model).__name__}. Give the "
            "module itself (--model file.py:factory)."
        )
    if public is not None and not are_interactions(public):
        raise BadInputError(
            f"non-members: expected a table of interactions of other users, got records of {public.num_classes} "
            "classes. Leave them out, or give users and their items."
        )
    _, first = outer("gradients", model, first=True)
    plan, width = PLANS[budget], first.in_features
    table = over_items(users, width)
    others = None if public is None else over_items(public, width)
    chosen = torch.from_numpy(np.sort(np.random.default_rng(seed).permutation(len(table))[: plan.users]))
    several = _several(model, table.inputs[chosen[:1]])
    network = FirstAnswer(model) if several else model
    exchange = UserExchange(
        title or type(model).__name__,
        network,
        type(model).__name__,
        table,
        others,
        chosen,
        defense or Undefended(),
        tuple({one.label: one for one in defenses}.values()),
        plan,
        seed,
        several,
    )
    for one in (Undefended(), exchange.declared, *exchange.defenses):
        _trial(exchange, one)
    return exchange


def _several(model: nn.Module, basket: Tensor) -> bool:
    """Whether a model answers with several things."""
    mode = model.training
    try:
        with torch.no_grad():
            return isinstance(model.eval()(basket), (tuple, list))
    except Exception as error:
        raise BadInputError(
            f"gradients: the model raised {type(error).__name__} for the basket of one user: {error}"
        ) from error
    finally:
        model.train(mode)


def _trial(exchange: UserExchange, defense: BasketDefense) -> None:
    """See that the first users can share under a defense."""
    if defense.summed > len(exchange.victims):
        raise BadInputError(
            f"defenses: {defense.label} adds up the updates of {defense.summed} users, and there are "
            f"{len(exchange.victims)} to attack. Give more users, or a larger budget."
        )
    generator = torch.Generator().manual_seed(0)
    try:
        network = defense.architecture(exchange.network)
        basket = exchange.users.inputs[exchange.victims[:1]]
        record, _ = shared(network, basket, defense.sharing, generator=generator)
    except BadInputError:
        raise
    except Exception as error:
        raise BadInputError(
            f"gradients: the update of one user raised {type(error).__name__} under {defense.label}: {error}"
        ) from error
    record.require(network)
