"""Batches whose records the last layers tell apart, and what is solved for then."""

from dataclasses import replace

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from divulge.attacks.gradients.batch_door import open_door
from divulge.attacks.gradients.bias_anchored import BiasAnchored
from divulge.attacks.gradients.gauss_newton import GaussNewton
from divulge.attacks.knowledge import Knowledge
from divulge.defenses.gradient_pruning import GradientPruning
from divulge.defenses.precode import Precode
from divulge.errors import BadInputError
from divulge.metrics.images import psnr
from divulge.models import seeded
from divulge.models.lenet import LeNet
from divulge.releases import share


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)


def network(*, precode):
    model = LeNet(spread=None).build((1, 8, 8), 10, seed=0)
    return Precode(beta=0.1, width=20).architecture(model) if precode else model


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("precode", [False, True], ids=["last layer", "bottleneck"])
@pytest.mark.parametrize(("batch", "reduction"), [(2, "mean"), (4, "sum")])
def test_inputs_and_signals_of_every_record_are_exact(batch, reduction, precode, digits):
    model = network(precode=precode).double()
    inputs, targets = digits[0][:batch].double(), digits[1][:batch]
    record = share(model, inputs, targets, reduction=reduction, seed=0)
    door = "7"
    found = open_door(record, model, targets, door)
    body = model[:7]
    entered = body(inputs)
    assert found.left < 1e-6
    torch.testing.assert_close(found.inputs, entered, rtol=0, atol=1e-6)
    names = [name for name, _ in body.named_parameters()]
    slopes = torch.autograd.grad((found.signals * entered).sum(), list(body.parameters()))
    for name, slope in zip(names, slopes, strict=True):
        torch.testing.assert_close(slope, record.gradients[name], rtol=1e-5, atol=1e-9)


def test_records_with_one_label_are_not_told_apart(digits):
    model = network(precode=False)
    same = digits[0][digits[1] == 3][:2]
    record = share(model, same, torch.tensor([3, 3]))
    assert open_door(record, model, torch.tensor([3, 3]), "7").left == 1
    found = BiasAnchored(steps=2, targets=((3, 3),)).run(record, model, generator=generator())
    assert found.found is not None
    assert not found.found.any()


@pytest.mark.parametrize("precode", [False, True], ids=["last layer", "bottleneck"])
def test_batches_are_solved_for_together(precode, digits):
    model = network(precode=precode)
    rows = [0, 1, 2]
    inputs, targets = digits[0][rows], digits[1][rows]
    record = share(model, inputs, targets, seed=0)
    found = GaussNewton(search=200).run(record, model, generator=generator())
    truth = inputs[targets.argsort()]
    assert torch.equal(found.targets[0], targets.sort().values)
    assert psnr(found.inputs[0], truth).min() > 50
    assert found.found.all()
    other = share(model, digits[0][[10, 11, 12]], targets, seed=0)
    wrong = GaussNewton(search=200).run(other, model, generator=generator())
    assert psnr(wrong.inputs[0], truth).max() < 25


def test_an_anchored_search_of_a_batch_gets_close(digits):
    model = network(precode=True)
    record = share(model, digits[0][:2], digits[1][:2], seed=0)
    found = BiasAnchored(steps=300).run(record, model, generator=generator())
    assert psnr(found.inputs[0], digits[0][:2]).min() > 15


def test_a_batch_under_pruning_is_refused(digits):
    model = network(precode=False)
    record = share(model, digits[0][:2], digits[1][:2])
    knowledge = Knowledge(defense=GradientPruning(rate=0.5))
    for attack in (BiasAnchored(steps=2), GaussNewton()):
        with pytest.raises(BadInputError, match="batches of 1"):
            attack.run(record, model, knowledge=knowledge, generator=generator())


def test_a_batch_is_not_told_apart_below_another_layer(digits):
    with seeded(0):
        layers = [nn.Conv2d(1, 4, 3, stride=2), nn.Sigmoid(), nn.Flatten(), nn.Linear(36, 20), nn.Sigmoid()]
        model = nn.Sequential(*layers, nn.Linear(20, 10))
    record = share(model, digits[0][:2], digits[1][:2])
    for attack in (BiasAnchored(steps=2), GaussNewton()):
        with pytest.raises(BadInputError, match=r"told apart|bottleneck"):
            attack.run(record, model, generator=generator())


def test_several_steps_are_refused(digits):
    model = network(precode=False)
    record = replace(share(model, digits[0][:2], digits[1][:2]), kind="update", local_steps=2, lr=0.1)
    for attack in (BiasAnchored(steps=2), GaussNewton()):
        with pytest.raises(BadInputError, match="one step"):
            attack.run(record, model, generator=generator())
