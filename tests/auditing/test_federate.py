from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.federate import Federating, captured, federate
from divulge.data import load
from divulge.defenses import Defense
from divulge.defenses.base import Shared
from divulge.models.mlp import MLP
from divulge.runs.engines import LocalEngine
from divulge.runs.graph import execute
from divulge.runs.step import Step
from divulge.runs.store import Store
from divulge.training import accuracy
from divulge.training.federated import Federation, fit_federated

FEDERATION = Federation(clients=4, rounds=3, steps=1, batch_size=2, split="classes", classes_per_client=3)
SETTINGS = Federating(MLP((16,)), FEDERATION, ("members",), ("held",), seed=5, snapshots=(0, 2), capture=(2,))


@dataclass(frozen=True)
class Silent(Defense):
    """Shares nothing but zeros."""

    name: ClassVar[str] = ""

    def share(self, record, *, model, inputs, targets, generator):
        return Shared(replace(record, gradients={k: torch.zeros_like(g) for k, g in record.gradients.items()}))


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def run(digits, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("run"))
    data = keep(Corpus(digits, {"held": np.arange(100), "members": np.arange(100, 400)}), store)

    def run(settings):
        step = Step(federate, settings, {"data": data})
        return execute([step], store, engine=LocalEngine(0))[step.key]

    return run


def test_the_step_is_federated_averaging_on_its_parts(run, digits):
    artifact = run(SETTINGS)
    model = MLP((16,)).build(digits.shape, 10, seed=5)
    members, held = digits[100:400], digits[:100]
    trained = fit_federated(model, members, FEDERATION, seed=5, evaluation=held, capture=(2,))
    assert np.array_equal(artifact.arrays["accuracy"], trained.accuracy)
    assert artifact.arrays["accuracy"][-1] == accuracy(model, held)
    assert all(np.array_equal(artifact.arrays[f"weight/{name}"], value) for name, value in model.state_dict().items())
    assert artifact.facts["evaluated"] == 100
    assert artifact.facts["classes"] == [3] * 4
    assert sum(artifact.facts["records"]) == 300
    for (capture, behind), reference, truth in zip(captured(artifact), trained.captures, trained.behind, strict=True):
        assert (capture.round, capture.client) == (reference.round, reference.client)
        assert np.array_equal(behind.rows, truth.rows)
        capture.record.require(capture.model(model))
        for name, gradient in reference.record.gradients.items():
            assert torch.equal(capture.record.gradients[name], gradient)


def test_snapshots_are_of_the_rounds_asked_for(run):
    arrays = run(SETTINGS).arrays
    first = MLP((16,)).build((1, 8, 8), 10, seed=5).state_dict()
    assert all(np.array_equal(arrays[f"weight@0/{name}"], value) for name, value in first.items())
    assert not np.array_equal(arrays["weight@2/1.weight"], arrays["weight/1.weight"])
    assert "weight@1/1.weight" not in arrays


def test_a_defense_acts_on_what_is_shared(run):
    artifact = run(replace(SETTINGS, defense=Silent()))
    assert np.array_equal(artifact.arrays["weight/1.weight"], artifact.arrays["weight@0/1.weight"])
    assert (artifact.arrays["moved"] == 0).all()
    assert not np.array_equal(run(SETTINGS).arrays["weight/1.weight"], artifact.arrays["weight/1.weight"])
