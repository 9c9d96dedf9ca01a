"""A killed private training of a run goes on where it was, and ends where it would have."""

import numpy as np
import pytest
import torch

from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.train import Training, train
from divulge.data import Dataset
from divulge.defenses.dp_sgd import DpSgd
from divulge.models.mlp import MLP
from divulge.runs.step import Step
from divulge.runs.store import Store
from divulge.runs.worker import perform
from divulge.training import Recipe
from divulge.training.private import loop

EPOCHS, EACH = 4, 5


class KilledError(Exception):
    pass


@pytest.fixture
def begin(tmp_path):
    generator = torch.Generator().manual_seed(0)
    data = Dataset(torch.rand(100, 6, generator=generator), torch.randint(3, (100,), generator=generator))

    def begin(name, **changes):
        store = Store(tmp_path / name)
        corpus = keep(Corpus(data, {"train": np.arange(100)}), store)
        defense = DpSgd(noise_multiplier=1.0, delta=1e-3, noise_seed=3)
        recipe = Recipe(epochs=EPOCHS, batch_size=100 // EACH, optimizer="adam")
        settings = Training(MLP((8,)), recipe, ("train",), ("train",), seed=0, defense=defense, **changes)
        return store, Step(train, settings, {"data": corpus})

    return begin


def killed(step, store):
    def report(done):
        if done >= 0.5:
            raise KilledError

    assert isinstance(perform(step, store, report).error, KilledError)


def steps_of(step, store, monkeypatch):
    taken, real = [], loop.drawn
    with monkeypatch.context() as patch:
        patch.setattr(loop, "drawn", lambda *args, **more: taken.append(1) or real(*args, **more))
        assert perform(step, store, lambda done: None).error is None
    return len(taken)


def test_a_killed_private_training_goes_on_and_ends_where_it_would_have(begin, monkeypatch):
    store, step = begin("killed")
    killed(step, store)
    left = store.root / "unfinished" / step.key
    assert list(left.glob("*.safetensors"))
    store.clean()
    assert steps_of(step, store, monkeypatch) == EPOCHS * EACH // 2
    assert not left.exists()
    whole, same = begin("whole")
    assert steps_of(same, whole, monkeypatch) == EPOCHS * EACH
    resumed, expected = store.read(step.key), whole.read(same.key)
    assert np.array_equal(resumed.arrays["logits"], expected.arrays["logits"])
    assert resumed.facts == expected.facts


def test_answers_after_earlier_epochs_are_never_lost(begin, monkeypatch):
    store, step = begin("killed", epochs=(1,))
    killed(step, store)
    assert steps_of(step, store, monkeypatch) == EPOCHS * EACH
    assert "logits@1" in store.read(step.key).arrays
