"""What stochastic layers drew, where an oracle adversary knows it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from divulge.attacks.gradients.plan import Plan
from divulge.attacks.gradients.rounds import Round
from divulge.errors import BadInputError


def knowing(plan: Plan, one: Round) -> Plan:
    """The same plan with the noise of stochastic layers that is among a round's randomness.

    Raises:
        BadInputError: noise for some of these layers only, for another number of records, or of another shape.
    """
    drawn = [one.randomness] if isinstance(one.randomness, Mapping) else one.randomness
    replay = plan.replay
    if not isinstance(drawn, Sequence) or not any(name in each for each in drawn for name in replay.layers):
        return plan
    wanted = replay.shapes
    for each in drawn:
        got = {name: each[name].shape for name in wanted if name in each}
        if got != wanted or len(drawn) != len(one.records):
            raise BadInputError(
                f"expected the noise of every stochastic layer for each of {len(one.records)} records, "
                f"{ {name: tuple(shape) for name, shape in wanted.items()} }, got "
                f"{ {name: tuple(shape) for name, shape in got.items()} } for one of {len(drawn)}."
            )
    like = next(iter(plan.shared.values()))
    noise = {name: torch.stack([each[name] for each in drawn]).to(like) for name in wanted}
    return replace(plan, noise=noise, restoring=False)
