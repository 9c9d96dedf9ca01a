"""An audit of gradients from end to end: what it finds, what it must not find, and that it leaves everything alone."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import divulge
from divulge.auditing.facts import Facts, Gallery, Scatter, Table
from divulge.auditing.gradients import audit_plan
from divulge.data import load
from divulge.defenses import Defense
from divulge.defenses.base import Shared
from divulge.models import seeded
from divulge.models.lenet import LeNet
from divulge.models.mlp import MLP
from divulge.releases import GradientRecord
from divulge.report import Report
from divulge.runs.engines import LocalEngine
from divulge.runs.progress import Silent


class Silence(Defense):
    """Shares nothing but what the last layer's bias tells: that is the labels."""

    name = ""

    def share(self, record, *, model, inputs, targets, generator):
        names = list(record.gradients)
        kept = {
            name: gradient if name == names[-1] else torch.zeros_like(gradient)
            for name, gradient in record.gradients.items()
        }
        facts = {key: value for key, value in vars(record).items() if key != "gradients"}
        return Shared(GradientRecord(kept, **facts))


class Steps(Silent):
    """Remembers which steps were computed and which were there."""

    def __init__(self):
        self.seen = []

    def done(self, step, seconds, cached):
        self.seen.append((step.title, cached))


@pytest.fixture(scope="module")
def digits():
    return load("digits")[:200]


@pytest.fixture(scope="module")
def mlp(digits):
    return MLP((64,)).build(digits.shape, digits.num_classes, seed=0)


def audited(model, members, tmp_path, **changes):
    settings = {"access": "gradients", "budget": "quick", "run_dir": tmp_path / "run", "engine": LocalEngine(1)}
    return divulge.audit(model, members=members, **(settings | changes))


def section(report, title) -> list:
    return next(one.blocks for one in report.facts.sections if one.title == title)


@pytest.fixture
def short(monkeypatch):
    """The quick budget, quicker still."""
    brief = audit_plan.Plan("quick", records=4, tried=4, steps=3, restarts=1, starting=3, samples=500)
    monkeypatch.setitem(audit_plan.PLANS, "quick", brief)


def test_a_biased_first_layer_gives_every_record_away_exactly(digits, mlp, tmp_path):
    before, state = copy.deepcopy(mlp.state_dict()), torch.get_rng_state()
    report = audited(mlp.train(), digits, tmp_path, batch_sizes=(1,))
    assert report.verdict.band == 4
    assert "can compute that record exactly: all 8 records" in report.verdict.sentence
    assert "0 of 8 would count" in report.verdict.confidence
    assert "layer 1 hands them over" in report.verdict.advice
    (card,) = report.facts.cards
    assert (card.release, card.band, card.finding.value, card.finding.control.value) == ("gradients", 4, 1.0, 0.0)
    assert card.finding.low < 0.7 < card.finding.high
    records = report.facts.records
    assert records["exact"] == [True] * 8
    assert min(records["score"]) > 80
    sheet = next(block for block in section(report, "What was rebuilt") if isinstance(block, Gallery))
    assert [tile.heading for tile in sheet.tiles][:: len(sheet.tiles) - 1] == ["Best", "Worst"]
    assert all(tile.images[0] == tile.images[1] != tile.images[2] for tile in sheet.tiles), "exact to the pixel"
    assert any("a closed form had rebuilt every batch" in line for line in report.facts.not_tested)
    # everything is as it was
    assert mlp.training
    assert all(torch.equal(before[name], value) for name, value in mlp.state_dict().items())
    assert all(parameter.grad is None for parameter in mlp.parameters())
    assert torch.equal(state, torch.get_rng_state())


def test_the_report_travels_as_json(digits, mlp, tmp_path):
    report = audited(mlp, digits, tmp_path, batch_sizes=(1,), run_dir=tmp_path)
    report.save(tmp_path / "report")
    again = Report.read(tmp_path / "report")
    assert again.facts == report.facts
    assert again.facts.schema == "divulge.report/2"
    assert "batch_sizes=(1,)" in again.facts.command


def test_reports_of_the_older_layout_are_still_read(digits, mlp, tmp_path):
    report = audited(mlp, digits, tmp_path, batch_sizes=(1,))
    older = tmp_path / "older.json"
    older.write_text(report.facts.to_json().replace("divulge.report/2", "divulge.report/1"))
    assert Facts.read(older).verdict == report.verdict


