"""The private loop against the textbook, by hand, and against what its noise must be."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional

from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.models.mlp import MLP
from divulge.privacy.ledger import Phase
from divulge.training import Privacy, Recipe, accuracy, fit_private
from divulge.training import augment as augmenting
from divulge.training.private.noise import Secret
from divulge.training.private.sampling import poisson, shuffled

RARE = 1e-6
BARE = Recipe(epochs=4, batch_size=8, optimizer="sgd", lr=0.1, momentum=0.0, weight_decay=0.0, precision="float32")
NOISY = Privacy(noise_multiplier=1.0, delta=1e-3, noise_seed=5)
SILENT = replace(NOISY, noise_multiplier=1e-9, clip=1e3)
"""Noise of one millionth in all, and a bound that no gradient here reaches."""


def blobs(n=60, classes=3, width=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(classes, (n,), generator=generator)
    return Dataset(torch.randn(n, width, generator=generator) + 2 * targets[:, None].float(), targets)


def pictures(n=60):
    data = blobs(n)
    return replace(data, inputs=data.inputs.sigmoid().view(n, 1, 2, 3))


def still(n=50, width=300):
    """Records that give a linear layer without bias no gradient at all, so that every update is noise."""
    return Dataset(torch.zeros(n, width), torch.arange(n) % 2)


def flat(width=300, classes=2):
    with seeded(0):
        return nn.Linear(width, classes, bias=False)


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def trail(model, data, recipe, privacy, **more):
    """The weights before the first step and after each."""
    visited = [weights(model)]
    fit_private(model, data, recipe, privacy, seed=0, step_watch=lambda step, m: visited.append(weights(m)), **more)
    return torch.stack(visited)


@pytest.mark.parametrize(
    ("change", "how"),
    [
        ({}, {}),
        ({"momentum": 0.9, "weight_decay": 0.1}, {"schedule": "linear"}),
        ({"optimizer": "adam", "lr": 1e-2, "weight_decay": 0.1}, {"schedule": "cosine"}),
        ({"batch_size": 60, "epochs": 10}, {"schedule": "linear", "microbatch": 7}),
        ({"batch_size": 25}, {"sampling": "shuffled"}),
    ],
)
def test_without_noise_and_clipping_it_is_the_textbook_loop_on_the_same_batches(change, how):
    data, recipe, privacy = blobs(), replace(BARE, **change), replace(SILENT, **how)
    ours, theirs = (MLP((16,), activation="tanh").build(data.shape, 3, seed=1) for _ in range(2))
    private = fit_private(ours, data, recipe, privacy, seed=2)
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[recipe.optimizer]
    more = {} if recipe.optimizer == "adam" else {"momentum": recipe.momentum}
    optimizer = kind(theirs.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, **more)
    steps = private.ledger.steps
    for step in range(steps):
        done = step / steps
        optimizer.param_groups[0]["lr"] = (
            recipe.lr
            * {
                "constant": 1,
                "linear": 1 - done,
                "cosine": (1 + math.cos(math.pi * done)) / 2,
            }[privacy.schedule]
        )
        if privacy.sampling == "poisson":
            rows = poisson(60, recipe.batch_size / 60, Secret(5).at(step))
        else:
            rows = shuffled(60, recipe.batch_size, step, seed=2)
        losses = functional.cross_entropy(theirs(data.inputs[rows]), data.targets[rows], reduction="sum")
        optimizer.zero_grad()
        (losses / recipe.batch_size).backward()
        optimizer.step()
    assert torch.allclose(weights(ours), weights(theirs), atol=1e-5)
    assert not torch.allclose(
        weights(ours), weights(MLP((16,), activation="tanh").build(data.shape, 3, seed=1)), atol=0.01
    )


def test_every_step_adds_noise_of_the_promised_scale_whatever_the_size_of_its_batch():
    data, recipe = still(), replace(BARE, epochs=16, batch_size=2)
    privacy = replace(NOISY, noise_multiplier=1.7, clip=0.3)
    updates = trail(flat(), data, recipe, privacy).diff(dim=0).numpy()
    sizes = np.array([len(poisson(50, 2 / 50, Secret(5).at(step))) for step in range(len(updates))])
    assert len(updates) == 16 * 25
    assert (sizes == 0).sum() > 30, "too few empty batches to judge them by"
    unit = updates / (recipe.lr * 1.7 * 0.3 / recipe.batch_size)
    for chosen in (unit[sizes == 0], unit[sizes == 1], unit[sizes > 3]):
        low, high = stats.chi2.ppf([RARE / 2, 1 - RARE / 2], chosen.size)
        assert low < (chosen**2).sum() < high
    squares = (unit**2).sum(axis=1)
    assert stats.kstest(squares, "chi2", args=(unit.shape[1],)).pvalue > RARE
    assert stats.pearsonr(unit[:-1].ravel(), unit[1:].ravel()).pvalue > RARE, "noise of one step came back in the next"


def test_one_record_moves_the_sum_by_the_clip_norm_over_all_layers_together():
    inputs = torch.zeros(2, 6)
    inputs[0] = 50
    data = Dataset(inputs, torch.tensor([0, 1]))
    with seeded(0):
        model = nn.Sequential(nn.Linear(6, 5, bias=False), nn.ReLU(), nn.Linear(5, 2, bias=False))
    recipe = replace(BARE, batch_size=2, epochs=1)
    visited = trail(model, data, recipe, replace(NOISY, noise_multiplier=1e-9, clip=0.5))
    moved = (visited[1] - visited[0]) / recipe.lr * recipe.batch_size
    assert float(moved.norm()) == pytest.approx(0.5, rel=1e-4)


def test_how_many_records_are_in_memory_changes_neither_noise_nor_sums():
    data, reached = blobs(), []
    for microbatch in (1, 7, 512):
        model = MLP((16,)).build(data.shape, 3, seed=1)
        privacy = replace(NOISY, microbatch=microbatch, clipping="adaptive", clip=0.5)
        fit_private(model, data, replace(BARE, batch_size=20), privacy, seed=0)
        reached.append(weights(model))
    assert torch.allclose(reached[0], reached[2], atol=1e-6)
    assert torch.allclose(reached[1], reached[2], atol=1e-6)


def test_augmentations_are_averaged_within_a_record_and_then_clipped(monkeypatch):
    factors = torch.tensor([1.0, -3.0, 0.2]).view(3, 1, 1, 1)
    monkeypatch.setitem(
        augmenting.TRANSFORMS, "stretch", lambda batch, generator: batch * factors.repeat(len(batch) // 3, 1, 1, 1)
    )
    data, privacy = pictures(8), replace(NOISY, noise_multiplier=1e-9, clip=0.5, multiplicity=3, microbatch=6)
    recipe = replace(BARE, epochs=1, augment=("stretch",))
    ours, theirs = (MLP((5,)).build(data.shape, 3, seed=1) for _ in range(2))
    fit_private(ours, data, recipe, privacy, seed=0)
    total = torch.zeros_like(weights(theirs))
    for record, target in zip(data.inputs, data.targets, strict=True):
        loss = functional.cross_entropy(theirs(record * factors), target.expand(3))
        gradient = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(theirs.parameters()))])
        total += gradient * min(1, 0.5 / float(gradient.norm()))
    assert torch.allclose(weights(ours), weights(theirs) - recipe.lr * total / 8, atol=1e-6)


def test_the_average_takes_the_weights_place_at_the_end_and_for_those_who_watch_epochs():
    data, privacy = blobs(), replace(NOISY, averaging=0.8)
    seen, raw = [], []
    model = MLP((16,)).build(data.shape, 3, seed=1)
    visited = trail(model, data, BARE, privacy, watch=lambda epoch: seen.append(weights(model)))
    expected = visited[0]
    for step, after in enumerate(visited[1:]):
        kept = min(0.8, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * after
    assert torch.allclose(weights(model), expected, atol=1e-6)
    assert torch.equal(seen[-1], weights(model))
    assert len(seen) == 4
    raw = trail(MLP((16,)).build(data.shape, 3, seed=1), data, BARE, replace(privacy, averaging=None))
    assert torch.equal(visited, raw), "averaging changes nothing about the steps"
    assert not torch.allclose(raw[-1], expected, atol=1e-4)


def test_epochs_are_spread_over_the_steps_asked_for():
    ended, steps = [], []
    fit_private(
        flat(),
        still(),
        replace(BARE, epochs=3),
        replace(NOISY, steps=10),
        seed=0,
        watch=lambda epoch: ended.append((epoch, len(steps))),
        step_watch=lambda step, model: steps.append(step),
    )
    assert ended == [(1, 3), (2, 6), (3, 10)]
    assert steps == list(range(1, 11))


@pytest.mark.parametrize(
    ("change", "how", "phase"),
    [
        ({}, {}, Phase(8 / 60, 1.0, 30)),
        ({}, {"steps": 17}, Phase(8 / 60, 1.0, 17)),
        ({"batch_size": 60}, {}, Phase(1.0, 1.0, 4)),
        ({"batch_size": 25}, {"sampling": "shuffled"}, Phase(25 / 60, 1.0, 12, "shuffled")),
        ({"batch_size": 12}, {"clipping": "adaptive"}, Phase(12 / 60, 1.0, 20)),
        ({"augment": ("stretch",)}, {"multiplicity": 2}, Phase(8 / 60, 1.0, 30)),
    ],
)
def test_the_ledger_counts_the_steps_really_run(change, how, phase, monkeypatch):
    monkeypatch.setitem(augmenting.TRANSFORMS, "stretch", lambda batch, generator: batch)
    data, visited = pictures(), []
    private = fit_private(
        MLP((4,)).build(data.shape, 3, seed=0),
        data,
        replace(BARE, **change),
        replace(NOISY, **how),
        seed=0,
        step_watch=lambda step, m: visited.append(step),
    )
    assert private.ledger.phases == (phase,)
    assert len(visited) == phase.steps
    assert (private.ledger.records, private.ledger.dropped) == (60, 0)
    assert private.ledger.adjacency == "add-remove"
    assert private.ledger.fixed_noise_seed
    assert len(private.history) == 4


def test_noise_and_batches_are_secret_unless_a_seed_is_given():
    data, secret = still(), replace(NOISY, noise_seed=None)
    first, second = (trail(flat(), data, BARE, secret) for _ in range(2))
    assert not torch.isclose(first[1:], second[1:], rtol=1e-3).any(dim=1).all()
    ledger = fit_private(flat(), data, BARE, secret, seed=0).ledger
    assert not ledger.fixed_noise_seed
    assert torch.equal(trail(flat(), data, BARE, NOISY), trail(flat(), data, BARE, NOISY))


class Root(nn.Module):
    """A layer that has no gradient for records with a negative first column."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        return self.layer(x) + x[..., :1].sqrt()


