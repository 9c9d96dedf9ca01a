"""The prior-aware attack: against closed forms, the ledger's bound, and where there is nothing to find."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from divulge.attacks import ATTACKS
from divulge.attacks.reconstruction import PriorAware, Recorder, Transcript
from divulge.attacks.reconstruction.prior_aware import clipped_gradients
from divulge.auditing.reconstruction import audit_reconstruction
from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.metrics import clopper_pearson
from divulge.models.cnn import CNN
from divulge.models.mlp import MLP, Softmax
from divulge.privacy.ledger import Ledger, Phase
from divulge.privacy.tradeoff import most_reconstruction
from divulge.training import Recipe
from divulge.training.private import Privacy, fit_private, loop
from divulge.training.private.clipping import clipper, flat


@pytest.fixture(scope="module")
def digits():
    images = load_digits()
    return Dataset(torch.tensor(images.data / 16, dtype=torch.float32), torch.tensor(images.target))


def private(*, noise, steps, **more):
    return Privacy(noise_multiplier=noise, steps=steps, noise_seed=0, **more)


def recipe(**more):
    return Recipe(**{"epochs": 1, "batch_size": 31, "optimizer": "sgd", "lr": 0.5, "momentum": 0.0, **more})


def test_clipped_gradients_are_those_of_the_training(digits):
    data, model = digits[:20], MLP((8,)).build((64,), 10, seed=0)
    privacy = private(noise=1.0, steps=1, clip=0.3)
    first = parameters_to_vector(model.parameters()).detach()
    weights = torch.stack([first, first + 0.1])
    for row, each in zip(weights, clipped_gradients(model, weights, data.inputs, data.targets, privacy), strict=True):
        other = MLP((8,)).build((64,), 10, seed=0)
        vector_to_parameters(row.clone(), other.parameters())
        total = clipper(other)(data.inputs, data.targets, flat(0.3)).sums
        torch.testing.assert_close(each.sum(0).float(), torch.cat([part.flatten() for part in total]))
    assert torch.equal(first, parameters_to_vector(model.parameters()))


@pytest.mark.parametrize("more", [{}, {"momentum": 0.9, "weight_decay": 0.1}], ids=["plain", "momentum and decay"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_transcript_holds_the_noisy_sums(digits, more, schedule, monkeypatch):
    seen, real = [], loop.add_noise

    def add_noise(sums, scale, generator):
        real(sums, scale, generator)
        seen.append(torch.cat([part.flatten() for part in sums]).double())

    monkeypatch.setattr(loop, "add_noise", add_noise)
    model, privacy = MLP((4,)).build((64,), 10, seed=0), private(noise=1.0, steps=6, schedule=schedule)
    record = Recorder(model)
    ledger = fit_private(model, digits[:62], recipe(**more), privacy, seed=0, step_watch=record).ledger
    transcript = Transcript(model, torch.stack(record.weights), recipe(**more), privacy, ledger)
    torch.testing.assert_close(transcript.sums, torch.stack(seen), atol=2e-4, rtol=1e-3)


def opposites(n, seed=0):
    """Pairs of candidates whose gradients under two-class softmax regression point in opposite directions."""
    inputs = torch.rand(n, 6, generator=torch.Generator().manual_seed(seed)) + 1
    return Dataset(inputs, torch.randint(2, (n,), generator=torch.Generator().manual_seed(seed + 1)))


def test_success_meets_the_bound_where_two_candidates_point_in_opposite_directions():
    # A record with one label or the other: nobody can do better than the tight curve says, and the attack does as well.
    noise, steps, right, trials = 3.2, 4, 0, 120
    privacy = private(noise=noise, steps=steps, clip=0.1)
    known = opposites(8)
    for trial in range(trials):
        one = opposites(1, seed=100 + trial)
        pair = Dataset(one.inputs.repeat(2, 1), torch.tensor([0, 1]))
        truth = int(one.targets)
        data = Dataset(torch.cat([known.inputs, one.inputs]), torch.cat([known.targets, one.targets]))
        model = Softmax().build((6,), 2, seed=trial)
        drawn = Privacy(**{**vars(privacy), "noise_seed": trial})
        record = Recorder(model)
        setting = recipe(batch_size=9, lr=0.05)
        ledger = fit_private(model, data, setting, drawn, seed=trial, step_watch=record).ledger
        seen = Transcript(model, torch.stack(record.weights), setting, drawn, ledger)
        right += PriorAware().run(seen, known=known, candidates=pair).best == truth
    bound = most_reconstruction(ledger, 0.5)
    low, high = clopper_pearson(right, trials)
    assert bound == pytest.approx(0.734, abs=1e-3)  # Phi(2 / 3.2)
    assert low <= bound <= high
    assert low > 0.5


@pytest.mark.parametrize(
    ("setting", "expected"),
    [({"noise": 2.0, "steps": 16, "batch_size": 31}, 0.764), ({"noise": 0.7, "steps": 12, "batch_size": 8}, None)],
    ids=["full", "sampled"],
)
def test_success_lies_between_chance_and_the_bound_and_is_chance_without_the_record(digits, setting, expected):
    privacy = Privacy(noise_multiplier=setting["noise"], steps=setting["steps"], noise_seed=0)
    audit = audit_reconstruction(
        privacy, digits, Softmax(), recipe(batch_size=setting["batch_size"]), known=30, candidates=10, trials=24
    )
    if expected:
        assert audit.bound == pytest.approx(expected, abs=1e-3)
    assert audit.bound == most_reconstruction(audit.ledger, 0.1)
    assert 0.1 < audit.success.low <= audit.bound
    assert audit.success.control.low < 0.1 < audit.success.control.high
    assert audit.success.n == 24
    assert not audit.caught
    assert "Guessing is right 10 of every 100 times, and no attack can be right more than" in str(audit)


def test_missing_noise_is_caught(digits, monkeypatch):
    monkeypatch.setattr(loop, "add_noise", lambda sums, scale, generator: None)
    audit = audit_reconstruction(
        private(noise=4.0, steps=8), digits, Softmax(), recipe(), known=30, candidates=10, trials=15
    )
    assert audit.caught
    assert "does not keep its promise" in str(audit)


def transcript(data, **more):
    setting = recipe(**{key: more.pop(key) for key in ("optimizer", "augment") if key in more})
    model, privacy = Softmax().build((64,), 10, seed=0), private(noise=1.0, steps=2, **more)
    weights = torch.zeros(3, 650)
    return Transcript(model, weights, setting, privacy, Ledger(62, (Phase(0.5, 1.0, 2),)))


@pytest.mark.parametrize(
    ("more", "candidates", "message"),
    [
        ({}, 1, "expected two candidates or more, got 1"),
        ({"clipping": "adaptive"}, 2, "adaptive clipping"),
        ({"augment": ("flip",)}, 2, "random augmentation"),
        ({"optimizer": "adam"}, 2, "expected a recipe with the optimizer sgd, got adam"),
    ],
)
def test_bad_input(digits, more, candidates, message):
    with pytest.raises(BadInputError, match=message):
        PriorAware().run(transcript(digits, **more), known=digits[:5], candidates=digits[5 : 5 + candidates])


def test_a_transcript_of_other_steps_and_too_few_records_are_refused(digits):
    with pytest.raises(BadInputError, match="each of the ledger's 3 steps, got 3 of them"):
        Transcript(MLP(()).build((64,), 10, seed=0), torch.zeros(3, 1), recipe(), private(noise=1.0, steps=2),
                   Ledger(62, (Phase(0.5, 1.0, 3),)))  # fmt: skip
    with pytest.raises(BadInputError, match="expected 30 records or more, for 25 known ones and 5 candidates, got 20"):
        audit_reconstruction(
            private(noise=1.0, steps=2), digits[:20], Softmax(), recipe(), known=25, candidates=5, trials=1
        )


def test_registered_and_leaves_everything_as_it_was(digits):
    assert ATTACKS.make("prior-aware") == PriorAware()
    seen = transcript(digits)
    seen.model.train()
    before, state = parameters_to_vector(seen.model.parameters()).clone(), torch.get_rng_state()
    one, two = (PriorAware().run(seen, known=digits[:5], candidates=digits[5:9]) for _ in range(2))
    np.testing.assert_array_equal(one.evidence, two.evidence)
    assert one.evidence.shape == (4,)
    assert torch.equal(before, parameters_to_vector(seen.model.parameters()))
    assert torch.equal(state, torch.get_rng_state())
    assert seen.model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in seen.model.parameters())


def test_a_convolution_and_frozen_weights():
    data = Dataset(torch.rand(6, 1, 8, 8), torch.arange(6) % 3)
    model = CNN((4,), hidden=8).build((1, 8, 8), 3, seed=0).eval()
    for parameter in list(model.parameters())[:2]:
        parameter.requires_grad_(False)
    weights = Recorder(model).weights[0][None]
    [rows] = clipped_gradients(model, weights, data.inputs, data.targets, private(noise=1.0, steps=1, clip=1e6))
    functional.cross_entropy(model(data.inputs), data.targets, reduction="sum").backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
    torch.testing.assert_close(rows.sum(0).float(), expected, atol=1e-5, rtol=1e-4)
