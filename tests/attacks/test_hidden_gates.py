"""Features behind a ReLU that a defense hides: found from the gradients of the convolution below, gates and all."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from divulge.attacks.gradients import hidden_head
from divulge.attacks.gradients.convolution import Convolution
from divulge.attacks.gradients.hidden_gates import Gates
from divulge.attacks.gradients.peel import Peel
from divulge.attacks.knowledge import Knowledge
from divulge.defenses.soteria import Soteria
from divulge.metrics.images import psnr
from divulge.models import seeded
from divulge.releases import share

VICTIMS = 4


def network():
    with seeded(0):
        return nn.Sequential(
            *(nn.Conv2d(1, 12, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(192, 10)),
        )


@pytest.fixture(scope="module")
def pictures():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(VICTIMS, 1, 1, 8, 8, generator=generator), torch.tensor([[0], [3], [3], [7]])


def rebuilt(model, pictures, *, rate, knowing):
    defense, generator = Soteria(rate=rate), torch.Generator().manual_seed(0)
    records = [
        defense.share(
            share(model, images, labels), model=model, inputs=images, targets=labels, generator=generator
        ).record
        for images, labels in zip(*pictures, strict=True)
    ]
    found = Peel(steps=0).run(
        records, model, knowledge=Knowledge(defense=defense if knowing else None), generator=generator
    )
    return psnr(found.inputs[:, 0], pictures[0][:, 0]), found


@pytest.mark.parametrize("rate", [0.4, 0.8, 1.0])
def test_hidden_features_behind_a_relu_are_found_again(pictures, rate):
    model = network()
    scores, found = rebuilt(model, pictures, rate=rate, knowing=True)
    assert scores.min() > 60
    assert found.matching.max() < 1e-4
    blind, refuted = rebuilt(model, pictures, rate=rate, knowing=False)
    assert blind.max() < 30
    assert not refuted.exact


def test_without_gates_of_its_own_the_search_gets_stuck(pictures, monkeypatch):
    monkeypatch.setattr(hidden_head._Equations, "gates", lambda self: None)
    scores, found = rebuilt(network(), pictures, rate=1.0, knowing=True)
    assert scores.min() < 30
    assert found.matching.max() > 1e-2


def test_a_random_gradient_of_the_last_convolution_gives_no_record(pictures):
    model = network()
    images, labels = (part[0] for part in pictures)
    record = share(model, images, labels)
    noise = torch.Generator().manual_seed(1)
    random = {
        name: g if name.startswith("5.") else g.std() * torch.randn(g.shape, generator=noise)
        for name, g in record.gradients.items()
    }
    hidden = replace(record, gradients=random | {"5.weight": torch.zeros_like(random["5.weight"])})
    found = Peel(steps=0).run(
        [hidden], model, knowledge=Knowledge(defense=Soteria()), generator=torch.Generator().manual_seed(0)
    )
    assert found.matching.max() > 0.1
    assert not found.exact


def test_the_derivative_of_the_products_is_theirs():
    with seeded(1):
        convolution = Convolution(nn.Conv2d(2, 3, 3, stride=2, padding=1).double(), (2, 5, 5))
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(convolution.outputs, generator=generator, dtype=torch.float64)
    slopes = torch.ones_like(convolution.module.weight)
    gates = Gates(convolution, signal, slopes, slopes, (slopes[:, 0, 0, 0], slopes[:, 0, 0, 0]))
    point = torch.rand(50 + signal.numel(), generator=generator, dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(gates._gradients, point)
    assert torch.allclose(gates._jacobian(point), expected.T)
