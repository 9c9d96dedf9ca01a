import sys
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec
from types import SimpleNamespace

import pytest
import torch

from divulge.attacks import ATTACKS
from divulge.attacks.gradients.base import GradientAttack, Reconstructions
from divulge.auditing.flower import Deployment, attack_run, load_captures, run_flower, save_captures
from divulge.auditing.flower import run as running
from divulge.auditing.flower.server import audit_strategy
from divulge.errors import BadInputError, MissingExtraError, StepError
from divulge.training.federated import Federation, fit_federated

ONE_RECORD = Deployment(
    data="digits",
    architecture={"name": "mlp", "hidden": [24]},
    federation=Federation(clients=2, rounds=2, steps=1, batch_size=1, lr=0.1),
    seed=3,
)


def simulated(deployment):
    data = deployment.records()
    model, federation = deployment.model(data), deployment.federation
    trained = fit_federated(model, data, federation, seed=deployment.seed, capture=range(1, federation.rounds + 1))
    return trained


def same(one, other):
    assert (one.round, one.client, one.replayable, one.record.facts) == (
        other.round,
        other.client,
        other.replayable,
        other.record.facts,
    )
    assert list(one.record.gradients) == list(other.record.gradients)
    for mine, theirs in ((one.public, other.public), (one.record.gradients, other.record.gradients)):
        assert set(mine) == set(theirs)
        assert all(torch.allclose(mine[name], theirs[name], atol=1e-6) for name in mine)


@pytest.mark.flower
def test_a_run_of_real_processes_is_the_simulated_one_and_its_records_give_the_digits_away(tmp_path):
    captures = run_flower(ONE_RECORD, tmp_path / "run", timeout=240)
    expected = simulated(ONE_RECORD)
    assert len(captures) == 4
    for capture, reference in zip(captures, expected.captures, strict=True):
        same(capture, reference)
    attack = ATTACKS.make("first-layer")
    exposed = attack_run(ONE_RECORD, captures, attack, generator=torch.Generator().manual_seed(0))
    for one, behind in zip(exposed, expected.behind, strict=True):
        assert torch.equal(one.truth, ONE_RECORD.records().inputs[behind.rows])
        assert one.answer.exact
        assert one.error.max() < 1e-10
        assert one.control.min() > 1e-3


def test_the_rows_behind_a_record_are_drawn_again_for_batches_too():
    deployment = Deployment(
        data="digits",
        architecture={"name": "mlp", "hidden": [512]},
        federation=Federation(clients=3, rounds=1, steps=1, batch_size=2, split="classes", classes_per_client=4),
    )
    trained = simulated(deployment)
    found = attack_run(
        deployment,
        trained.captures,
        ATTACKS.make("active-neurons"),
        generator=torch.Generator().manual_seed(0),
    )
    for one, behind in zip(found, trained.behind, strict=True):
        assert torch.equal(one.truth, deployment.records().inputs[behind.rows])
        assert one.error.max() < 1e-8


@dataclass(frozen=True)
class Half(GradientAttack):
    """Rebuilds the first record of a batch of two, and leaves the other out."""

    truth: torch.Tensor | None = None

    def invert(self, records, model, *, knowledge, generator):
        inputs = torch.stack([self.truth[0], torch.zeros_like(self.truth[0])])[None]
        return Reconstructions(inputs, None, torch.zeros(1), found=torch.tensor([[True, False]]))


def test_a_record_that_was_not_rebuilt_has_no_error():
    deployment = replace(ONE_RECORD, federation=Federation(clients=2, rounds=1, steps=1, batch_size=2))
    trained = simulated(deployment)
    truth = deployment.records().inputs[trained.behind[0].rows]
    (found,) = attack_run(
        deployment, trained.captures[:1], Half(truth=truth), generator=torch.Generator().manual_seed(0)
    )
    assert found.error[0] == 0
    assert found.error[1].isnan()
    assert found.control.isfinite().all()


@pytest.mark.flower
def test_a_round_that_a_client_fails_in_ends_the_run(tmp_path):
    strategy = audit_strategy(ONE_RECORD, ONE_RECORD.model(ONE_RECORD.records()), tmp_path)
    failed = SimpleNamespace(has_error=lambda: True, error=SimpleNamespace(reason="Out of memory."))
    with pytest.raises(BadInputError, match=r"all 2 clients in round 1, got 0\. Out of memory\."):
        strategy.aggregate_train(1, [failed])


def test_captures_are_saved_whole_and_read_back(tmp_path):
    trained = simulated(ONE_RECORD)
    for number in (2, 1):
        path = save_captures([one for one in trained.captures if one.round == number], tmp_path)
    assert path.name == "round-000001.safetensors"
    assert len(list(tmp_path.iterdir())) == 2
    for capture, reference in zip(load_captures(tmp_path), trained.captures, strict=True):
        same(capture, reference)


def test_folders_without_captures_or_with_something_else_are_refused(tmp_path):
    with pytest.raises(BadInputError, match="expected the saved rounds"):
        load_captures(tmp_path)
    (tmp_path / "round-000001.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(BadInputError, match="expected a saved round"):
        load_captures(tmp_path)


def test_settings_survive_being_written(tmp_path):
    ONE_RECORD.write(tmp_path / "settings.json")
    assert Deployment.read(tmp_path / "settings.json") == ONE_RECORD
    with pytest.raises(BadInputError, match="every client takes part"):
        Deployment("digits", {"name": "mlp"}, Federation(fraction=0.5))


def test_without_flower_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'divulge\[flower\]'"):
        run_flower(ONE_RECORD, tmp_path / "run")


def test_a_folder_that_holds_something_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "find_spec", lambda name: ModuleSpec(name, None))
    (tmp_path / "something").touch()
    with pytest.raises(BadInputError, match="expected an empty folder"):
        run_flower(ONE_RECORD, tmp_path)


def test_a_run_that_takes_too_long_is_ended_and_its_log_told(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "find_spec", lambda name: ModuleSpec(name, None))
    scripts = tmp_path / "bin"
    scripts.mkdir()
    for name in ("flower-superlink", "flower-supernode"):
        (scripts / name).write_text(f"#!/bin/sh\necho {name} is up\nsleep 60\n")
        (scripts / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(scripts / "python"))
    with pytest.raises(StepError, match=r"(?s)took too long for the server to listen.*is up"):
        run_flower(ONE_RECORD, tmp_path / "run", timeout=2)


def test_importing_the_audit_of_flower_runs_does_not_import_flower():
    import subprocess

    code = "import sys, divulge.auditing.flower, divulge.auditing.flower.client; sys.exit('flwr' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
