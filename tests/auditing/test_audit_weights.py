"""`divulge.audit(..., access="weights")`: what comes back out of the weights, or why nobody looked."""

import pytest
import torch
from torch import nn

import divulge
from divulge.auditing import weights
from divulge.auditing.probes import reconstruction
from divulge.auditing.weights_step import alike, search
from divulge.data import Dataset, load
from divulge.errors import BadInputError
from divulge.models.homogeneous import HomogeneousMLP
from divulge.runs.engines import LocalEngine
from divulge.runs.store import Store
from divulge.training.margin import Descent, fit_to_margin

QUESTION = "Do training records come back out of the weights?"


def part(start, count):
    data = load("digits")
    rows = torch.cat([(data.targets == kind).nonzero()[start : start + count, 0] for kind in (3, 8)])
    return Dataset(data.inputs[rows], torch.arange(2).repeat_interleave(count), classes=("3", "8"))


@pytest.fixture(scope="module")
def members():
    return part(0, 10)


@pytest.fixture(scope="module")
def model(members):
    model = HomogeneousMLP(hidden=(200, 100)).build((1, 8, 8), 2, seed=0)
    fit_to_margin(model, members, Descent(loss=1e-6))
    return model


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """Every step as if it took a millisecond, and just enough of them."""
    monkeypatch.setattr(weights, "_pace", lambda attack, release: 1e-3)
    monkeypatch.setattr(reconstruction, "SECONDS", {"quick": 1.21})


def audited(model, members, tmp_path, **settings):
    settings = {"access": "weights", "budget": "quick", "run_dir": tmp_path / "run", "logits": True, **settings}
    return divulge.audit(model, members=members, nonmembers=part(40, 40), engine=LocalEngine(1), **settings)


def card(report):
    (found,) = (one for one in report.facts.cards if one.question == QUESTION)
    return found


def test_planted_records_come_back_into_the_verdict_with_a_gallery_and_its_control(model, members, tmp_path):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = audited(model, members, tmp_path)
    found = card(report)
    assert found.band == 3
    assert found.finding.low > found.finding.control.high
    assert "can rebuild training records" in found.sentence
    assert report.facts.released == "posteriors and weights of a torch module"
    assert report.verdict.band >= 3
    if report.verdict.sentence == found.sentence:
        assert "dp-sgd" in report.verdict.advice
    (section,) = (one for one in report.facts.sections if one.title == "What the weights give back")
    originals, control = (block for block in section.blocks if block.kind == "gallery")
    assert originals.rows == ["training picture", "out of the weights"]
    assert control.title.startswith("Control")
    assert all(len(tile.images) == 2 for tile in (*originals.tiles, *control.tiles))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    page = report.save(tmp_path / "out").read_text()
    assert "out of the weights" in page
    assert divulge.Report.read(tmp_path / "out").facts == report.facts
    name = f"{search.__module__}:{search.__name__}"
    (first,) = Store(tmp_path / "run").steps(function=name)
    assert card(audited(model, members, tmp_path)) == found
    assert [one.key for one in Store(tmp_path / "run").steps(function=name)] == [first.key], "searched once"


def test_of_a_network_of_others_nothing_surely_comes_back(members, tmp_path):
    other = HomogeneousMLP(hidden=(200, 100)).build((1, 8, 8), 2, seed=0)
    fit_to_margin(other, part(20, 10), Descent(loss=1e-6))
    found = card(audited(other, members, tmp_path))
    assert found.finding is not None
    assert found.finding.control.n == 20, "ten of each class, as of the members"
    assert found.band == 0


def test_the_control_is_of_the_members_classes():
    others = part(40, 40)
    assert others.targets[alike(part(0, 10), others, seed=0)].bincount().tolist() == [10, 10]
    assert others[:45].targets[alike(part(0, 10), others[:45], seed=0)].bincount().tolist() == [10, 5]


def normed():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


REASONS = {
    "batch norm": (normed, "BatchNorm1d"),
    "not trained to a small loss": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), "loss"),
    "probabilities": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 2), nn.Softmax(1)), "Softmax"),
}


@pytest.mark.parametrize("case", REASONS)
def test_why_nobody_looked(case, members, tmp_path):
    make, reason = REASONS[case]
    found = card(audited(make(), members, tmp_path, logits=None))
    assert found.finding is None
    assert found.band is None
    assert found.sentence.startswith("The weights were not searched")
    assert reason in found.sentence


def test_too_many_records_are_told_before_anything_is_searched(model, members, tmp_path, monkeypatch):
    monkeypatch.setattr(reconstruction, "MOST", 15)
    assert "there are 20 training records" in card(audited(model, members, tmp_path)).sentence


def test_weights_are_of_a_module_and_not_asked_for_unless_named(model, members, tmp_path):
    with pytest.raises(BadInputError, match="weights: expected a torch module"):
        audited(lambda x: torch.full((len(x), 2), 0.5), members, tmp_path, logits=None)
    report = audited(model, members, tmp_path, access="posteriors")
    assert all(one.question != QUESTION for one in report.facts.cards)
    assert any("--access weights" in line for line in report.facts.not_tested)
