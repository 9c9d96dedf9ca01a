"""Networks that training steps leave, with what a defense built into them."""

import numpy as np
import pytest
import torch
from torch import nn

from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.extraction import fresh, released
from divulge.auditing.train import Training, train
from divulge.data import Dataset, load
from divulge.defenses.dropout import Dropout
from divulge.models.mlp import MLP
from divulge.runs.engines import LocalEngine
from divulge.runs.graph import execute
from divulge.runs.step import Step
from divulge.runs.store import Store
from divulge.training import Recipe, logits

NETWORK, DROPPED = MLP((24,)), Dropout(0.4, patience=None)


@pytest.fixture
def corpus():
    """Digits that a network is taught the parity of, and of which an adversary wants to know whether they are large."""
    digits = load("digits")[:600]
    large = (digits.targets >= 5).long()
    data = Dataset(digits.inputs, digits.targets % 2, attributes={"large": large}, classes=("even", "odd"))
    return Corpus(data, {"train": np.arange(200), "known": np.arange(200, 400), "test": np.arange(400, 600)})


def ran(store, *steps):
    done = execute(list(steps), store, engine=LocalEngine(0))
    return [done[step.key] for step in steps]


@pytest.mark.parametrize("defense", [None, DROPPED])
def test_the_released_network_answers_as_the_trained_one(corpus, defense, tmp_path):
    store = Store(tmp_path)
    data = keep(corpus, store)
    training = Training(NETWORK, Recipe(epochs=2, batch_size=32), ("train",), ("test",), seed=3, defense=defense)
    (artifact,) = ran(store, Step(train, training, {"data": data}))
    model = released(NETWORK, (1, 8, 8), 2, artifact, defense=defense)
    assert not model.training
    assert any(isinstance(layer, nn.Dropout) for layer in model.modules()) == (defense is not None)
    assert np.allclose(logits(model, corpus.part("test").inputs), artifact.arrays["logits"][0], atol=1e-6)
    blank = fresh(NETWORK, (1, 8, 8), 2, seed=3, defense=defense)
    assert model.state_dict().keys() == blank.state_dict().keys()
    assert not all(torch.equal(value, blank.state_dict()[name]) for name, value in model.state_dict().items())
