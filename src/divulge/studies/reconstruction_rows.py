"""The numbers of a reconstruction study: what came back, of which records, and what its training promised."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from divulge.metrics import bootstrap, clopper_pearson
from divulge.metrics.images import ssim
from divulge.metrics.nearest import Matches, stretched
from divulge.privacy import accounting, tradeoff
from divulge.privacy.ledger import Ledger
from divulge.runs.step import Artifact
from divulge.studies.base import Row

GOOD = 0.4
"""SSIM above which the literature counts a reconstruction as good."""
WIDE = 7
"""Pixels a side of the wider window of SSIM, beside the 3 of the literature."""
NEAR = 1.5
"""Times the smallest margin, up to which a record counts as on it."""
MEDIAN = "median correlation with the nearest candidate"
PRIORS = {"1/256": 1 / 256, "one in a billion": 1e-9}


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one adversary got out of one network.

    Args:
        records: that it was trained on `(n, *shape)`.
        held_out: others `(h, *shape)`.
        candidates: of the pooled searches.
        real: what they match of the records.
        control: what they match of held-out records.
        apart: of each group of searches alone, which records came back, bool `(n,)` each.
        outputs: the margin that the network gives each record `(n,)`.
    """

    records: Tensor
    held_out: Tensor
    candidates: Tensor
    real: Matches
    control: Matches
    apart: Sequence[Tensor]
    outputs: Tensor


def good(found: Matches) -> Tensor:
    """Which records have a find that the literature would count as good, bool `(n,)`."""
    return found.found & (found.ssim > GOOD)


def counts(outcome: Outcome) -> list[Row]:
    """How many records came back, with the interval of their share; and how many held-out ones seem to."""
    real, control = outcome.real, outcome.control
    wide, chance = (
        ssim(stretched(outcome.candidates[one.candidate]), truth, window=WIDE)
        for one, truth in ((real, outcome.records), (control, outcome.held_out))
    )
    return [
        _count("records found above control", good(real), good(control)),
        _count(
            f"records found above control, window {WIDE}", real.found & (wide > GOOD), control.found & (chance > GOOD)
        ),
        _count(f"records with SSIM above {GOOD}", real.ssim > GOOD, control.ssim > GOOD),
    ]


def likenesses(outcome: Outcome) -> list[Row]:
    """How near the best and the middle record came back."""
    real, control, n = outcome.real, outcome.control, len(outcome.records)
    nearest = stretched(outcome.candidates[real.candidate])
    middle, low, high = bootstrap(np.median, real.correlation.numpy(), seed=0)
    return [
        _plain("best SSIM, window 3", float(real.ssim.max()), n, float(control.ssim.max())),
        _plain(f"best SSIM, window {WIDE}", float(ssim(nearest, outcome.records, window=WIDE).max()), n),
        _row(MEDIAN, middle, low, high, n, float(np.median(control.correlation.numpy()))),
    ]


def margins(outcome: Outcome) -> list[Row]:
    """Whether what came back lay on the margin, as the theory says, and whether other searches find the same."""
    from scipy.stats import spearmanr

    rows, found = [], good(outcome.real)
    smallest = float(outcome.outputs.min())
    if smallest > 0:
        on = outcome.outputs <= NEAR * smallest
        rows.append(_count(f"records found of those within {NEAR} times the smallest margin", found[on], None))
        rows.append(_count(f"records found beyond {NEAR} times the smallest margin", found[~on], None))
    ranks = spearmanr(outcome.outputs.numpy(), outcome.real.ssim.numpy()).statistic
    if np.isfinite(ranks):
        rows.append(_plain("rank correlation of SSIM with the margin", float(ranks), len(found)))
    if len(outcome.apart) > 1:
        both = torch.stack(list(outcome.apart)).all(dim=0)
        rows.append(_count("records found by every group of searches alone", both, None))
    return rows


def promised(trained: Artifact, n: int) -> list[Row]:
    """What the training of `n` records came to, and what it promises where it is private."""
    rows = []
    if trained.facts["loss"][0] is not None:
        rows.append(_plain("training loss", trained.facts["loss"][0], n))
    if "ledger" in trained.facts:
        ledger = Ledger.from_dict(trained.facts["ledger"][0])
        rows.append(_plain("epsilon", accounting.epsilon(ledger, delta=1 / (10 * n)).epsilon, n))
        for words, prior in PRIORS.items():
            most = float(np.asarray(tradeoff.most_reconstruction(ledger, prior)))
            rows.append(_plain(f"largest chance of rebuilding a record guessed at {words}", most, n))
    return rows


def _count(metric: str, found: Tensor, chance: Tensor | None) -> Row:
    """How many of some records, with the interval of their share; and as many as held-out records would make."""
    n, value = len(found), int(found.sum())
    low, high = (float(edge) * n for edge in clopper_pearson(value, n)) if n else (0.0, 0.0)
    return _row(metric, value, low, high, n, None if chance is None else int(chance.sum()) * n / len(chance))


def _plain(metric: str, value: float, n: int, control: float | None = None) -> Row:
    return _row(metric, value, None, None, n, control)


def _row(metric: str, value: float, low: float | None, high: float | None, n: int, control: float | None) -> Row:
    """A row whose name, published number and adversary are the study's to fill in."""
    return Row("", metric, "1", None, value, low, high, n, control, None)
