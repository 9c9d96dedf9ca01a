"""`divulge audit --ledger`: both bounds on the terminal, and files that are no ledger."""

import json

import pytest

from divulge.privacy.accounting import epsilon
from divulge.privacy.ledger import Ledger, Phase
from divulge.privacy.words import up
from divulge.report import Report

LEDGER = Ledger(500, (Phase(0.1, 1.0, 50),))


@pytest.fixture
def ledger(files):
    LEDGER.save(files["ledger.json"])
    return files["ledger.json"]


def test_both_bounds_stand_on_the_terminal_and_in_the_report(files, cli, ledger):
    status, out, err = cli(*files.audit(ledger=ledger, delta=1e-6))
    assert status == 0, err
    (line,) = (line for line in out.splitlines() if line.startswith("Promise: "))
    most = f"{up(epsilon(LEDGER, delta=1e-6).epsilon, 3):g}"
    assert f"Epsilon is at most {most} at delta 1e-6 by the ledger, and at least 0 by the attack" in line
    assert len(out.splitlines()) <= 11
    report = Report.read(files["report"])
    assert report.facts.promise in line
    assert "What epsilon promises" in [section.title for section in report.facts.sections]
    assert f"--ledger {ledger} --delta 1e-06" in report.facts.command
    page = (files.root / "report" / "report.html").read_text()
    assert f"ruled out by epsilon = {most}" in page
    assert "the others are taken to be the same" in page
    assert cli("report", files["report"])[1] == f"{report}\n"


def edited(values):
    values["phases"][0]["noise_multiplier"] = 9.0


def older(values):
    values["schema"] = "divulge.ledger/0"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected a privacy ledger, got No such file or directory"),
        ("{", "got broken JSON"),
        ("[]", "got a JSON list"),
        ("{}", "expected a ledger of version divulge.ledger/1, got None"),
        (older, "got 'divulge.ledger/0'"),
        (edited, "its digest does not match, so it was changed after it was saved"),
        (Ledger(59, LEDGER.phases), "on all 60 members or more, got one on 59 records"),
        (Ledger(200_000, LEDGER.phases), "delta: expected less than 1/200,000"),
    ],
)
def test_files_that_are_no_ledger_of_this_model_are_refused(files, cli, content, message):
    path = files.root / "ledger.json"
    if isinstance(content, str):
        path.write_text(content)
    elif isinstance(content, Ledger):
        content.save(path)
    elif content:
        values = LEDGER.to_dict()
        content(values)
        path.write_text(json.dumps(values))
    status, out, err = cli(*files.audit(ledger=path))
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (files.root / "report").exists()


def test_a_delta_alone_is_refused(files, cli):
    status, _, err = cli(*files.audit(delta=1e-5))
    assert status == 2
    assert "--delta needs --ledger" in err
