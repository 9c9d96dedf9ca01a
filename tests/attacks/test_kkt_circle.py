"""Points on a circle come back from the network that tells them apart; and what a search refuses or passes over."""

import math

import pytest
import torch
from torch import nn

from divulge.attacks.reconstruction import KKT, Candidates
from divulge.attacks.reconstruction.chain import Chain
from divulge.attacks.reconstruction.kkt import _Adam, _Momentum
from divulge.attacks.reconstruction.theory import Departures, departures
from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.models.homogeneous import HomogeneousMLP
from divulge.releases import Weights
from divulge.training.margin import Descent, fit_to_margin

ANGLES = 2 * math.pi * torch.arange(6) / 6


def circle(turn: float) -> torch.Tensor:
    return torch.stack([(ANGLES + turn).cos(), (ANGLES + turn).sin()], dim=1)


@pytest.fixture(scope="module")
def found() -> Candidates:
    """Six points of alternating classes, all on the margin.

    Smaller first weights stay for long where nothing tells these points apart. Every neuron ends with a point of the
    other class on its edge, where its slope is none of 0 and 1, so only a smooth one explains the weights.
    """
    model = HomogeneousMLP(hidden=(300,), first_std=0.1).build((2,), 2, seed=0)
    ended = fit_to_margin(model, Dataset(circle(0), torch.arange(6) % 2), Descent(loss=1e-5, length=0.1))
    assert ended.reached
    attack = KKT(
        candidates=3,
        runs=8,
        steps=1000,
        start=(0.1, 1.0),
        lr=(1e-3, 1e-2),
        multiplier_lr=(1e-2, 1e-1),
        least=(0.01, 0.05),
        sharpness=(10.0, 100.0),
        limits=(-2.0, 2.0),
    )
    return attack.run(Weights(model, (2,), 2), generator=torch.Generator().manual_seed(0))


def test_all_points_come_back_in_the_search_with_the_least_loss(found):
    mine = found.run == found.losses.argmin()
    away = torch.cdist(circle(0), found.inputs[mine])
    assert float(away.amin(1).max()) < 0.05
    assert torch.equal(found.targets[mine][away.argmin(1)], torch.arange(6) % 2)


def test_points_between_them_do_not(found):
    mine = found.run == found.losses.argmin()
    assert float(torch.cdist(circle(math.pi / 6), found.inputs[mine]).amin(1).min()) > 0.4


def test_layers_that_pass_no_scale_on_are_told_and_the_general_form_is_offered():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
    release = Weights(model, (1, 2, 2), 2)
    with pytest.raises(BadInputError, match=r"BatchNorm1d does not pass a scale on.*multipliers='free'"):
        KKT(candidates=2, runs=1, steps=2).run(release, generator=torch.Generator())
    general = KKT(candidates=2, runs=1, steps=2, multipliers="free").run(release, generator=torch.Generator())
    assert general.facts["caveats"] == [
        "Biases after the first layer (4) do not scale with the rest of the network, so its weights tend to a sum over "
        "the records on the margin only nearly.",
        "BatchNorm1d does not pass a scale on, so training without weight decay need not lead the weights to any sum "
        "over the records.",
    ]


def test_a_shortcut_that_changes_nothing_departs_from_nothing():
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.Sequential(), nn.ReLU(), nn.Linear(6, 2, bias=False))
    assert departures(model) == Departures()


@pytest.mark.parametrize("move", [_Adam, _Momentum])
def test_moves_are_made_where_the_points_are(move):
    points = move(torch.zeros(2, 3, 4, device="meta"))
    points.step(torch.ones(2, 3, 4, device="meta"), 0.1)
    assert points.at.device.type == "meta"


def test_an_unknown_range_draws_candidates_nowhere():
    release = Weights(HomogeneousMLP(hidden=(5,), first_std=None).build((4,), 2, seed=0), (4,), 2)
    near, far = (
        KKT(candidates=2, runs=1, steps=300, start=(9.0, 9.0), limits=limits, lr=(0.1, 0.1)).run(
            release, generator=torch.Generator().manual_seed(0)
        )
        for limits in ((0.0, 1.0), None)
    )
    assert float(near.inputs.abs().max()) < float(far.inputs.abs().max())
    for limits in ((1.0, 0.0), (-math.inf, 1.0), (0.0, math.nan)):
        with pytest.raises(BadInputError, match="none where they are not known"):
            KKT(limits=limits)


def test_sequences_inside_a_sequence_and_dropout_are_seen_through():
    inner = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 2, bias=False))
    model = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 6), nn.ReLU()), inner)
    chain = Chain.of(Weights(model, (1, 2, 2), 2))
    assert [tuple(weight.shape) for weight in chain.weights] == [(6, 4), (2, 6)]