def test_a_defense_that_shares_labels_alone_is_seen_to_work(digits, mlp, tmp_path, short):
    report = audited(mlp, digits, tmp_path, batch_sizes=(1,), defenses=[Silence()])
    scatter = next(block for block in section(report, "Defenses of gradients") if isinstance(block, Scatter))
    table = [block for block in section(report, "Defenses of gradients") if isinstance(block, Table)][-1]
    rows = {(row[0], row[1]): row for row in table.rows}
    assert rows["none", "none"][3].startswith("100 %")
    for adversary in ("blind", "adaptive"):
        assert rows["", adversary][2].startswith("0 %"), "nothing can be recognized"
        assert rows["", adversary][3].startswith("0 %")
    assert ("", "oracle") not in rows, "it draws nothing"
    silent = [point for point in scatter.points if point.series == ""]
    plain = next(point for point in scatter.points if point.series == "none")
    assert max(point.y for point in silent) < 30 < plain.y
    assert all(0 < point.x < 0.9 for point in silent)
    assert "accuracy" in section(report, "Defenses of gradients")[0].text


def test_the_grid_compares_adversaries_of_a_registered_defense(digits, mlp, tmp_path, short):
    report = audited(mlp, digits, tmp_path, batch_sizes=(1,), defenses="gradient-noise")
    table = [block for block in section(report, "Defenses of gradients") if isinstance(block, Table)][-1]
    assert [row[1] for row in table.rows] == ["none", "blind", "adaptive", "oracle"]


def test_a_convolutional_network_is_searched_and_scored_with_a_control(digits, tmp_path, short):
    model = LeNet(activation="relu").build(digits.shape, digits.num_classes, seed=0)
    report = audited(model, digits, tmp_path, batch_sizes=(2,))
    attacks = next(
        block for block in section(report, "What was rebuilt") if getattr(block, "title", "") == "Every attack that ran"
    )
    assert {(row[0], row[1]) for row in attacks.rows} >= {("inverting-gradients", 2)}
    assert any("first-layer: " in line for line in report.facts.not_tested), "refusals are told"
    assert report.facts.cards[0].finding.control is not None
    assert np.isfinite(report.facts.records["score"]).all()


def test_sigmoid_convolutions_are_peeled(digits, tmp_path, short):
    model = LeNet().build(digits.shape, digits.num_classes, seed=0)
    report = audited(model, digits, tmp_path, batch_sizes=(1,))
    assert "exact" in report.facts.records["attack"] or min(report.facts.records["score"]) > 50
    assert report.facts.cards[0].finding.value == 1.0


def test_rows_of_a_table_stand_side_by_side_in_their_own_units(tmp_path):
    generator = torch.Generator().manual_seed(0)
    rows = 40 + 15 * torch.randn(60, 5, generator=generator)
    data = divulge.Dataset(
        rows, torch.arange(60) % 2, classes=("no", "yes"), features=("age", "height", "weight", "pulse", "sleep")
    )
    with seeded(1):
        model = nn.Sequential(nn.Linear(5, 24), nn.ReLU(), nn.Linear(24, 2))
    report = audited(model, data, tmp_path, batch_sizes=(1,))
    assert report.verdict.band == 4
    best = section(report, "What was rebuilt")[0]
    assert best.columns == ["column", "original", "rebuilt", "another of its class"]
    assert [row[0] for row in best.rows] == ["age", "height", "weight", "pulse", "sleep"]
    given = {f"{value:.4g}" for value in rows.flatten().tolist()}
    for row in best.rows:
        assert row[1] in given
        assert float(row[1]) == pytest.approx(float(row[2]), abs=0.05)
        assert row[3] in given
    assert any("range of each column" in line for line in report.facts.assumptions)


def test_the_same_call_again_computes_nothing(digits, mlp, tmp_path):
    first, second = Steps(), Steps()
    one = audited(mlp, digits, tmp_path, batch_sizes=(1,), progress=first)
    two = audited(mlp, digits, tmp_path, batch_sizes=(1,), progress=second)
    assert not all(cached for _, cached in first.seen)
    assert second.seen
    assert all(cached for _, cached in second.seen)
    assert one.facts == two.facts


def test_both_releases_have_a_verdict_each_in_one_report(digits, mlp, tmp_path):
    members, others = digits[:100], digits[100:]
    report = audited(mlp, members, tmp_path, nonmembers=others, access="posteriors,gradients", batch_sizes=(1,))
    posteriors, drawings, gradients = report.facts.cards
    assert drawings.question == "What does the model show of each class?"
    assert (posteriors.release, gradients.release) == ("posteriors", "gradients")
    assert posteriors.band == 0, "nobody trained it"
    assert (gradients.band, report.verdict.band) == (4, 4)
    assert report.verdict.sentence == gradients.sentence
    assert gradients.confidence
    assert posteriors.advice
    assert report.facts.released == "posteriors and gradients of a torch module"
    titles = [one.title for one in report.facts.sections]
    assert titles.index("The picture") < titles.index("What was rebuilt")
    assert "member" in report.facts.records


