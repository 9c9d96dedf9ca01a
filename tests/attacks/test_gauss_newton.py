"""All equations at once: as good as peeling on fresh networks, better on trained ones, and honest elsewhere."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from divulge.attacks import ATTACKS
from divulge.attacks.gradients.gauss_newton import GaussNewton
from divulge.attacks.gradients.levenberg import levenberg_marquardt
from divulge.attacks.gradients.peel import Peel
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.metrics.images import psnr
from divulge.releases import Tampering, share


class Public:
    """A defense of which no more is known than what it says publicly."""

    def __init__(self, **said):
        self.said = Tampering(**said)

    def tampering(self, model):
        return self.said


def victims(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 1, 8, 8, generator=generator), torch.randint(4, (n,), generator=generator)


def small(activation=nn.Sigmoid, *, trained=0, pool=None):
    pooled = [pool] if pool else []
    model = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), activation(), *pooled),
        *(nn.Conv2d(8, 8, 3, stride=2, padding=1), activation()),
        *(nn.Flatten(), nn.Linear(32 if pool else 128, 4)),
    )
    inputs, targets = victims(64, seed=1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(trained):
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    model.zero_grad()
    return model


def solve(records, model, *, settings=(), **said):
    knowledge = Knowledge(defense=Public(**said)) if said else Knowledge()
    attack = GaussNewton(**dict(settings))
    return attack.run(records, model, knowledge=knowledge, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.Tanh])
def test_trained_networks_give_records_better_than_by_peeling(activation):
    model = small(activation, trained=100)
    inputs, targets = victims(2)
    records = [share(model, inputs[i : i + 1], targets[i : i + 1]) for i in range(2)]
    state, drawn = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    found = solve(records, model)
    peeled = Peel().run(records, model, generator=torch.Generator())
    assert psnr(found.inputs[:, 0], inputs).min() > 80
    assert psnr(found.inputs[:, 0], inputs).mean() >= psnr(peeled.inputs[:, 0], inputs).mean()
    assert torch.equal(found.targets[:, 0], targets)
    assert found.exact
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)


def test_without_rounding_nothing_is_lost():
    model = small(nn.Tanh).double()
    inputs, targets = victims(1)
    found = solve(share(model, inputs.double(), targets), model)
    assert psnr(found.inputs[0], inputs).min() > 130


def test_a_body_that_cannot_be_peeled_is_searched_and_solved():
    model = small(pool=nn.AvgPool2d(2))
    inputs, targets = victims(1)
    record = share(model, inputs, targets)
    found = solve(record, model, settings={"search": 300})
    assert psnr(found.inputs[0], inputs).min() > 60
    with pytest.raises(BadInputError, match="AvgPool2d"):
        Peel().run(record, model, generator=torch.Generator())


@pytest.mark.parametrize("hidden", [0.5, 1.0])
def test_features_that_a_defense_hides_are_no_equations(hidden):
    model = small(nn.Tanh)
    inputs, targets = victims(1)
    record = share(model, inputs, targets)
    kept = torch.rand(128, generator=torch.Generator().manual_seed(1)) >= hidden
    masked = replace(record, gradients={**record.gradients, "5.weight": record.gradients["5.weight"] * kept})
    found = solve(masked, model, settings={"search": 100}, zeros=True)
    assert psnr(found.inputs[0], inputs).min() > 60
    assert found.facts["adapted"] == ("left out zeros",)


def test_whoever_believes_masked_features_does_not_find_the_record():
    model = small(nn.Tanh)
    inputs, targets = victims(1)
    record = share(model, inputs, targets)
    kept = torch.arange(128) % 2
    masked = replace(record, gradients={**record.gradients, "5.weight": record.gradients["5.weight"] * kept})
    blind = solve(masked, model, settings={"search": 0, "steps": 5})
    assert psnr(blind.inputs[0], inputs).max() < 40
    assert blind.matching.min() > 1e-3
    assert not blind.exact


def test_a_random_gradient_and_a_silent_one_give_no_record():
    model = small()
    record = share(model, *victims(1))
    noise = torch.Generator().manual_seed(0)
    random = {name: torch.randn(g.shape, generator=noise) for name, g in record.gradients.items()}
    silent = {name: g if name == "0.weight" else torch.zeros_like(g) for name, g in record.gradients.items()}
    records = [replace(record, gradients=random), replace(record, gradients=silent)]
    found = solve(records, model, settings={"search": 0, "steps": 5})
    assert not found.exact
    assert found.matching.min() > 0.1
    assert found.found.tolist() == [[True], [False]]


def test_bad_input():
    model = small()
    with pytest.raises(BadInputError, match=r"5\.bias is withheld"):
        solve(share(model, *victims(1)), model, withheld=("5.",))
    with pytest.raises(BadInputError, match="steps of 1 or more"):
        ATTACKS.make({"name": "gauss-newton", "steps": 0})


def test_levenberg_marquardt_finds_the_nearest_point_of_a_curve_and_stops_where_nothing_is_left():
    truth = torch.tensor([1.0, -2.0]).double()

    def residuals(x):
        return torch.stack([x[0] - truth[0], 10 * (x[1] + 3 - x[0] ** 2), 0 * x[0] + 1e-3])

    def jacobian(x):
        return torch.autograd.functional.jacobian(residuals, x).T

    found = levenberg_marquardt(residuals, jacobian, torch.zeros(2).double(), size=1.0, steps=50)
    assert torch.allclose(found.point, truth, atol=1e-3)
    assert found.left == pytest.approx(1e-3, rel=0.01)
    assert levenberg_marquardt(residuals, jacobian, found.point, size=1.0, steps=50).steps <= 1


def test_equations_that_tell_nothing_are_no_answer():
    inputs, targets = victims(1)
    model = small()
    record = share(model, inputs, targets)
    silent = {name: g if name == "5.bias" else torch.zeros_like(g) for name, g in record.gradients.items()}
    found = solve(replace(record, gradients=silent), model, settings={"search": 0})
    assert not found.found.any()
    assert found.matching.tolist() == [1.0]
    assert not found.exact
    start = torch.ones(2).double()
    nothing = levenberg_marquardt(lambda x: 0 * x, lambda x: 0 * x.diag(), start, size=0.0, steps=5)
    assert torch.equal(nothing.point, start)
    assert (nothing.left, nothing.determined) == (1.0, False)


def test_a_masked_head_over_a_silent_body_tells_nothing():
    inputs, targets = victims(1)
    model = small()
    record = share(model, inputs, targets)
    silent = {name: g if name == "5.bias" else torch.zeros_like(g) for name, g in record.gradients.items()}
    knowledge = Knowledge(defense=Public(withheld=("5.weight",)))
    found = Peel().run(
        replace(record, gradients=silent), model, knowledge=knowledge, generator=torch.Generator().manual_seed(0)
    )
    assert found.matching.tolist() == [1.0]
    assert not found.exact
