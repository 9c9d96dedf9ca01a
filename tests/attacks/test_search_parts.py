"""The parts of a search, each against an oracle."""

import math

import pytest
import torch

from divulge.attacks.gradients.adam import SCHEDULES, adam
from divulge.attacks.gradients.distances import DISTANCES, cosine, likelihood, squared
from divulge.attacks.gradients.lbfgs import lbfgs
from divulge.attacks.gradients.minimize import Minimized, in_turn
from divulge.attacks.gradients.priors import anisotropic, color
from divulge.attacks.gradients.starts import STARTS, patterned

FREE = {"project": lambda points: points}


def two_sides(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        {"w": torch.randn(3, 4, generator=generator).double(), "b": torch.randn(3, generator=generator).double()}
        for _ in range(2)
    ]


def test_distances_are_those_of_the_concatenated_tensors():
    found, shared = two_sides()
    a, b = (torch.cat([side["w"].flatten(), side["b"]]) for side in (found, shared))
    expected = {"l2": ((a - b) ** 2).sum(), "l1": (a - b).abs().sum(), "cosine": 1 - torch.cosine_similarity(a, b, 0)}
    assert {name: float(measure(found, shared)) for name, measure in DISTANCES.items()} == pytest.approx(
        {name: float(value) for name, value in expected.items()}
    )


def test_only_the_cosine_forgives_a_scale():
    found, shared = two_sides()
    half = {name: value / 2 for name, value in shared.items()}
    assert cosine(found, half) == pytest.approx(float(cosine(found, shared)))
    assert squared(found, half) != pytest.approx(float(squared(found, shared)), rel=1e-3)


@pytest.mark.parametrize(
    ("law", "density"),
    [("gaussian", torch.distributions.Normal(0.0, 0.3)), ("laplace", torch.distributions.Laplace(0.0, 0.3 / 2**0.5))],
)
def test_likelihood_is_the_noise_density_up_to_a_constant(law, density):
    (one, other), shared = two_sides(1), two_sides(2)[0]
    measure = likelihood(law, 0.3)
    nats = [-sum(density.log_prob(shared[name] - side[name]).sum() for name in shared) for side in (one, other)]
    assert measure(one, shared) - measure(other, shared) == pytest.approx(float(nats[0] - nats[1]))


def test_variations_are_zero_on_flat_images_and_grow_with_noise():
    flat, noise = torch.full((2, 3, 6, 6), 0.4), torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    gray = noise[:, :1].expand(-1, 3, -1, -1)
    assert anisotropic(flat) == 0
    assert color(flat) == pytest.approx(1e-4)
    assert anisotropic(noise) > 0.3
    assert color(noise) > color(gray) > 0.1
    ramp = torch.arange(5.0).expand(1, 1, 5, 5)
    assert anisotropic(ramp) == 1
    assert color(ramp) == pytest.approx(1)


def test_starts_have_their_laws_and_their_seed():
    draws = {name: start((4, 2, 3, 10, 10), torch.Generator().manual_seed(0)) for name, start in STARTS.items()}
    assert draws["uniform"].abs().max() <= 1
    assert draws["uniform"].std() == pytest.approx(3**-0.5, rel=0.05)
    assert draws["normal"].std() == pytest.approx(1, rel=0.05)
    tiles = draws["patterned"]
    assert torch.equal(tiles[..., :6, :], tiles[..., 4:, :])
    assert torch.equal(tiles[..., :6], tiles[..., 4:])
    assert not torch.equal(tiles[0], tiles[1])
    assert torch.equal(tiles, patterned((4, 2, 3, 10, 10), torch.Generator().manual_seed(0)))


def test_the_steps_schedule_falls_at_three_five_and_seven_eighths():
    factors = [SCHEDULES["steps"](step / 8) for step in range(8)]
    assert factors == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.001])
    assert [SCHEDULES["cosine"](done) for done in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])


def valleys(points, problems):
    """Rosenbrock's valley, of a steepness that differs between problems."""
    points = points.detach().requires_grad_()
    steep = 10.0 * (1 + problems.double())
    across = (points[:, 1:] - points[:, :-1] ** 2).square().sum(1)
    values = steep * across + (1 - points[:, :-1]).square().sum(1)
    (gradient,) = torch.autograd.grad(values.sum(), points)
    return values.detach(), gradient, values.detach()


