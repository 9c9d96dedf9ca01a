"""How much an audit of gradients may spend: how many clients, and which attacks."""

from dataclasses import dataclass, replace

from divulge.attacks import ATTACKS
from divulge.attacks.gradients import GradientAttack
from divulge.attacks.gradients.bias_anchored import BiasAnchored
from divulge.attacks.gradients.dlg import DLG
from divulge.attacks.gradients.gauss_newton import GaussNewton
from divulge.attacks.gradients.inverting_gradients import InvertingGradients, ModernInvertingGradients
from divulge.attacks.gradients.search import Search
from divulge.attacks.gradients.spear import Spear
from divulge.auditing.subject import BUDGETS
from divulge.errors import BadInputError

ITERATIONS = 20
"""Evaluations that one step of L-BFGS takes at most."""


@dataclass(frozen=True)
class Plan:
    """How much may be spent.

    Args:
        name: what to call it.
        records: that are attacked in each batch size.
        tried: that each defense is tried on, of those.
        steps: of the main search.
        restarts: of it.
        starting: steps of the search that Gauss-Newton may start from.
        samples: that SPEAR draws for one batch at most.
    """

    name: str
    records: int
    tried: int
    steps: int
    restarts: int
    starting: int
    samples: int


PLANS = {
    "quick": Plan("quick", records=8, tried=8, steps=100, restarts=1, starting=100, samples=10_000),
    "standard": Plan("standard", records=16, tried=8, steps=1000, restarts=1, starting=500, samples=50_000),
    "thorough": Plan("thorough", records=32, tried=16, steps=4800, restarts=2, starting=1000, samples=200_000),
}


def plan(name: str) -> Plan:
    """The plan of the budget called `name`.

    Raises:
        BadInputError: no such budget.
    """
    if name not in PLANS:
        raise BadInputError(f"budget: expected one of {', '.join(BUDGETS)}, got {name!r}.")
    return PLANS[name]


def closed_forms(budget: Plan, *, image: bool, batch: int) -> dict[str, GradientAttack]:
    """Every registered attack that computes in moments, by name; each refuses what it is not for."""
    known = ATTACKS.kind_of(GradientAttack).items()
    found = {name: cls() for name, cls in known if not issubclass(cls, (Search, GaussNewton))}
    return found | {Spear.name: Spear(samples=budget.samples)}


def equations(budget: Plan, *, image: bool, batch: int) -> dict[str, GradientAttack]:
    """What solves all equations at once, by name: exact as a closed form is, and as slow as a search."""
    return {GaussNewton.name: GaussNewton(search=budget.starting)} if batch == 1 else {}


def searches(budget: Plan, *, image: bool, batch: int) -> dict[str, GradientAttack]:
    """The searches of a budget, by name, the main one first.

    Args:
        budget: how much may be spent.
        image: whether the records are images, for which total variation is a prior.
        batch: records that each client has.
    """
    main = InvertingGradients(steps=budget.steps, restarts=budget.restarts, tv=1e-4 if image else 0.0)
    found: list[Search] = [main]
    if budget.name != "quick":
        found.append(DLG(labels="bias", steps=max(40, budget.steps // 16), restarts=budget.restarts))
        if batch == 1:
            tv = 1e-4 if image else 0.0
            found.append(BiasAnchored(steps=budget.steps // 2, tv=tv))
    if budget.name == "thorough" and image:
        found.append(ModernInvertingGradients(steps=budget.steps))
    return {one.name: one for one in found}


STAGES = (closed_forms, equations, searches)
"""Attacks by what they take; a stage is left out where those before it have found everything."""


def evaluations(search: GradientAttack) -> int:
    """Gradients that a search takes for one victim, at most."""
    if isinstance(search, GaussNewton):
        return search.search
    if not isinstance(search, Search):
        return 0
    return search.steps * search.restarts * (ITERATIONS if search.optimizer == "lbfgs" else 1)


def shortened(search: GradientAttack, steps: int) -> GradientAttack:
    """The same search with fewer steps, to time it."""
    return replace(search, steps=steps, restarts=1) if isinstance(search, Search) else search
