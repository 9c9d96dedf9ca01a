"""Black-box canaries: what they are made of, and what the loss of the final model shows of the training."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from divulge.auditing.canaries import CANARIES
from divulge.auditing.canaries.audit import audit_training
from divulge.auditing.canaries.inputs import Blank, ClipBkd, Mislabelled, losses
from divulge.data import Dataset
from divulge.models.mlp import MLP
from divulge.training import Recipe, logits
from divulge.training.private import Privacy, loop


@pytest.fixture(scope="module")
def digits():
    images = load_digits()
    pixels = torch.tensor(images.images / 16, dtype=torch.float32)[:, None]
    return Dataset(pixels, torch.tensor(images.target))[:700]


@pytest.fixture
def model(digits):
    return MLP((64,)).build(digits.shape, 10, seed=0)


def table(digits):
    return Dataset(digits.inputs.flatten(1), digits.targets)


def test_mislabelled_canaries_are_records_that_leave_the_data_with_another_label(digits, model):
    planted = Mislabelled().plant(model, digits, 50, seed=3)
    assert len(planted.records) == 650
    own = {digest: int(label) for digest, label in zip(digits.hashes(), digits.targets, strict=True)}
    left = set(planted.records.hashes())
    for digest, label in zip(planted.canaries.hashes(), planted.canaries.targets, strict=True):
        assert own[digest] != int(label)
        assert digest not in left
    assert len(set(planted.canaries.targets.tolist())) == 10


@pytest.mark.parametrize("kind", [Blank(), ClipBkd()], ids=lambda kind: kind.name)
def test_crafted_canaries_have_the_worst_label(kind, digits, model):
    planted = kind.plant(model, digits, 9, seed=0)
    answers = logits(model, planted.canaries.inputs)
    np.testing.assert_array_equal(answers.argmin(axis=1), planted.canaries.targets.numpy())
    assert torch.equal(planted.records.inputs, digits.inputs)
    assert len(set(planted.canaries.hashes())) == 9


def test_blank_canaries_are_blank(digits, model):
    made = Blank().plant(model, digits, 5, seed=0).canaries.inputs
    assert torch.equal(made.flatten(1).amax(1), made.flatten(1).amin(1))
    assert made.flatten(1)[:, 0].tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_clipbkd_canaries_point_where_the_data_do_not_vary(digits):
    data = table(digits)
    made = ClipBkd().plant(MLP(()).build(data.shape, 10, seed=0), data, 6, seed=0).canaries.inputs.double()
    length = data.inputs.double().norm(dim=1).mean()
    torch.testing.assert_close(made @ made.T, length**2 * torch.eye(6, dtype=torch.float64), atol=1e-3, rtol=1e-3)
    spread = (data.inputs.double() @ (made / length).T).std(dim=0)
    principal = torch.linalg.svdvals(data.inputs.double() - data.inputs.double().mean(dim=0)) / (len(data) - 1) ** 0.5
    torch.testing.assert_close(spread.sort().values, principal.flip(0)[:6], atol=1e-3, rtol=1e-2)


def audited(data, **more):
    privacy = Privacy(noise_multiplier=20.0, steps=100, clip=0.5, noise_seed=0)
    recipe = Recipe(epochs=1, batch_size=len(data), optimizer="sgd", lr=2.0, momentum=0.9)
    return audit_training(privacy, data, MLP((64,)), recipe, **{"kind": "mislabelled", "canaries": 300, **more})


def test_missing_noise_is_caught_from_the_final_model_alone(digits, monkeypatch):
    honest = audited(digits[:400])
    assert honest.epsilon == pytest.approx(1.99, abs=0.01)
    assert not honest.caught
    monkeypatch.setattr(loop, "add_noise", lambda sums, scale, generator: None)
    audit = audited(digits[:400])
    assert audit.caught, str(audit)
    assert audit.strongest.name in ("one-run", "ledger-guesses")


@pytest.mark.parametrize("kind", ["mislabelled", "blank", "clipbkd"])
def test_the_training_as_it_is_is_not_caught(kind, digits):
    data = digits[:200]
    before = [value.clone() for value in (data.inputs, data.targets)]
    state = torch.get_rng_state()
    audit = audited(data, kind=kind, canaries=60)
    assert not audit.caught
    assert np.isfinite(audit.scores).all()
    assert audit.ledger.records == (140 if kind == "mislabelled" else 200) + audit.members.sum()
    for value, copy in zip((data.inputs, data.targets), before, strict=True):
        assert torch.equal(value, copy)
    assert torch.equal(torch.get_rng_state(), state)


def test_scores_are_how_far_training_lowered_the_loss(digits, model):
    planted = CANARIES.make("mislabelled").plant(model, digits, 20, seed=0)
    before = losses(model, planted.canaries)
    with torch.no_grad():
        model[-1].bias += torch.arange(10.0)
    expected = before - losses(model, planted.canaries)
    np.testing.assert_allclose(planted.scores(None, None, None), expected)
