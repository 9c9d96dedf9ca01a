"""An interrupted private training goes on where it was, and its ledger never counts too little."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from divulge.data import Dataset
from divulge.errors import BadInputError, StoreError
from divulge.models import seeded
from divulge.privacy.ledger import Ledger
from divulge.training import Privacy, Recipe, fit_private

RECIPE = Recipe(epochs=4, batch_size=20, lr=0.01, augment=("flip",), precision="float32")
PRIVACY = Privacy(noise_multiplier=1.0, delta=1e-3, noise_seed=5)
FORMS = {
    "adam": (RECIPE, replace(PRIVACY, averaging=0.9, schedule="cosine", multiplicity=2)),
    "momentum": (replace(RECIPE, optimizer="sgd"), replace(PRIVACY, clipping="adaptive")),
    "shuffled": (replace(RECIPE, optimizer="sgd", momentum=0.0), replace(PRIVACY, sampling="shuffled")),
}


class StoppedError(Exception):
    """What a test stops a training with."""


def images(n=80):
    generator = torch.Generator().manual_seed(0)
    return Dataset(torch.rand(n, 1, 4, 4, generator=generator), torch.arange(n) % 3)


def network():
    with seeded(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 3))


def run(recipe=RECIPE, privacy=PRIVACY, **more):
    model = network()
    return model, fit_private(model, images(), recipe, privacy, seed=0, **more)


def same(model, other):
    return all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def stopping_at(last):
    def step_watch(step, model):
        if step == last:
            raise StoppedError

    return step_watch


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stops", [(1,), (4,), (6, 7, 11)])
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(form, stops, tmp_path):
    path, visited = tmp_path / "run.safetensors", []
    whole_model, whole = run(*FORMS[form])
    for last in stops:
        with pytest.raises(StoppedError):
            run(*FORMS[form], checkpoint=path, step_watch=stopping_at(last))
    model, resumed = run(*FORMS[form], checkpoint=path, step_watch=lambda step, m: visited.append(step))
    assert visited == list(range(stops[-1] + 1, 17))
    assert same(model, whole_model)
    assert repr(resumed) == repr(whole)  # NaN is not equal to itself
    again, finished = run(*FORMS[form], checkpoint=path)
    assert same(again, whole_model)
    assert repr(finished) == repr(whole)


def test_a_resumed_run_draws_noise_that_was_never_drawn(tmp_path):
    reached = []
    for name in ("one", "two"):
        path = tmp_path / name
        with pytest.raises(StoppedError):
            run(checkpoint=path, step_watch=stopping_at(5))
        settings = replace(PRIVACY, noise_seed=None)
        with pytest.raises(BadInputError, match=r"privacy.noise_seed was 5 and is None"):
            run(privacy=settings, checkpoint=path)
        secret = tmp_path / f"secret {name}"
        with pytest.raises(StoppedError):
            run(privacy=settings, checkpoint=secret, step_watch=stopping_at(5))
        copy = secret.read_bytes()
        for _ in range(2):
            secret.write_bytes(copy)
            reached.append(run(privacy=settings, checkpoint=secret)[0])
    assert not any(same(reached[i], reached[j]) for i in range(4) for j in range(i))


def spent(path):
    with safe_open(path, "pt") as file:
        return Ledger.from_dict(json.loads(file.metadata()["ledger"])).steps


LONG = replace(RECIPE, epochs=20)


def train_and_be_killed(folder):
    """In a process of its own: train, watched and not, be killed at random moments, and tell what was found."""
    found = {"watched": [], "unwatched": []}
    for name, killings in found.items():
        path, told = folder / name, folder / f"{name}.txt"

        def tell(step, model, told=told):
            with told.open("a") as file:
                file.write(f"{step}\n")

        watching = tell if name == "watched" else None
        begun = time.monotonic()
        run(LONG, checkpoint=folder / f"whole {name}", step_watch=watching)
        duration = time.monotonic() - begun
        told.write_text("")
        for _ in range(4):
            child = os.fork()
            if child == 0:
                run(LONG, checkpoint=path, step_watch=watching)
                os._exit(0)
            time.sleep(random.uniform(0, duration / 3))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            seen = [int(line) for line in told.read_text().split()]
            killings.append({"spent": spent(path) if path.exists() else 0, "seen": seen})
    (folder / "found.json").write_text(json.dumps(found))


def test_a_run_killed_at_any_moment_loses_nothing_and_counts_every_step_that_was_seen(tmp_path):
    code = f"import pathlib, {__name__} as here; here.train_and_be_killed(pathlib.Path({str(tmp_path)!r}))"
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-c", code], env=alone, check=True, timeout=200)
    found = json.loads((tmp_path / "found.json").read_text())
    whole, ledger = run(LONG)
    assert max(killings[-1]["spent"] for killings in found.values()) > 0, "every run was killed before it was saved"
    assert min(killings[0]["spent"] for killings in found.values()) < 80, "no run was killed before its end"
    for name, killings in found.items():
        counts = [one["spent"] for one in killings]
        assert counts == sorted(counts), "what was reached is lost"
        for one in killings:
            assert one["spent"] >= max([0, *one["seen"]]), "a step was seen before it was counted"
            assert len(one["seen"]) == len(set(one["seen"])), "a step was seen twice, under noise of its own each time"
        model, resumed = run(LONG, checkpoint=tmp_path / name)
        assert same(model, whole)
        assert repr(resumed) == repr(ledger)


def test_the_checkpoint_can_be_read_by_its_owner_only_and_leaves_no_litter(tmp_path):
    path = tmp_path / "run.safetensors"
    run(checkpoint=path)
    assert path.stat().st_mode & 0o077 == 0
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, f".{path.name}.lock"}


def test_nobody_else_may_train_the_same_run(tmp_path):
    path, refusals = tmp_path / "run.safetensors", []

    def step_watch(step, model):
        with pytest.raises(BadInputError, match="another process is training this run") as caught:
            run(checkpoint=path)
        refusals.append(caught.value)

    run(checkpoint=path, step_watch=step_watch)
    assert len(refusals) == 16


def rewritten(path, change):
    """Write the checkpoint anew with its notes changed."""
    with safe_open(path, "pt") as file:
        notes, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(notes, tensors)
    save_file(tensors, path, notes)


def one_step_less(notes, tensors):
    ledger = json.loads(notes["ledger"])
    ledger["phases"][0]["steps"] -= 1
    notes["ledger"] = json.dumps(ledger)


def other_weights(notes, tensors):
    tensors["model/1.weight"] += 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (one_step_less, "digest does not match, so it was damaged or edited"),
        (other_weights, "digest does not match"),
        (lambda notes, tensors: notes.pop("ledger"), "its ledger is missing"),
        (lambda notes, tensors: notes.pop("digest"), "digest does not match"),
        (lambda notes, tensors: notes.clear(), "expected a checkpoint of version"),
    ],
)
def test_an_edited_or_missing_ledger_is_refused_and_nothing_is_lost(change, message, tmp_path):
    path = tmp_path / "run.safetensors"
    run(checkpoint=path)
    rewritten(path, change)
    content = path.read_bytes()
    with pytest.raises(BadInputError, match=message):
        run(checkpoint=path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", None])
def test_a_damaged_file_is_refused(content, tmp_path):
    path = tmp_path / "run.safetensors"
    run(checkpoint=path)
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(BadInputError, match=r"expected a checkpoint of private training.*choose another path"):
        run(checkpoint=path)


@pytest.mark.parametrize(
    ("recipe", "privacy", "message"),
    [
        ({"lr": 0.02}, {}, "recipe.lr was 0.01 and is 0.02"),
        ({"epochs": 5}, {}, "recipe.epochs was 4 and is 5"),
        ({}, {"noise_multiplier": 0.9}, "privacy.noise_multiplier was 1.0 and is 0.9"),
        ({"lr": 0.02}, {"averaging": 0.9}, "privacy.averaging was None and is 0.9; recipe.lr was 0.01 and is 0.02"),
    ],
)
def test_going_on_under_other_settings_is_refused_by_name_and_nothing_is_lost(recipe, privacy, message, tmp_path):
    path = tmp_path / "run.safetensors"
    with pytest.raises(StoppedError):
        run(checkpoint=path, step_watch=stopping_at(3))
    content = path.read_bytes()
    with pytest.raises(BadInputError, match=f"{message}.*choose another path"):
        run(replace(RECIPE, **recipe), replace(PRIVACY, **privacy), checkpoint=path)
    assert path.read_bytes() == content
    assert run(privacy=replace(PRIVACY, microbatch=7), checkpoint=path)[1].ledger.steps == 16


def test_another_network_or_other_data_cannot_go_on(tmp_path):
    path = tmp_path / "run.safetensors"
    run(checkpoint=path)
    wider = nn.Sequential(nn.Flatten(), nn.Linear(16, 9), nn.Linear(9, 3))
    with pytest.raises(BadInputError, match=r"parameters\.1\.weight was \[8, 16\] and is \[9, 16\]"):
        fit_private(wider, images(), RECIPE, PRIVACY, seed=0, checkpoint=path)
    with pytest.raises(BadInputError, match=r"data\.records was 80 and is 81"):
        fit_private(network(), images(81), RECIPE, PRIVACY, seed=0, checkpoint=path)


def test_a_place_that_cannot_be_written_is_said_before_anything_is_trained(tmp_path):
    with pytest.raises(StoreError, match=r"No such file or directory. Choose another"):
        run(checkpoint=tmp_path / "absent" / "run.safetensors", step_watch=stopping_at(1))


def test_a_long_epoch_is_saved_in_between(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "monotonic", iter(range(0, 10_000, 20)).__next__)
    path, kept = tmp_path / "run.safetensors", []
    replaced = Path.replace

    def counted(self, target):
        replaced(self, target)
        kept.append(spent(path))

    monkeypatch.setattr(Path, "replace", counted)
    run(replace(RECIPE, epochs=1), replace(PRIVACY, steps=9), checkpoint=path)
    assert kept == [2, 4, 6, 8, 9]
