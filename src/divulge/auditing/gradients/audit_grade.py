"""How bad a finding about gradients is: shares of clients with intervals, beside their control."""

from dataclasses import dataclass

import numpy as np

from divulge.auditing.gradients.audit_strongest import Rebuilt
from divulge.metrics import Estimate, clopper_pearson
from divulge.metrics.intervals import bootstrap


@dataclass(frozen=True)
class Grade:
    """What the strongest reconstructions of the clients of one case come to.

    Args:
        band: how bad it is, an index into `divulge.auditing.facts.BANDS`.
        exact: share of the records that were rebuilt exactly.
        recognizable: share that can be recognized, exact ones among them.
        exact_elsewhere: share that are another record of the class exactly, as where two are alike.
        by_chance: share of the same reconstructions that could be taken for another record of the class.
        closeness: median over clients of the decibels to the true record.
        elsewhere: of those to another record of its class.
        lead: median over clients of the difference of the two.
        labels: share of class numbers read right; None where none was read.
        clients: how many.
        records: how many.
    """

    band: int
    exact: Estimate
    exact_elsewhere: Estimate
    recognizable: Estimate
    by_chance: Estimate
    closeness: Estimate
    elsewhere: Estimate
    lead: Estimate
    labels: float | None
    clients: int
    records: int


def grade(rebuilt: Rebuilt, *, seed: int, confidence: float = 0.95) -> Grade:
    """Grade one case; records of one batch are no independent draws, so intervals are over clients.

    Nothing counts unless it surely exceeds the control. Beyond that: `exact` where surely half of the records or more
    were rebuilt exactly; `strong` where any was, or half can be recognized; `moderate` where some can; `weak` where
    they are only nearer than another record of the class.

    Args:
        rebuilt: the reconstructions.
        seed: of the bootstrap.
        confidence: of the intervals.
    """

    def share(name: str, *, control: bool = False) -> Estimate:
        by_client = rebuilt.by_client(name, control=control)
        low, high = clopper_pearson(by_client.sum(), len(by_client), confidence=confidence)
        return Estimate(float(by_client.mean()), float(low), float(high))

    def middle(values: np.ndarray) -> Estimate:
        return bootstrap(_median, values, seed=seed, confidence=confidence)

    near, far = (rebuilt.by_client("psnr", control=control) for control in (False, True))
    seen = rebuilt.by_client("recognizable") - rebuilt.by_client("recognizable", control=True)
    surely_seen = bootstrap(_mean, seen, seed=seed, confidence=confidence).low > 0
    exact, recognizable, lead = share("exact"), share("recognizable"), middle(near - far)
    if exact.low >= 0.5:
        band = 4
    elif exact.value > 0 or (surely_seen and recognizable.value >= 0.5):
        band = 3
    elif surely_seen:
        band = 2
    else:
        band = 1 if lead.low > 0 else 0
    labels = rebuilt.labels[~np.isnan(rebuilt.labels)]
    return Grade(
        band,
        exact,
        share("exact", control=True),
        recognizable,
        share("recognizable", control=True),
        middle(near),
        middle(far),
        lead,
        float(labels.mean()) if len(labels) else None,
        len(rebuilt),
        len(rebuilt) * rebuilt.case.batch,
    )


def _median(values: np.ndarray) -> float:
    return float(np.median(values))


def _mean(values: np.ndarray) -> float:
    return float(values.mean())