def normed(drop=0.0):
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(drop), nn.Flatten(),
            nn.Linear(256, 10),
        )  # fmt: skip


def flat_norm():
    with seeded(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))


@pytest.mark.parametrize(
    ("model", "training", "mode", "why"),
    [
        (normed(), None, "training", "has batch norm"),
        (normed(), False, "evaluation", "as asked for"),
        (normed(0.5), None, "evaluation", "has dropout"),
        (flat_norm(), None, "evaluation", "cannot be computed in training mode"),
    ],
)
def test_the_mode_of_the_clients_is_chosen_and_said(digits, tmp_path, short, model, training, mode, why):
    modes = [module.training for module in model.modules()]
    statistics = {name: value.clone() for name, value in model.named_buffers()}
    report = audited(model, digits, tmp_path, batch_sizes=(1,), training=training)
    assert report.facts.settings["mode of the clients' model"] == mode
    assert any(f"in {mode} mode, " in line and why in line for line in report.facts.assumptions)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(statistics[name], value) for name, value in model.named_buffers())


def frozen():
    return MLP((8,)).build((1, 8, 8), 10, seed=0).requires_grad_(False)


def spoiled():
    model = MLP((8,)).build((1, 8, 8), 10, seed=0)
    with torch.no_grad():
        model[-1].weight[0, 0] = torch.nan
    return model


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(64, 10)

    def forward(self, x):
        return self.inner(x.flatten(1)).detach()


def estimator():
    from sklearn.linear_model import LogisticRegression

    inputs = np.random.default_rng(0).random((40, 64))
    return LogisticRegression().fit(inputs, np.arange(40) % 10)


BAD = {
    "no members": ({"members": None}, "members: "),
    "one member": ({"few": 1}, "two classes|more records than one batch|not even one client"),
    "a scikit-learn model": ({"model": estimator}, "torch module, and this is a LogisticRegression"),
    "an endpoint": (
        {"model": lambda: divulge.Endpoint("http://127.0.0.1:9", "m")},
        "torch module, and this is a Endpoint|torch module, and this is an Endpoint",
    ),
    "a function": (
        {"model": lambda: lambda rows: np.full((len(rows), 10), 0.1)},
        "torch module, and this is a function",
    ),
    "another access": ({"access": "answers"}, "access: expected one of posteriors, weights, gradients.*got 'answers'"),
    "no access": ({"access": ()}, "got nothing"),
    "posteriors without non-members": ({"access": "posteriors"}, "nonmembers: posteriors are audited with"),
    "a model that learns nothing": ({"model": frozen}, "has no gradient"),
    "a model outside of autograd": ({"model": Detached}, "has no gradient"),
    "NaN among the weights": ({"model": spoiled}, "NaN or infinity"),
    "a batch larger than the sample": ({"batch_sizes": (500,)}, "batch size 500: expected more records than one batch"),
    "a batch as large as the sample": ({"batch_sizes": (200,)}, "batch size 200"),
    "no batch size": ({"batch_sizes": ()}, "batch sizes: expected one or several of 1 or more"),
    "a batch of none": ({"batch_sizes": (0,)}, "batch sizes: expected one or several of 1 or more"),
    "a budget that is none": ({"budget": "huge"}, "budget: expected one of quick, standard, thorough"),
    "a negative seed": ({"seed": -1}, "seed: expected 0 or more"),
    "a defense of answers": ({"defenses": "top-k"}, "top-k acts on training or on answers.*Add posteriors"),
    "a defense of gradients for posteriors": (
        {"defenses": "gradient-noise", "access": "posteriors"},
        "gradient-noise acts on the gradients.*Add gradients",
    ),
    "batch norm in training mode on one row": (
        {"model": flat_norm, "training": True},
        "a batch of 1 in training mode raised ValueError",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_a_word_on_what_to_do(case, digits, mlp, tmp_path):
    changes, message = BAD[case]
    changes = dict(changes)
    members = digits[: changes.pop("few", len(digits))]
    members = changes.pop("members", members)
    model = changes.pop("model", lambda: mlp)()
    with pytest.raises(divulge.errors.BadInputError, match=message):
        audited(model, members, tmp_path, **changes)
