import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from divulge.data import Dataset
from divulge.models import seeded
from divulge.models.layers import Standardize, measure
from divulge.models.mlp import MLP
from divulge.training import Recipe, fit, fit_stacked

NETWORKS = {
    "norm": lambda: nn.Sequential(nn.LayerNorm((2, 4, 3)), nn.Flatten(), nn.Linear(24, 7), nn.GELU(), nn.Linear(7, 3)),
    "matrix norm": lambda: nn.Sequential(
        nn.Linear(3, 5), nn.LayerNorm((4, 5)), nn.Tanh(), nn.Flatten(-3), nn.Linear(40, 3, bias=False)
    ),
    "nested": lambda: nn.Sequential(
        nn.Flatten(), nn.Sequential(nn.Linear(24, 6), nn.Sigmoid(), nn.LayerNorm(6, bias=False)), nn.Linear(6, 3)
    ),
    "table": lambda: nn.Sequential(Standardize((2, 4, 3)), nn.Flatten(), nn.Linear(24, 6), nn.ReLU(), nn.Linear(6, 3)),
    "inplace": lambda: nn.Sequential(nn.Flatten(2), nn.ReLU(inplace=True), nn.Flatten(1, 2), nn.Linear(24, 3)),
}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("frozen", [False, True])
def test_every_stackable_layer_trains_as_it_does_alone(kind, frozen):
    generator = torch.Generator().manual_seed(0)
    data = Dataset(torch.rand(8, 2, 4, 3, generator=generator), torch.arange(8) % 3)
    models = []
    for seed in range(3):
        with seeded(seed):
            models.append(NETWORKS[kind]())
    if frozen:
        for model in models:
            next(model.parameters()).requires_grad_(False)
    recipe = Recipe(epochs=4, batch_size=8, lr=1e-2, precision="float32")
    stacked = fit_stacked(models, data, np.ones((3, 8), dtype=bool), recipe, seed=1)
    for model, ours in zip(models, stacked, strict=True):
        alone = copy.deepcopy(model)
        measure(alone, data.inputs)
        learned = [parameter for parameter in alone.parameters() if parameter.requires_grad]
        if not learned:
            continue
        optimizer = torch.optim.Adam(learned, lr=recipe.lr, weight_decay=recipe.weight_decay)
        for epoch in range(recipe.epochs):
            optimizer.param_groups[0]["lr"] = recipe.lr * recipe.lr_decay**epoch
            optimizer.zero_grad()
            functional.cross_entropy(alone(data.inputs), data.targets).backward()
            optimizer.step()
        for mine, theirs in zip(ours.parameters(), alone.parameters(), strict=True):
            assert torch.allclose(mine, theirs, atol=1e-5)


def test_each_model_standardizes_by_its_own_records_and_answers_as_it_does_alone():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(60, 4, generator=generator) * torch.tensor([1.0, 1e4, 1e-2, 1.0])
    data = Dataset(inputs, torch.arange(60) % 2)
    members = np.random.default_rng(0).random((3, 60)) < 0.5
    models = [MLP((8,), standardize=True).build(data.shape, 2, seed=seed) for seed in range(3)]
    before = [value.clone() for model in models for value in model.state_dict().values()]
    recipe = Recipe(epochs=3, batch_size=60, precision="float32")
    stacked = fit_stacked(models, data, members, recipe, seed=0)
    after = [value for model in models for value in model.state_dict().values()]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    for model, ours, mask in zip(models, stacked, members, strict=True):
        fit(model, data[mask], recipe, seed=0)  # the whole set is one batch, so the order of records is no matter
        assert torch.allclose(ours[0].mean, inputs[torch.from_numpy(mask)].mean(dim=0))
        assert torch.equal(ours[0].std, model[0].std)
        assert torch.allclose(ours(inputs), model(inputs), atol=1e-5)


def test_models_with_very_different_counts_of_records_stay_finite():
    data = Dataset(torch.rand(40, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2)
    members = np.zeros((2, 40), dtype=bool)
    members[0, :3] = members[1] = True
    for model in fit_stacked([nn.Linear(4, 2), nn.Linear(4, 2)], data, members, Recipe(epochs=2, batch_size=4), seed=0):
        assert all(bool(value.isfinite().all()) for value in model.parameters())
