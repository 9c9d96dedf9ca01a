"""What an audit of posteriors trains, and how long that takes."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from divulge.auditing.shadowing import shadow_maker, trial
from divulge.auditing.subject import PRIVATE, Subject
from divulge.defenses import Defense


@dataclass(frozen=True)
class Cost:
    """What an audit will train, if none of it is stored yet.

    Args:
        shadows: shadow models of the target.
        retrained: models trained anew for the defenses to try.
        seconds: how long all of it takes, about.
    """

    shadows: int
    retrained: int
    seconds: float


def estimate(subject: Subject) -> Cost:
    """What an audit will train, and how long that takes.

    The time is that of two batches of one torch module, under each defense, times what there is to do; a classifier
    that is fitted in another way is not timed.
    """
    maker, obstacle = shadow_maker(subject)
    count = 0 if obstacle else subject.budget.shadows
    if maker is None or not count:
        return Cost(count, 0, 0.0)
    tried = subject.retrained
    members, pool = len(subject.corpus.parts[PRIVATE[0]]), len(subject.corpus.rows(PRIVATE))
    seconds = _pace(subject, maker, subject.trained_under) * (count * pool / 2 + (members if tried else 0))
    seconds += sum(_pace(subject, maker, one) for one in tried) * (count * pool / 2 + members)
    retrained = len(tried) * (count + 1) + 1 if tried else 0
    return Cost(count, retrained, seconds * subject.recipe.epochs)


def _pace(subject: Subject, maker: Callable[[], nn.Module], defense: Defense | None) -> float:
    """Seconds that one record takes in one epoch, in a second trial: what is computed but once is done by then."""
    rows = min(2 * subject.recipe.batch_size, len(subject.corpus.rows(PRIVATE)))
    trial(subject, maker, rows, defense=defense)
    started = time.perf_counter()
    trial(subject, maker, rows, defense=defense)
    return (time.perf_counter() - started) / rows
