"""`divulge audit` on a model behind a real local server."""

import sys

import numpy as np
import pytest
from test_endpoint import server  # noqa: F401 - a fixture

from divulge.cli import main
from divulge.report import Report


@pytest.fixture
def told(tmp_path, monkeypatch, server):  # noqa: F811
    rng = np.random.default_rng(0)
    for name in ("members", "nonmembers"):
        inputs = rng.random((30, 1, 4, 4), dtype=np.float32)
        np.savez(tmp_path / f"{name}.npz", inputs=inputs, targets=rng.integers(3, size=30))

    def run(*more):
        given = ["--members", tmp_path / "members.npz", "--nonmembers", tmp_path / "nonmembers.npz"]
        given += ["--endpoint", server.url, "--endpoint-model", "digits", "--out", tmp_path / "report"]
        given += ["--run-dir", tmp_path / "run", "--budget", "quick", *more]
        monkeypatch.setattr(sys, "argv", ["divulge", "audit", *map(str, given)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0

    return run


def test_a_model_behind_an_endpoint_is_audited(told, server, tmp_path):  # noqa: F811
    assert told() == 0
    facts = Report.read(tmp_path / "report").facts
    assert facts.title == "digits"
    assert "model behind an HTTP endpoint" in facts.released
    assert facts.settings["records"] == "30 members, 30 nonmembers"
    assert facts.cards[0].needed["queries"] == "60"
    assert sum(shape[0] for shape in server.asked) == 70, "60 records, and 10 to try the model"
    before = len(server.asked)
    assert told() == 0
    assert sum(shape[0] for shape in server.asked[before:]) == 10, "what was answered once is not asked again"


def test_a_query_budget_is_kept_by_asking_about_fewer_records(told, server, tmp_path):  # noqa: F811
    assert told("--query-budget", "50") == 0
    assert sum(shape[0] for shape in server.asked) <= 50
    assert Report.read(tmp_path / "report").facts.settings["records"] == "20 members, 20 nonmembers, of 60 given"


def test_a_server_that_is_gone_is_one_line(told, server, capsys, tmp_path):  # noqa: F811
    server.healthy = False
    server.metadata = {"error": "nothing here"}
    server.faults = [lambda handler, body: handler.say(404, {"error": "no\nmodel"})] * 9
    assert told() == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "report").exists()
