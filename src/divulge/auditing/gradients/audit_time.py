"""How long an audit of gradients will take, if none of it is stored yet."""

from divulge.attacks.gradients import GradientAttack
from divulge.auditing.gradients.attempt import Attempt, attempt
from divulge.auditing.gradients.audit import Exchange
from divulge.auditing.gradients.audit_evidence import CHUNK, adversaries_of
from divulge.auditing.gradients.audit_plan import equations, evaluations, searches, shortened
from divulge.auditing.gradients.audit_steps import victims_of
from divulge.errors import BadInputError

TIMED = 3
"""Steps of the search that is timed."""


def expected(exchange: Exchange) -> float:
    """Seconds that all searches take, at most: those of a few steps, times what there is to do."""
    image, plan = exchange.records.is_image, exchange.plan
    total = 0.0
    for batch in exchange.batch_sizes:
        attacks = list(searches(plan, image=image, batch=batch).values())
        before = sum(map(evaluations, equations(plan, image=image, batch=batch).values()))
        clients = exchange.clients(batch)
        pace = _pace(exchange, attacks[0], batch, min(clients, CHUNK))
        total += pace * clients * (before + sum(map(evaluations, attacks)))
        if batch == exchange.batch_sizes[0]:
            tried = min(clients, max(2, plan.tried // batch))
            cases = sum(len(adversaries_of(one)) for one in exchange.defenses)
            main = attacks if plan.name == "thorough" else attacks[:1]
            total += pace * tried * cases * (before + sum(map(evaluations, main)))
    return total


def _pace(exchange: Exchange, search: GradientAttack, batch: int, clients: int) -> float:
    """Seconds of one evaluation for one client; 0 where the search cannot be run on this model."""
    own = exchange.corpus.part(victims_of(batch))[: clients * batch]
    one = Attempt(shortened(search, TIMED), training=exchange.training)
    try:
        return attempt(exchange.network, own, one, batch=batch).seconds / (TIMED * clients)
    except (BadInputError, RuntimeError, ArithmeticError):
        return 0.0