def best_alone(problem, start, steps, make):
    """The least value that one of PyTorch's own optimizers sees."""
    point, seen = start.clone().requires_grad_(), []

    def closure():
        value, gradient, _ = valleys(point[None], torch.tensor([problem]))
        point.grad = gradient[0]
        seen.append(float(value))
        return value[0]

    optimizer = make([point])
    for _ in range(steps):
        optimizer.step(closure)
    closure()
    return min(seen)


def test_lbfgs_takes_the_path_of_pytorchs_on_every_row():
    start = 0.3 * torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double()
    for steps in (1, 3):
        found = lbfgs(valleys, start, steps=steps, lr=0.5, **FREE)
        alone = [best_alone(i, start[i], steps, lambda p: torch.optim.LBFGS(p, lr=0.5)) for i in range(4)]
        assert found.objective.tolist() == pytest.approx(alone, rel=1e-6, abs=1e-12)
    assert not found.diverged.any()


def test_adam_takes_the_path_of_pytorchs_on_every_row():
    start = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double()
    found = adam(valleys, start, steps=25, lr=0.05, **FREE)
    alone = [best_alone(i, start[i], 25, lambda p: torch.optim.Adam(p, lr=0.05)) for i in range(4)]
    assert found.objective.tolist() == pytest.approx(alone)
    assert found.evaluations == 4 * 26


def test_the_sign_is_taken_of_the_first_columns_only():
    def evaluate(points, problems):
        slope = torch.tensor([[7.0, -0.01, 3.0]]).expand_as(points)
        return (points * slope).sum(1), slope.clone(), points.new_ones(len(points))

    seen = []
    original = torch.optim.Adam.step

    def spy(self, *args):
        seen.append(self.param_groups[0]["params"][0].grad.clone())
        return original(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", spy)
        adam(evaluate, torch.zeros(1, 3), steps=2, lr=0.1, sign="hard", signed=2, **FREE)
        adam(evaluate, torch.zeros(1, 3), steps=2, lr=0.1, sign="soft", signed=2, **FREE)
    hard, _, soft, later = (one[0].tolist() for one in seen)
    assert hard == [1, -1, 3]
    assert soft == pytest.approx([1, -0.01, 3], rel=1e-4)
    assert later == pytest.approx([math.tanh(3.5) / 0.5, -0.01, 3], rel=1e-4)


@pytest.mark.parametrize("minimize", [adam, lbfgs])
def test_a_row_that_meets_nan_stops_alone_at_its_best_point(minimize):
    def evaluate(points, problems):
        values, gradient, _ = valleys(points, torch.zeros_like(problems))
        lost = (problems == 1) & (values < 3)
        values[lost] = math.nan
        return values, gradient, values

    start = torch.zeros(3, 4).double()
    found = minimize(evaluate, start, steps=20, lr=0.05, **FREE)
    assert found.diverged.tolist() == [False, True, False]
    assert found.objective[1] == 3
    assert torch.equal(found.points[1], start[1])
    assert found.objective[0] == pytest.approx(float(found.objective[2]))
    assert found.objective[0] < 1


@pytest.mark.parametrize("minimize", [adam, lbfgs])
def test_a_row_that_matches_enough_stops_and_the_box_holds(minimize):
    start = torch.tensor([[0.9] * 4, [-0.5] * 4]).double()
    found = minimize(valleys, start, steps=5, lr=0.01, enough=0.5, project=lambda points: points.clamp(-0.6, 0.95))
    assert found.matching[0] < 0.5
    assert found.points.max() <= 0.95
    few = minimize(valleys, start[:1], steps=5, lr=0.01, enough=0.5, project=lambda points: points.clamp(-0.6, 0.95))
    assert few.evaluations < 10


def test_restarts_run_in_turn_until_one_is_enough():
    losses, asked = torch.tensor([[0.5, 0.01, 0.0], [0.01, 0.0, 0.0], [0.9, 0.8, 0.7]]).flatten(), []

    def minimize(rows):
        asked.append(rows.tolist())
        end = rows[:, None].expand(-1, 2).float()
        return Minimized(end, losses[rows], losses[rows], rows == 6, evaluations=10 * len(rows))

    found = in_turn(minimize, torch.arange(9).view(3, 3), torch.zeros(9, 2), enough=0.1)
    assert asked == [[0, 3, 6], [1, 7], [8]]
    assert found.matching.view(3, 3).min(dim=1).values.tolist() == pytest.approx([0.01, 0.01, 0.7])
    assert found.points[1].tolist() == [1, 1]
    assert found.matching[2] == math.inf, "never run"
    assert found.diverged.nonzero().tolist() == [[6]]
    assert found.evaluations == 60
