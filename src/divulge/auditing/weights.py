"""Whether the training records of a network come back out of its weights, within a time."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from divulge.attacks.reconstruction import KKT, Candidates, pooled
from divulge.attacks.reconstruction.theory import departures
from divulge.data import Dataset
from divulge.metrics import Finding, clopper_pearson
from divulge.metrics.nearest import Matches, matches, stretched
from divulge.releases import Weights
from divulge.training.loop import loss_of

MOST = 5_000
"""Training records up to which the literature has found some in a network's weights (Buzaglo et al. 2023)."""
LOSS = 0.1
"""Mean cross-entropy in nats from which the weights are too far from where training would lead them."""
SEARCHES, LEAST, STEPS = 4, 300, 2000
"""Searches that are pooled; fewest and most steps of each."""
TRIAL = 5
"""Steps whose time is measured."""
SSIM, CORRELATION = 0.4, 0.9
"""Likeness from which a picture, or a row of a table, counts as come back."""
SHOWN = 12
"""Records of the gallery."""


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """What a search in a network's weights gave back.

    Args:
        found: share of the members that came back; its control is the share of the non-members that did.
        judged: what it takes to come back, in words.
        originals: the members that came back best, best first `(k, *shape)`.
        back: what came back of each `(k, *shape)`, pictures stretched to the range 0 to 1.
        likeness: how alike each pair is: SSIM of pictures (window 3), correlation of rows `(k,)`.
        strangers: non-members that come nearest to something that came back, best first `(k, *shape)`.
        strangers_back: what comes nearest to each `(k, *shape)`.
        loss: mean cross-entropy of the members in nats.
        caveats: where the theory does not cover this network, in words.
        settings: of the search, label to text.
    """

    found: Finding
    judged: str
    originals: Tensor
    back: Tensor
    likeness: Tensor
    strangers: Tensor
    strangers_back: Tensor
    loss: float
    caveats: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)


def rebuild(
    model: nn.Module,
    members: Dataset,
    nonmembers: Dataset,
    *,
    seconds: float,
    seed: int = 0,
    watch: Callable[[float], None] = lambda done: None,
) -> Rebuilt | str:
    """Look for `members` in the weights of `model` for about `seconds`, or say in words why there is no use in it.

    The attack is `divulge.attacks.reconstruction.KKT` with its settings drawn anew in each of four searches, which only
    the attacker's loss ranks. It is given the network and how many records each class has; never a record. Members
    and as many non-members are then compared with what came back, each side the other's control.

    Args:
        model: maps float32 `(N, *shape)` to logits `(N, classes)`; left as it is.
        members: all of its training records.
        nonmembers: others of their kind.
        seconds: to spend, about.
        seed: of what the attack draws.
        watch: called now and then with the share that is done.

    Returns:
        What came back; or one sentence that says why no search was tried.
    """
    reason = _unable(model, members, nonmembers)
    if reason:
        return f"The weights were not searched: {reason}"
    release = Weights(model, members.shape, members.num_classes)
    plain = KKT(candidates=2 * int(members.targets.bincount().max()), runs=1)
    if not members.is_image:
        plain = replace(plain, limits=(float(members.inputs.min()), float(members.inputs.max())))
    steps = math.floor(seconds / (SEARCHES * _pace(plain, release)))
    if steps < LEAST:
        return (
            f"The weights were not searched: {seconds:,.0f} seconds are enough for {steps} steps of each search on "
            f"this network, which needs {LEAST} or more: about {seconds * LEAST / max(steps, 1):,.0f} seconds. A "
            "larger budget searches longer (--budget)."
        )
    attack, generator = replace(plain, steps=min(steps, STEPS)), torch.Generator().manual_seed(seed)
    tried = []
    for search in range(SEARCHES):
        tried.append(attack.run(release, generator=generator))
        watch((search + 1) / SEARCHES)
    center = members.inputs.mean(dim=0)
    pool = pooled(tried, searches=SEARCHES, center=center)
    others = nonmembers[: len(members)]
    real = matches(pool.inputs, members.inputs, others.inputs, center=center)
    control = matches(pool.inputs, others.inputs, members.inputs, center=center)
    likeness, least = ("SSIM (window 3)", SSIM) if members.is_image else ("correlation", CORRELATION)
    originals, back, alike = _gallery(real, members, pool)
    strangers, strangers_back, _ = _gallery(control, others, pool)
    return Rebuilt(
        replace(_share(real, members), control=_share(control, others)),
        f"{likeness} above {least}, and nearer to this record than to any that was not in the training",
        originals,
        back,
        alike,
        strangers,
        strangers_back,
        loss_of(model, members),
        departures(model).told(),
        {
            "searches": str(SEARCHES),
            "steps of each": f"{attack.steps:,}",
            "candidates of each class": f"{attack.candidates:,}",
            "candidates left after merging": f"{len(pool.inputs):,}",
            "searches begun again with smaller steps": str(sum(one.facts["restarts"] for one in tried)),
        },
    )


def _unable(model: nn.Module, members: Dataset, nonmembers: Dataset) -> str | None:
    """Why a search would have no chance, as the end of a sentence."""
    count = len(members)
    if count > MOST:
        return (
            f"there are {count:,} training records, and so far some have been found only in networks of {MOST:,} or "
            "fewer."
        )
    if min(count, len(nonmembers)) < 2:
        return f"that takes two members and two non-members or more, got {count} and {len(nonmembers)}."
    if not any(weight.requires_grad for weight in model.parameters()):
        return "no weight of the network is marked as trained (requires_grad)."
    lost = departures(model)
    if lost.parts:
        return lost.told()[-1]
    loss = loss_of(model, members)
    if not loss <= LOSS:
        return (
            f"the members' mean loss is {loss:.3g} nats, and only training that goes on far below {LOSS:g} leads the "
            "weights to a sum over single records."
        )
    return None


def _pace(attack: KKT, release: Weights) -> float:
    """Seconds of a step, beyond what comes before the first one."""
    times = []
    for steps in (1, 1, 1 + TRIAL):
        started = time.perf_counter()
        replace(attack, steps=steps).run(release, generator=torch.Generator().manual_seed(0))
        times.append(time.perf_counter() - started)
    return max(times[-1] - times[-2], 1e-6) / TRIAL


def _good(found: Matches, records: Dataset) -> Tensor:
    return found.found & (found.ssim > SSIM if records.is_image else found.correlation > CORRELATION)


def _share(found: Matches, records: Dataset) -> Finding:
    good = int(_good(found, records).sum())
    low, high = clopper_pearson(good, len(records))
    return Finding("records that came back", good / len(records), float(low), float(high), n=len(records))


def _gallery(found: Matches, records: Dataset, pool: Candidates) -> tuple[Tensor, Tensor, Tensor]:
    """The records that came back best, what came back of each, and how alike they are."""
    likeness = found.ssim if records.is_image else found.correlation
    best = likeness.argsort(descending=True)[:SHOWN]
    back = pool.inputs[found.candidate[best]]
    return records.inputs[best], stretched(back) if records.is_image else back, likeness[best]