def test_gradients_that_are_not_finite_are_dropped_counted_and_told():
    data = blobs()
    with seeded(0):
        model = Root()
    private = fit_private(model, data, replace(BARE, batch_size=60), NOISY, seed=0)
    negative = int((data.inputs[:, 0] < 0).sum())
    assert 0 < negative < 60
    assert private.ledger.dropped == 4 * negative
    assert weights(model).isfinite().all()
    assert all(math.isfinite(epoch.loss) for epoch in private.history)


def test_weights_that_are_no_longer_finite_are_an_error():
    with pytest.raises(BadInputError, match=r"diverged in step 1.*Lower the learning rate"):
        fit_private(flat(), still(), replace(BARE, lr=1e38), replace(NOISY, clip=1e6), seed=0)


class Frozen(nn.Module):
    """Counts how it is called; its batch norm would mix records, were it to learn."""

    def __init__(self, learns=False):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)).requires_grad_(learns)
        self.calls = []

    def forward(self, x):
        self.calls.append((torch.is_grad_enabled(), self.training, len(x)))
        return self.layers(x)


def test_what_a_model_begins_with_and_does_not_learn_is_only_evaluated():
    with seeded(0):
        first, model = Frozen(), MLP((8,)).build((6,), 3, seed=0)
    before = {name: value.clone() for name, value in first.state_dict().items()}
    fit_private(nn.Sequential(first, *model), blobs(), BARE, NOISY, seed=0)
    assert first.calls
    assert {call[:2] for call in first.calls} == {(False, False)}
    assert all(torch.equal(value, before[name]) for name, value in first.state_dict().items())


