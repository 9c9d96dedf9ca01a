"""`divulge audit` on everything it takes: what it writes, and what it says on the way."""

import json

import numpy as np
import pytest
import torch

from divulge.report import Report

WRITTEN = ["records.csv", "report.html", "report.json"]


def audited(files, cli, **changes):
    status, out, err = cli(*files.audit(**changes))
    assert status == 0, err
    assert sorted(path.name for path in (files.root / "report").iterdir()) == WRITTEN
    report = Report.read(files["report"])
    assert out == f"{report}\nreport: {files['report']}/report.html\n"
    assert len(out.splitlines()) <= 11
    return report, err


def test_a_factory_and_safetensors(files, cli):
    report, err = audited(files, cli)
    assert "torch module" in report.facts.released
    assert report.facts.title == "model"
    assert err.startswith("Asking model about 120 records and training no shadow models: about 10 seconds")
    assert report.facts.command.startswith("divulge audit --model ")
    assert files["weights.safetensors"] in report.facts.command
    assert np.isfinite(report.facts.records["score"]).all()


def test_a_state_dict_gives_the_same_numbers_as_safetensors(files, cli):
    from safetensors.torch import load_file

    torch.save(load_file(files["weights.safetensors"]), files["weights.pt"])
    first, _ = audited(files, cli)
    second, _ = audited(files, cli, weights=files["weights.pt"])
    assert first.facts.records == second.facts.records


def test_shadow_models_a_recipe_a_defense_and_a_name(files, cli):
    for name in ("nonmembers",):
        held = dict(np.load(files[f"{name}.npz"]))
        more = np.random.default_rng(1).random((60, 1, 4, 4), dtype=np.float32)
        held = {"inputs": np.concatenate([held["inputs"], more]), "targets": np.tile(held["targets"], 2)}
        np.savez(files[f"{name}.npz"], **held)
    settings = {"budget": "standard", "recipe": files["recipe.toml"], "defense": "dropout", "name": "My = model"}
    report, err = audited(files, cli, **settings)
    assert "training 4 shadow models: about" in err
    assert "[1/" in err, "a line a step where there is no terminal"
    assert report.facts.title == "My = model"
    assert "epochs 3" in report.facts.settings["recipe of shadow models"]
    assert "Dropout" in report.facts.settings["defense known to the adversary"]
    assert "4 shadow models" in report.verdict.confidence
    _, again = audited(files, cli, **settings)
    steps = [line for line in again.splitlines() if line.startswith("[")]
    assert steps
    assert all(line.endswith("stored already") for line in steps)


def test_defenses_to_try_are_named_with_what_they_take(files, cli):
    held = dict(np.load(files["nonmembers.npz"]))
    more = np.random.default_rng(1).random((60, 1, 4, 4), dtype=np.float32)
    held = {"inputs": np.concatenate([held["inputs"], more]), "targets": np.tile(held["targets"], 2)}
    np.savez(files["nonmembers.npz"], **held)
    report, err = audited(files, cli, budget="standard", recipe=files["recipe.toml"], defenses="dropout, label-only")
    assert "training 4 shadow models, and 6 models to try dropout: about" in err
    (section,) = (one for one in report.facts.sections if one.title == "Defenses")
    assert {row[0] for row in section.blocks[1].rows} == {"none", "none, trained anew", "dropout", "label-only"}


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_tables_of_posteriors(kind, files, cli):
    report, _ = audited(
        files,
        cli,
        model=None,
        weights=None,
        members=files[f"members_table.{kind}"],
        nonmembers=files[f"nonmembers_table.{kind}"],
    )
    assert report.facts.released == "posteriors, given as a table"
    assert "only a table of answers was given" in " ".join(report.facts.not_tested)
    assert "No control was possible" in report.verdict.confidence
    assert len(report.facts.records["record"]) == 120
    assert report.facts.records["record"][0] == ("r0" if kind == "csv" else "member 0")


def test_a_report_is_shown_again_and_written_elsewhere(files, cli):
    report, _ = audited(files, cli)
    status, out, _ = cli("report", files["report"])
    assert (status, out) == (0, f"{report}\n")
    status, out, _ = cli("report", files["report"], "--out", files["again.html"])
    assert status == 0
    assert (files.root / "again.html").read_text() == (files.root / "report" / "report.html").read_text()
    assert json.loads((files.root / "again.json").read_text())["schema"] == report.facts.schema


@pytest.mark.parametrize("what", ["attacks", "defenses", "models", "datasets", "studies"])
def test_lists(what, cli):
    status, out, _ = cli("list", what)
    assert status == 0
    assert len(out.splitlines()) > 2


def test_an_interrupt_ends_with_a_word_on_what_is_kept(files, cli, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("divulge.auditing.audit.prepare", interrupted)
    status, out, err = cli(*files.audit())
    assert (status, out) == (130, "")
    assert err == "divulge: stopped. What was finished is kept; the same command goes on from there.\n"
