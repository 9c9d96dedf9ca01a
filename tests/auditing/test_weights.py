"""Records out of a user's own network within a time: what comes back, and the reasons why no search is tried."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from divulge.attacks.reconstruction.theory import Departures, departures
from divulge.auditing import weights
from divulge.auditing.weights import Rebuilt, rebuild
from divulge.data import Dataset, load
from divulge.models.homogeneous import HomogeneousMLP
from divulge.training.margin import Descent, fit_to_margin


def part(start: int, count: int) -> Dataset:
    data = load("digits")
    rows = torch.cat([(data.targets == kind).nonzero()[start : start + count, 0] for kind in (3, 8)])
    return Dataset(data.inputs[rows], torch.arange(2).repeat_interleave(count), classes=("3", "8"))


@pytest.fixture(scope="module")
def members() -> Dataset:
    return part(0, 10)


@pytest.fixture(scope="module")
def model(members) -> nn.Module:
    model = HomogeneousMLP(hidden=(200, 100)).build((1, 8, 8), 2, seed=0)
    fit_to_margin(model, members, Descent(loss=1e-6))
    return model


@pytest.fixture
def fast(monkeypatch):
    """Every step as if it took a millisecond, whatever this machine is doing."""
    monkeypatch.setattr(weights, "_pace", lambda attack, release: 1e-3)


def test_members_come_back_and_strangers_do_not(model, members, fast):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen: list[float] = []
    out = rebuild(model, members, part(40, 40), seconds=1.21, watch=seen.append)
    assert isinstance(out, Rebuilt)
    assert out.found.n == out.found.control.n == 20
    assert out.found.low > out.found.control.high
    assert out.found.control.value == 0
    assert out.settings["steps of each"] == "302"
    assert out.originals.shape == out.back.shape == out.strangers_back.shape == (12, 1, 8, 8)
    assert (out.likeness.diff() <= 0).all()
    assert (out.back.min(), out.back.max()) == (0, 1)
    assert seen[-1] == 1
    assert out.caveats == ()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_of_a_network_of_others_no_more_comes_back_than_of_strangers(members, fast):
    other = HomogeneousMLP(hidden=(200, 100)).build((1, 8, 8), 2, seed=0)
    fit_to_margin(other, part(40, 10), Descent(loss=1e-6))
    with torch.no_grad():
        # they are told from each other by a larger answer, so that their loss does not end the audit
        other[-2].weight *= 1e3
    wrong = Dataset(members.inputs, other(members.inputs).argmax(1), classes=members.classes)
    out = rebuild(other, wrong, part(60, 40), seconds=1.21)
    assert isinstance(out, Rebuilt)
    assert out.found.low <= out.found.control.high


def test_tables_are_judged_by_correlation(fast):
    draw = torch.Generator().manual_seed(0)
    rows, others = 40 * torch.rand(2, 8, 30, generator=draw) - 20
    members = Dataset(rows, torch.arange(2).repeat_interleave(4))
    model = HomogeneousMLP(hidden=(200,)).build((30,), 2, seed=0)
    fit_to_margin(model, members, Descent(loss=1e-6))
    out = rebuild(model, members, Dataset(others, members.targets), seconds=1.21)
    assert isinstance(out, Rebuilt)
    assert out.judged.startswith("correlation above 0.9")
    assert out.likeness.isfinite().all()


def test_every_reason_is_told(model, members, fast, monkeypatch):
    others = part(40, 10)
    fresh = HomogeneousMLP(hidden=(9,)).build((1, 8, 8), 2, seed=0)
    normed = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    frozen = HomogeneousMLP(hidden=(9,)).build((1, 8, 8), 2, seed=0).requires_grad_(False)
    for network, records, seconds, told in (
        (fresh, members, 10, "mean loss is 0.69"),
        (normed, members, 10, "BatchNorm1d does not pass a scale on"),
        (frozen, members, 10, "requires_grad"),
        (model, members[:1], 10, "two members and two non-members or more, got 1 and 20"),
        (model, members, 0.4, "enough for 100 steps of each search on this network, which needs 300 or more: about"),
    ):
        reason = rebuild(network, records, others, seconds=seconds)
        assert isinstance(reason, str)
        assert reason.startswith("The weights were not searched: ")
        assert told in reason
    monkeypatch.setattr(weights, "MOST", 19)
    assert "there are 20 training records" in rebuild(model, members, others, seconds=10)


def test_the_pace_is_that_of_a_step(monkeypatch):
    ticks = iter([0.0, 9.0, 10.0, 11.0, 20.0, 31.0])  # what is done once takes 1 and was slow the first time
    monkeypatch.setattr(weights, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    monkeypatch.setattr(weights.KKT, "run", lambda self, release, generator: None)
    assert weights._pace(weights.KKT(), None) == pytest.approx(2.0)


def test_what_the_theory_loses_is_told():
    whole = HomogeneousMLP().build((1, 8, 8), 10, seed=0)
    assert departures(whole) == Departures()
    assert departures(whole).told() == ()
    mixed = nn.Sequential(
        *(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.GELU(), nn.Flatten(), nn.Dropout(), nn.Linear(72, 2)), nn.Tanh()
    )
    lost = departures(mixed)
    assert lost == Departures(("5",), ("GroupNorm", "GELU", "Tanh"))
    assert "only nearly" in lost.told()[0]
    assert lost.told()[1].startswith("GroupNorm, GELU, Tanh does not pass a scale on")
