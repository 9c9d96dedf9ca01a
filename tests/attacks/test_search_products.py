"""Weight gradients compared without being formed, against the plain way."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from divulge.attacks.gradients.believed import believed
from divulge.attacks.gradients.bias_anchored import BiasAnchored
from divulge.attacks.gradients.distances import DISTANCES, likelihood
from divulge.attacks.gradients.inverting_gradients import InvertingGradients
from divulge.attacks.gradients.noise_restoring import NoiseRestoring
from divulge.attacks.gradients.plan import shortened
from divulge.attacks.gradients.products import coordinates, spanned
from divulge.attacks.gradients.replay import Replay
from divulge.attacks.gradients.rounds import Round
from divulge.defenses.precode import Precode
from divulge.releases import share

SHAPE = (1, 4, 4)


class Reused(nn.Module):
    """A wide layer called once, one called twice, one whose weight works elsewhere too, and one that sees sequences."""

    def __init__(self):
        super().__init__()
        self.once, self.twice, self.shared = nn.Linear(16, 40), nn.Linear(40, 40), nn.Linear(40, 40)
        self.rows, self.last = nn.Linear(20, 20), nn.Linear(40, 30)

    def forward(self, x):
        x = torch.tanh(self.once(x.flatten(1)))
        x = torch.tanh(self.twice(torch.tanh(self.twice(x))))
        x = self.shared(x) @ self.shared.weight
        return self.last(self.rows(x.view(len(x), 2, 20)).flatten(1))


def network(classes=30, seed=0):
    torch.manual_seed(seed)
    layers = [nn.Flatten(), nn.Linear(16, 40), nn.Tanh(), nn.Linear(40, 40, bias=False), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(40, classes)).double()


def clients(model, count=2, batch=2, **facts):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.rand(count, batch, *SHAPE, generator=generator).double()
    targets = torch.randint(10, (count, batch), generator=generator)
    records = [share(model, *one, seed=number, **facts) for number, one in enumerate(zip(inputs, targets, strict=True))]
    return records, inputs, targets


def losses(plan, guess, distance):
    """The distance of one guess from each victim, and its gradient."""
    found = []
    for victim in range(len(next(iter(plan.shared.values())))):
        point = guess.clone().requires_grad_()
        own = {name: one[victim] for name, one in plan.shared.items()}
        spans = {name: {part: one[victim] for part, one in span.items()} for name, span in (plan.spans or {}).items()}
        noise = {name: one[0] for name, one in plan.replay.fresh(1, torch.Generator().manual_seed(3)).items()}
        told, _ = plan.replay(point, plan.top[victim], {name: one.double() for name, one in noise.items()}, spans)
        value = distance(believed(told, own, scaled=distance is DISTANCES["l2"]), own)
        found += [value.detach()[None], *torch.autograd.grad(value, point)]
    return torch.cat([one.flatten() for one in found])


@pytest.mark.parametrize("noise", [0.0, 1e-4, 1e-1], ids=["shared as is", "little noise", "much noise"])
@pytest.mark.parametrize("facts", [{"batch": 1}, {"batch": 2, "reduction": "sum"}, {"batch": 3, "training": True}])
def test_distances_and_their_slopes_are_those_of_the_matrices(facts, noise):
    model = Precode(width=40).architecture(network()).train(facts.get("training", False))
    records, inputs, _ = clients(model, **facts)
    generator = torch.Generator().manual_seed(2)
    records = [
        replace(
            record,
            gradients={
                name: one + noise * torch.randn(one.shape, generator=generator).double()
                for name, one in record.gradients.items()
            },
        )
        for record in records
    ]
    plan = InvertingGradients().plan(Round(records, model), torch.zeros(2, facts["batch"], dtype=torch.long))
    short = shortened(plan)
    weights = {name: one[0] for name, one in plan.shared.items() if name.endswith("weight")}
    long = [name for name, one in weights.items() if 2 * facts["batch"] * sum(one.shape) < one.numel()]
    assert len(long) >= 2
    assert list(short.spans) == long
    assert all(("rest" in span) == (noise > 0) for span in short.spans.values())
    for distance in (DISTANCES["l2"], DISTANCES["cosine"], likelihood("gaussian", 0.1)):
        for guess in (torch.rand(inputs[0].shape, generator=generator).double(), inputs[0] + 1e-5):
            torch.testing.assert_close(
                losses(short, guess, distance), losses(plan, guess, distance), rtol=1e-7, atol=1e-9
            )


def test_near_the_answer_nothing_is_lost_to_cancellation():
    model = network()
    records, inputs, targets = clients(model, batch=1)
    plan = InvertingGradients().plan(Round(records, model), targets)
    guess = inputs[0] + 1e-9
    one, other = (losses(each, guess, DISTANCES["cosine"])[0] for each in (shortened(plan), plan))
    assert 0 < other < 1e-15
    assert one == pytest.approx(float(other), rel=1e-5)


def test_the_coordinates_keep_all_inner_products():
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(2, 7, 9, generator=generator).double()
    span, told = spanned(shared, batch=2)
    signals, inputs = (torch.randn(2, n, generator=generator).double() for n in (7, 9))
    for victim in range(2):
        own = coordinates(signals, inputs, {name: one[victim] for name, one in span.items()})
        matrix = signals.T @ inputs
        assert own @ own == pytest.approx(float((matrix * matrix).sum()))
        assert own @ told[victim] == pytest.approx(float((matrix * shared[victim]).sum()))
        assert told[victim] @ told[victim] == pytest.approx(float(shared[victim].square().sum()))


def test_a_layer_that_shares_nothing_has_a_finite_distance():
    span, told = spanned(torch.zeros(1, 7, 9), batch=1)
    signals = torch.zeros(1, 7, requires_grad=True)
    own = coordinates(signals, torch.ones(1, 9), {"basis": span["basis"][0]})
    (slope,) = torch.autograd.grad((own - told[0]).square().sum(), signals)
    assert not slope.any()


def test_only_layers_whose_gradient_is_one_product_are_taken():
    torch.manual_seed(0)
    model = Reused().double()
    (record, *_), _, _ = clients(model, batch=1)
    assert Replay(model, record).products() == ["once.weight", "last.weight"]


def test_masks_and_local_steps_keep_the_matrices():
    model = network()
    records, _, targets = clients(model, batch=1)
    plan = InvertingGradients(zeros="skip").plan(Round(records, model), targets)
    assert shortened(plan) is plan
    updates = [replace(record, kind="update", local_steps=2, lr=0.1) for record in records]
    plan = InvertingGradients().plan(Round(updates, model), targets)
    assert shortened(plan) is plan


@pytest.mark.parametrize(
    ("attack", "bottleneck"),
    [
        (InvertingGradients(steps=12), False),
        (InvertingGradients(steps=12, restarts=3, together=2, ignore=("1.",)), False),
        (InvertingGradients(steps=1, labels="joint", optimizer="lbfgs", sign="none", schedule="constant"), False),
        (NoiseRestoring(steps=12, lr=0.1), True),
        (BiasAnchored(steps=12, tv=0.0), True),
    ],
    ids=["all", "some", "joint", "noise", "anchored"],
)
def test_searches_take_the_same_path(attack, bottleneck, monkeypatch):
    model = network()
    model[1] = nn.Linear(16, 40, bias=False).double()
    model = Precode(width=40).architecture(model) if bottleneck else model
    records, _, _ = clients(model, batch=1)

    def run():
        return attack.run(records, model, generator=torch.Generator().manual_seed(0))

    short = run()
    monkeypatch.setattr("divulge.attacks.gradients.search.shortened", lambda plan: plan)
    plain = run()
    torch.testing.assert_close(short.inputs, plain.inputs, rtol=0, atol=1e-4)
    torch.testing.assert_close(short.matching, plain.matching, rtol=1e-4, atol=1e-9)
