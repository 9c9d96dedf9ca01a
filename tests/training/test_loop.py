from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.models.cnn import CNN
from divulge.models.mlp import MLP, Softmax
from divulge.training import Recipe, accuracy, fit, fit_stacked, logits, stackable
from divulge.training.augment import crop, flip
from divulge.training.loop import loss_of


def blobs(n=120, classes=3, width=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(classes, (n,), generator=generator)
    return Dataset(torch.randn(n, width, generator=generator) + 2 * targets[:, None].float(), targets)


def images(n=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Dataset(torch.rand(n, 1, 8, 8, generator=generator), torch.randint(4, (n,), generator=generator))


def by_hand(model, data, recipe, seed):
    """The textbook loop on the same order of records."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    for epoch in range(recipe.epochs):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * recipe.lr_decay**epoch
        for rows in torch.randperm(len(data), generator=generator).split(recipe.batch_size):
            loss = functional.cross_entropy(model(data.inputs[rows]), data.targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def test_fit_equals_the_textbook_loop_in_float32():
    data, recipe = blobs(), Recipe(epochs=3, batch_size=32, precision="float32")
    ours, theirs = (MLP((16,)).build(data.shape, 3, seed=1) for _ in range(2))
    fit(ours, data, recipe, seed=7)
    by_hand(theirs, data, recipe, 7)
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine, reference, atol=1e-6)


def test_fast_precision_learns_what_float32_learns():
    data = images(128)
    recipe = Recipe(epochs=60, batch_size=32, lr=3e-3)
    reached = {}
    for precision in ("fast", "float32"):
        model = CNN((8, 16), hidden=32).build(data.shape, 4, seed=0)
        fit(model, data, replace(recipe, precision=precision), seed=0)
        reached[precision] = accuracy(model, data)
        assert next(model.parameters()).dtype == torch.float32
    assert min(reached.values()) > 0.95


def test_softmax_regression_separates_blobs():
    data = blobs()
    model = Softmax().build(data.shape, 3, seed=0)
    history = fit(model, data, Recipe(epochs=60, batch_size=16, lr=5e-2, lr_decay=1.0), seed=0)
    assert history[-1].loss < history[0].loss / 2
    assert accuracy(model, data) > 0.9


@pytest.mark.parametrize("family", [MLP((16,), standardize=True), Softmax(standardize=True)])
def test_a_standardizing_model_learns_a_table_from_its_own_records_only(family):
    data, others = blobs(), blobs(seed=9)
    scales = torch.tensor([1.0, 1e5, 1e-4, 1.0, 10.0, 1e3])
    data, others = (replace(part, inputs=part.inputs * scales) for part in (data, others))
    model = family.build(data.shape, 3, seed=0)
    recipe = Recipe(epochs=40, batch_size=16, lr=5e-2, patience=40)
    fit(model, data, recipe, seed=0, validation=others)
    assert torch.allclose(model[0].mean, data.inputs.mean(dim=0))
    assert torch.allclose(model[0].std, data.inputs.std(dim=0, correction=0))
    assert accuracy(model, others) > 0.9


def test_early_stopping_keeps_the_best_epoch():
    data, held_out = blobs(40), blobs(40, seed=9)
    noise = Dataset(
        data.inputs, data.targets[torch.randperm(40, generator=torch.Generator().manual_seed(0))], classes=data.classes
    )
    model = MLP((64,)).build(data.shape, 3, seed=0)
    history = fit(model, noise, Recipe(epochs=100, batch_size=8, lr=1e-2, patience=4), seed=0, validation=held_out)
    best = int(np.argmin([epoch.validation_loss for epoch in history]))
    assert len(history) == best + 1 + 4
    assert loss_of(model, held_out) == pytest.approx(history[best].validation_loss, abs=1e-6)


def test_the_same_seed_gives_the_same_weights_and_the_global_state_is_left_alone():
    data = images()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    states = []
    for seed in (0, 0, 1):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.5), nn.Linear(8, 4))
        model.load_state_dict({key: torch.full_like(value, 0.1) for key, value in model.state_dict().items()})
        torch.set_rng_state(before)
        fit(model, data, Recipe(epochs=2, augment=("flip", "crop")), seed=seed)
        assert torch.equal(before, torch.get_rng_state())
        states.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_asking_leaves_the_mode_as_it_was():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 4)).train()
    first, second = (logits(model, images().inputs) for _ in range(2))
    assert model.training
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    ("change", "data", "message"),
    [
        ({}, blobs(1), "at least 2 records"),
        ({"patience": 3}, blobs(), "needs validation"),
        ({"lr": 1e30, "optimizer": "sgd", "epochs": 5}, blobs(), "diverged"),
        ({"augment": ("rotate",)}, blobs(), "expected any of flip, crop"),
        ({"augment": ("flip",)}, blobs(), r"images \(C, H, W\) to transform by flip.*leave augment empty"),
        ({"augment": ("crop",)}, blobs(), r"images \(C, H, W\) to transform by crop"),
        ({"augment": ("crop",)}, Dataset(torch.zeros(9, 1, 4, 6), torch.arange(9) % 3), "larger than 4 x 4.*4 x 6"),
    ],
)
def test_bad_training_is_refused(change, data, message):
    model = MLP((8,)).build(data.shape, 3, seed=0)
    with pytest.raises(BadInputError, match=message):
        fit(model, data, replace(Recipe(epochs=1), **change), seed=0)


@pytest.mark.parametrize(
    "change", [{"epochs": 0}, {"lr": -1.0}, {"momentum": 1.0}, {"patience": 0}, {"weight_decay": -1.0}]
)
def test_bad_recipes_are_refused(change):
    with pytest.raises(BadInputError, match=next(iter(change))):
        Recipe(**change)


def test_a_last_batch_of_one_record_does_not_break_batch_norm():
    data = images(33)
    model = CNN((4,), hidden=8).build(data.shape, 4, seed=0)
    assert len(fit(model, data, Recipe(epochs=1, batch_size=16), seed=0)) == 1


def test_flip_mirrors_about_half_and_crop_shifts_whole_images():
    batch = torch.rand(400, 1, 6, 6)
    flipped = flip(batch, torch.Generator().manual_seed(0))
    mirrored = torch.tensor([torch.equal(a, b.flip(2)) for a, b in zip(flipped, batch, strict=True)])
    same = torch.tensor([torch.equal(a, b) for a, b in zip(flipped, batch, strict=True)])
    assert bool((mirrored | same).all())
    assert 140 < int(mirrored.sum()) < 260
    ramp = torch.arange(36.0).view(1, 1, 6, 6).expand(50, 1, 6, 6)
    shifted = crop(ramp, torch.Generator().manual_seed(0), margin=2)
    center = shifted[:, 0, 2:4, 2:4]
    assert torch.equal(center[:, 0, 1] - center[:, 0, 0], torch.ones(50))
    assert len({tuple(image.flatten().tolist()) for image in shifted}) > 5


def members_of(data, count, seed=0):
    return np.random.default_rng(seed).random((count, len(data))) < 0.5


def test_stacked_training_equals_training_each_on_the_same_batches():
    data = blobs(50)
    members = members_of(data, 3)
    recipe = Recipe(epochs=2, batch_size=8, precision="float32")
    models = [MLP((8,)).build(data.shape, 3, seed=seed) for seed in range(3)]
    stacked = fit_stacked(models, data, members, recipe, seed=4)
    generator = torch.Generator().manual_seed(4)
    references = [MLP((8,)).build(data.shape, 3, seed=seed) for seed in range(3)]
    optimizers = [torch.optim.Adam(m.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay) for m in references]
    longest = members.sum(axis=1).max()
    for epoch in range(recipe.epochs):
        orders = []
        for mask in members:
            own = torch.from_numpy(np.flatnonzero(mask))
            orders.append(own[torch.randperm(len(own), generator=generator)])
        starts = list(range(0, longest, recipe.batch_size))
        if min(len(order) for order in orders) <= starts[-1]:
            starts.pop()
        for model, optimizer, order in zip(references, optimizers, orders, strict=True):
            optimizer.param_groups[0]["lr"] = recipe.lr * recipe.lr_decay**epoch
            for start, end in zip(starts, [*starts[1:], longest], strict=True):
                rows = order[start:end]
                optimizer.zero_grad()
                functional.cross_entropy(model(data.inputs[rows]), data.targets[rows]).backward()
                optimizer.step()
    for ours, theirs in zip(stacked, references, strict=True):
        for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(mine, reference, atol=1e-5)


def test_stacked_training_leaves_the_given_models_alone_and_refuses_what_it_cannot_train():
    data = images()
    models = [MLP((8,)).build(data.shape, 4, seed=seed) for seed in range(2)]
    before = [parameter.clone() for model in models for parameter in model.parameters()]
    fit_stacked(models, data, members_of(data, 2), Recipe(epochs=1), seed=0)
    assert all(torch.equal(a, b) for a, b in zip(before, [p for m in models for p in m.parameters()], strict=True))
    assert not stackable(CNN((4,), hidden=4).build(data.shape, 4, seed=0), Recipe())
    assert not stackable(models[0], Recipe(patience=2))
    with pytest.raises(BadInputError, match="fully connected"):
        fit_stacked([CNN((4,), hidden=4).build(data.shape, 4, seed=0)], data, members_of(data, 1), Recipe(), seed=0)
    with pytest.raises(BadInputError, match="at least 2 records"):
        fit_stacked(models, data, np.zeros((2, len(data)), dtype=bool), Recipe(), seed=0)
