"""`divulge audit` beyond membership: weights, drawings and attributes; resumed, and with hostile names."""

import json

import numpy as np
import pytest

from divulge.report import Report

HOSTILE = "<script>alert(1)</script>"


def test_weights_are_announced_audited_and_told(files, cli):
    status, out, err = cli(*files.audit(access="weights"))
    assert status == 0, err
    announced = err.splitlines()
    assert announced[0].startswith("Asking model about 120 records and training no shadow models: about ")
    assert announced[1].startswith(
        "Looking for training records in the weights, where there is a use in it: about 20 s"
    )
    assert announced[2].startswith("Drawing 3 of 3 classes by 1,500 queries and with the weights: about ")
    report = Report.read(files["report"])
    assert report.facts.released == "posteriors and weights of a torch module"
    cards = {card.question: card for card in report.facts.cards}
    assert cards["Do training records come back out of the weights?"].sentence.startswith(
        "The weights were not searched"
    )
    assert cards["What does the model show of each class?"].finding is not None
    assert len(out.splitlines()) <= 11


def test_a_killed_audit_goes_on_where_it_stopped_and_comes_to_the_same(files, cli, monkeypatch):
    from divulge.auditing.probes import inversion

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(inversion, "outcome", interrupted)
        status, _, err = cli(*files.audit())
        assert (status, "goes on from there" in err) == (130, True)
    assert not (files.root / "report").exists()
    status, _, err = cli(*files.audit())
    assert status == 0
    steps = [line for line in err.splitlines() if line.startswith("[")]
    assert any("inversion-by-queries" in line for line in steps)
    assert all(line.endswith("stored already") for line in steps)


@pytest.fixture
def table(files):
    """Two CSV files with a column of a hostile name, and a model of their columns."""
    rng = np.random.default_rng(0)
    for name, count in (("members", 60), ("nonmembers", 120)):
        lines = [f"a,{HOSTILE},label"]
        lines += [f"{rng.random():.3f},{'xy'[rng.integers(2)]},{rng.integers(2)}" for _ in range(count)]
        (files.root / f"{name}.csv").write_text("\n".join(lines))
    (files.root / "flat.py").write_text("from torch import nn\n\ndef build():\n    return nn.Linear(3, 2)\n")
    return {"model": f"{files['flat.py']}:build", "weights": None} | {
        name: files[f"{name}.csv"] for name in ("members", "nonmembers")
    }


def test_a_column_is_named_and_guessed_and_its_name_stays_text(files, cli, table):
    status, _, err = cli(*files.audit(**table, attributes=HOSTILE))
    assert status == 0, err
    assert f"Guessing {HOSTILE}: about" in err
    facts = json.loads((files.root / "report" / "report.json").read_text())
    (card,) = (one for one in facts["cards"] if one["question"] == "What does the model tell of a record's attributes?")
    assert card["finding"]["metric"].startswith(f"{HOSTILE}, precision at top")
    assert facts["schema"] == "divulge.report/2"
    assert "<script>alert" not in (files.root / "report" / "report.html").read_text()


def test_an_unknown_column_and_a_table_of_answers_are_refused(files, cli, table):
    status, _, err = cli(*files.audit(**table, attributes="race"))
    assert (status, "no column 'race'" in err) == (2, True)
    plain = {name: files[f"{name}_table.csv"] for name in ("members", "nonmembers")}
    status, _, err = cli(*files.audit(model=None, weights=None, **plain, attributes="race"))
    assert (status, "--attributes needs --model" in err) == (2, True)


def test_attacks_are_listed_by_kind(cli):
    from divulge.attacks import ATTACKS
    from divulge.cli.listing import KINDS, attacks_by_kind

    found = attacks_by_kind()
    assert list(found)[: len(KINDS)] == list(KINDS)
    assert sorted(name for own in found.values() for name in own) == sorted(ATTACKS.classes)
    assert "mi-face" in found["inversion"]
    assert "lira" in found["membership"]
    status, out, _ = cli("list", "attacks")
    lines = out.splitlines()
    assert status == 0
    assert [line.split()[0] for line in lines if line.strip() in KINDS] == list(KINDS)
