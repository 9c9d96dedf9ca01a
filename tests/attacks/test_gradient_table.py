"""Every registered gradient attack end to end on 32 digits: a client shares, the attack rebuilds, the scores tell."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from divulge.attacks import ATTACKS
from divulge.attacks.gradients.base import GradientAttack
from divulge.defenses.gradient_dropout import GradientDropout
from divulge.defenses.precode import Precode
from divulge.metrics.images import best_order, psnr
from divulge.models import seeded
from divulge.models.lenet import LeNet
from divulge.models.mlp import MLP
from divulge.releases import share

RECORDS = 32


def mlp() -> nn.Module:
    return MLP((256, 16)).build((1, 8, 8), 10, seed=0)


def lenet() -> nn.Module:
    return LeNet().build((1, 8, 8), 10, seed=0)


def small() -> nn.Module:
    with seeded(0):
        return nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.Sigmoid(), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.Sigmoid()),
            *(nn.Flatten(), nn.Linear(128, 10)),
        )


def veiled_mlp() -> nn.Module:
    return Precode(width=16).architecture(MLP((32,)).build((1, 8, 8), 10, seed=0))


def dropping_mlp() -> nn.Module:
    return GradientDropout().architecture(mlp())


@dataclass(frozen=True)
class Row:
    """What an attack has to reach.

    Args:
        network: that the clients train.
        floor: median PSNR over the records, in decibels.
        gap: by how much the median has to lie above that of the same reconstructions against other records of the same
            classes.
        batch: records of each client.
        settings: of the attack; few steps, as the records are small.
        labels: share of the labels that has to be right; None for an attack that names none.
        training: whether the clients' model is in training mode.
    """

    network: Callable[[], nn.Module]
    floor: float
    gap: float = 3.0
    batch: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    labels: float | None = 1.0
    training: bool = False


BRIEF = {"steps": 50}
ROWS = {
    "active-neurons": Row(mlp, 100.0, batch=2),
    "bias-anchored": Row(lenet, 20.0, settings=BRIEF, labels=None),
    "dlg": Row(lenet, 25.0, settings={"steps": 4}, labels=0.9),
    "dropout-inversion": Row(dropping_mlp, 15.0, settings={"steps": 40, "noise_start": "read"}, training=True),
    "first-layer": Row(mlp, 100.0),
    "gauss-newton": Row(small, 80.0, settings={"search": 0}),
    "gradient-search": Row(lenet, 50.0, settings={"distance": "l2", "optimizer": "lbfgs", "lr": 1.0, "steps": 4}),
    "idlg": Row(lenet, 25.0, settings={"steps": 4}),
    "inverting-gradients": Row(lenet, 18.0, settings=BRIEF),
    "inverting-gradients-modern": Row(lenet, 15.0, settings={"steps": 40, "tv": 1e-3, "warmup": 5}),
    "noise-restoring": Row(veiled_mlp, 22.0, settings={"steps": 60, "lr": 0.1, "tv": 1e-4, "noise_start": "read"}),
    "noise-restoring-improved": Row(veiled_mlp, 22.0, settings={"steps": 60, "noise_start": "read"}),
    "peel": Row(lenet, 80.0),
    "precode-closed-form": Row(veiled_mlp, 100.0),
    "spear": Row(mlp, 100.0, batch=4),
}


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)


def test_every_registered_attack_has_a_row():
    assert set(ROWS) == set(ATTACKS.kind_of(GradientAttack))


def clients(row, model, images, targets):
    hands = zip(images.split(row.batch), targets.split(row.batch), strict=True)
    return [share(model, *own, training=row.training, seed=number) for number, own in enumerate(hands)]


@pytest.mark.parametrize("name", ROWS)
def test_from_shared_gradients_to_scores(name, digits):
    images, targets = (part[:RECORDS] for part in digits)
    row = ROWS[name]
    model, attack = row.network(), ATTACKS[name](**row.settings)
    found = attack.run(clients(row, model, images, targets), model, generator=torch.Generator().manual_seed(0))
    assert found.inputs.shape == (RECORDS // row.batch, row.batch, 1, 8, 8)
    assert found.matching.shape == (RECORDS // row.batch,)
    order = [best_order(one, truth) for one, truth in zip(found.inputs, images.split(row.batch), strict=True)]
    rebuilt = torch.cat([one[rows] for one, rows in zip(found.inputs, order, strict=True)])
    score, control = psnr(rebuilt, images).median(), psnr(rebuilt, others(*digits)).median()
    assert score >= row.floor
    assert score >= control + row.gap
    if row.labels is None:
        assert found.targets is None
    else:
        named = torch.cat([one[rows] for one, rows in zip(found.targets, order, strict=True)])
        assert (named == targets).double().mean() >= row.labels


def others(images, targets):
    """For each of the first records one of the same class that no client has."""
    rest, classes = images[RECORDS:], targets[RECORDS:]
    return torch.stack([rest[classes == label][0] for label in targets[:RECORDS]])