class Whitening(nn.Module):
    """Learns nothing, and takes the mean of a batch from each record of it."""

    def forward(self, x):
        return x - x.mean(dim=0)


def test_what_learns_nothing_and_mixes_records_is_refused():
    model = nn.Sequential(Whitening(), nn.Linear(6, 3))
    with pytest.raises(BadInputError, match="changes with the other examples"):
        fit_private(model, blobs(), BARE, NOISY, seed=0)


def test_tables_and_features_are_not_augmented():
    with pytest.raises(BadInputError, match=r"images \(C, H, W\).*features that were computed before"):
        fit_private(flat(6, 3), blobs(), replace(BARE, augment=("flip",)), replace(NOISY, multiplicity=2), seed=0)


@pytest.mark.parametrize(
    ("model", "augment"),
    [(lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(36, 2)), ()), (lambda: flat(36), ("flip",))],
)
def test_dropout_and_augmentation_are_as_secret_as_the_noise(model, augment):
    """They draw by place in the batch, so with known draws one record more would change those of all after it."""
    generator = torch.Generator().manual_seed(0)
    data = Dataset(torch.rand(40, 1, 6, 6, generator=generator), torch.arange(40) % 2)
    recipe = replace(BARE, batch_size=40, epochs=1, augment=augment)  # every record in the one step

    def ended(privacy, seed):
        with seeded(0):
            learner = nn.Sequential(nn.Flatten(), model())
        fit_private(learner, data, recipe, replace(privacy, delta=1e-3), seed=seed)
        return weights(learner)

    assert torch.equal(ended(SILENT, 0), ended(SILENT, 1))
    secret = replace(SILENT, noise_seed=None)
    assert not torch.allclose(ended(secret, 0), ended(secret, 0), atol=1e-4)


def test_dropout_in_front_is_no_frozen_part():
    data = blobs()
    models = [nn.Sequential(nn.Dropout(rate), nn.Linear(6, 3)) for rate in (0.0, 0.9)]
    models[1].load_state_dict(models[0].state_dict())
    for model in models:
        fit_private(model, data, BARE, SILENT, seed=0)
    assert not torch.allclose(weights(models[0]), weights(models[1]), atol=1e-3)


def test_everything_else_is_left_as_it_was():
    data, model = blobs(), MLP((8,)).build((6,), 3, seed=0)
    inputs = data.inputs.clone()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    fit_private(model, data, BARE, replace(NOISY, averaging=0.9), seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(data.inputs, inputs)
    assert not model.training
    assert all(p.requires_grad and p.grad is None and p.device.type == "cpu" for p in model.parameters())


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)), blobs(), "BatchNorm1d.*GroupNorm"),
        (nn.Flatten(), blobs(), "model with parameters to learn"),
        (nn.Linear(6, 3), blobs(1), "at least 2 records"),
        (nn.Linear(6, 3), blobs(7), "sampling rate of 1.14, above 1. Lower batch_size to at most 7"),
    ],
)
def test_what_cannot_be_trained_privately_is_refused(model, data, message):
    with pytest.raises(BadInputError, match=message):
        fit_private(model.eval(), data, BARE, NOISY, seed=0)
    assert not any(layer.training for layer in model.modules())


def test_digits_are_learned_at_epsilon_8():
    from sklearn.datasets import load_digits

    digits = load_digits()
    data = Dataset(torch.from_numpy(digits.data).float() / 16, torch.from_numpy(digits.target).long())
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    train, test = data[order[:1400]], data[order[1400:]]
    model = MLP((64,), activation="tanh").build(data.shape, 10, seed=0)
    recipe = Recipe(epochs=30, batch_size=350, optimizer="sgd", lr=2.0, weight_decay=0.0, precision="float32")
    privacy = Privacy(epsilon=8.0, delta=1e-4, clip=0.5, averaging=0.9)
    private = fit_private(model, train, recipe, privacy, seed=0)
    assert accuracy(model, test) > 0.88
    assert private.history[-1].loss < private.history[0].loss / 3
