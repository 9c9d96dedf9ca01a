"""Training as most people write it: a DataLoader, float32, the default memory layout."""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from divulge.data import Dataset
from divulge.training import Recipe


def loop(model: nn.Module, data: Dataset, recipe: Recipe) -> None:
    """The ordinary loop: same optimizer, batch size and learning rates as `recipe` says."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).train()
    loader = DataLoader(TensorDataset(data.inputs, data.targets), batch_size=recipe.batch_size, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, recipe.lr_decay)
    for _ in range(recipe.epochs):
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(inputs.to(device)), targets.to(device))
            loss.backward()
            optimizer.step()
        schedule.step()
    model.to("cpu")


def cnn(shape: tuple[int, int, int], channels: tuple[int, int], hidden: int, classes: int) -> nn.Module:
    """The CNN of `divulge.models.cnn` as a textbook writes it, without its normalization of pixels."""
    depth, height, width = shape
    first, second = channels
    return nn.Sequential(
        nn.Conv2d(depth, first, 3, padding=1),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 3, padding=1),
        nn.BatchNorm2d(second),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(second * (height // 4) * (width // 4), hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )
