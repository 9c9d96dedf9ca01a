"""`divulge audit --access gradients`: what it says, writes, keeps and refuses."""

import re

import pytest

from divulge.auditing.gradients import audit_plan
from divulge.report import Report

MORE = """
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

def convolutions():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Sigmoid(), nn.Flatten(), nn.Linear(48, 3))

def normed():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)
    )

def fitted():
    return LogisticRegression().fit([[0.0] * 16, [1.0] * 16, [0.5] * 16], [0, 1, 2])

def steps():
    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(16, 3)

        def forward(self, x):
            return self.inner(x.flatten(1)).detach()

    return Steps()

def spoiled():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        model[1].weight.fill_(torch.nan)
    return model
"""


@pytest.fixture(autouse=True)
def _brief(monkeypatch):
    brief = audit_plan.Plan("quick", records=4, tried=4, steps=3, restarts=1, starting=3, samples=500)
    monkeypatch.setitem(audit_plan.PLANS, "quick", brief)


@pytest.fixture
def more(files):
    (files.root / "more.py").write_text(MORE)
    return files


def shared(files, cli, **changes):
    plain = {"access": "gradients", "nonmembers": None, "batch_sizes": "1"}
    return cli(*files.audit(**(plain | changes)))


def test_a_first_layer_that_gives_records_away(files, cli):
    status, out, err = shared(files, cli)
    assert status == 0, err
    assert err.startswith("Sharing gradients of model as clients would, 4 with a batch of 1, and attacking")
    report = Report.read(files["report"])
    assert out == f"{report}\nreport: {files['report']}/report.html\n"
    assert len(out.splitlines()) <= 11
    assert report.facts.released == "gradients of a torch module"
    assert min(report.facts.records["exact"]) is True
    assert "--access gradients" in report.facts.command
    written = sorted(path.name for path in (files.root / "report").iterdir())
    assert written == ["records.csv", "report.html", "report.json"]


def test_the_same_command_again_computes_nothing(files, cli):
    shared(files, cli)
    first = Report.read(files["report"])
    status, _, err = shared(files, cli)
    steps = [line for line in err.splitlines() if line.startswith("[")]
    assert (status, bool(steps)) == (0, True)
    assert all(line.endswith("stored already") for line in steps)
    assert Report.read(files["report"]).facts.records == first.facts.records


def test_both_releases_with_defenses_for_each(files, cli):
    status, _, err = shared(
        files, cli, access="posteriors,gradients", nonmembers=files["nonmembers.npz"], defenses="gradient-noise"
    )
    assert status == 0, err
    assert "Asking model about 120 records" in err
    assert "also under gradient-noise: at most" in err
    report = Report.read(files["report"])
    assert [card.release for card in report.facts.cards] == ["posteriors", "posteriors", "gradients"]
    assert "Defenses of gradients" in [one.title for one in report.facts.sections]
    assert any("has other records of the same kind" in line for line in report.facts.assumptions)


def test_convolutions_in_the_mode_that_is_asked_for(more, cli):
    for mode in ("training", "evaluation"):
        status, _, err = shared(more, cli, model=f"{more['more.py']}:normed", weights=None, mode=mode)
        assert status == 0, err
        assert Report.read(more["report"]).facts.settings["mode of the clients' model"] == mode


BAD = {
    "another access": ({"access": "answers"}, "access: expected one of posteriors, weights, gradients.*'answers'"),
    "sizes that are no numbers": ({"batch_sizes": "one"}, "--batch-sizes: expected numbers such as 1,4, got 'one'"),
    "sizes of gradients that nobody shares": (
        {"access": "posteriors", "batch_sizes": "1,4", "nonmembers": "nonmembers.npz"},
        "--batch-sizes: used where gradients are audited",
    ),
    "a batch larger than the sample": ({"batch_sizes": "1,99"}, "batch size 99: expected more records"),
    "posteriors without non-members": (
        {"access": "posteriors", "batch_sizes": None},
        "--nonmembers is needed to audit posteriors",
    ),
    "a scikit-learn model": ({"model": "fitted"}, "torch module, and this is a LogisticRegression"),
    "an endpoint": (
        {"model": None, "weights": None, "endpoint": "http://127.0.0.1:9", "endpoint-model": "m"},
        "torch module, and this is a Endpoint",
    ),
    "tables of posteriors": (
        {"model": None, "weights": None, "members": "members_table.csv", "nonmembers": "nonmembers_table.csv"},
        "--model is needed.*a table of answers does not have",
    ),
    "no model at all": ({"model": None, "weights": None}, "--model is needed"),
    "a model outside of autograd": ({"model": "steps"}, "has no gradient"),
    "NaN among the weights": ({"model": "spoiled"}, "NaN or infinity"),
    "a defense of answers": ({"defenses": "top-k"}, "top-k acts on training or on answers"),
    "a defense that is none": ({"defenses": "sotaria"}, "nearest is 'soteria'"),
    "no such records": ({"members": "nowhere.npz"}, "nowhere.npz"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_audited_is_refused_in_a_line(case, more, cli):
    changes, message = BAD[case]
    changes = dict(changes)
    if isinstance(changes.get("model"), str):
        changes |= {"model": f"{more['more.py']}:{changes['model']}", "weights": None}
    for side in ("members", "nonmembers"):
        if side in changes:
            changes[side] = more[changes[side]]
    status, out, err = shared(more, cli, **changes)
    assert (status, out) == (2, "")
    said = err.splitlines()[-1]
    assert said.startswith("divulge: ")
    assert re.search(message, said), said
    assert not (more.root / "report").exists(), "a report of nothing"
