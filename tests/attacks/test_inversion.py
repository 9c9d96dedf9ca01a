"""Model inversion: planted faces, estimates of slopes, controls, and what is refused."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from divulge.attacks.inversion import BlackBoxInversion, MIFace, PrincipalComponents
from divulge.attacks.inversion.costs import COSTS
from divulge.attacks.knowledge import Knowledge
from divulge.data import Dataset, load, split
from divulge.errors import BadInputError
from divulge.metrics.recognition import recognize
from divulge.models import seeded
from divulge.models.mlp import Softmax
from divulge.releases import Posteriors, Weights
from divulge.training import Recipe, fit, logits

SHAPE = (1, 8, 8)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def parts() -> dict[str, Dataset]:
    return split(load("digits"), {"train": 600, "public": 600, "held_out": 500}, seed=0, stratify=True).parts


@pytest.fixture(scope="module")
def model(parts) -> nn.Module:
    model = Softmax().build(SHAPE, 10, seed=0)
    fit(model, parts["train"], Recipe(epochs=30, batch_size=64, lr=1e-2), seed=0)
    return model


def named(drawings: Tensor, parts: dict[str, Dataset]) -> float:
    held_out = parts["held_out"]
    return recognize(drawings, torch.arange(10), held_out.inputs, held_out.targets).top(1).value


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"cost": "confidence", "unit": False, "lr": 0.1, "steps": 500, "box": None},
        {"cost": "logit"},
        {"cost": "poincare"},
        {"momentum": 0.9, "lr": 0.3},
        {"tv": 0.1},
        {"starts": 3},
        {"dimensions": 20, "lr": 0.3},
    ],
    ids=str,
)
def test_drawn_digits_are_named_by_records_the_model_never_saw(model, parts, settings):
    found = MIFace(**settings).run(
        Weights(model, SHAPE, 10), knowledge=Knowledge(data=parts["public"]), generator=generator()
    )
    assert found.inputs.shape == (10, *SHAPE)
    assert torch.equal(torch.from_numpy(logits(model, found.inputs)).argmax(dim=1), torch.arange(10))
    assert named(found.inputs, parts) >= 0.7


def test_an_untrained_model_shows_nobody(parts):
    blank = Softmax().build(SHAPE, 10, seed=0)
    found = MIFace().run(Weights(blank, SHAPE, 10), generator=generator())
    assert named(found.inputs, parts) <= 0.4


def test_a_linear_model_gives_its_rows():
    """Without a box, every step on a linear model of two classes goes along the difference of its rows."""
    linear = nn.Linear(6, 2)
    found = MIFace(box=None, steps=5).run(Weights(linear, (6,), 2), generator=generator())
    apart = (linear.weight[0] - linear.weight[1]).detach()
    assert torch.allclose(found.inputs[0] / found.inputs[0].norm(), apart / apart.norm(), atol=1e-5)


def test_as_many_steps_are_taken_as_asked_for():
    """A single published step from zeros ends at minus the rate times the slope there."""
    with seeded(0):
        linear = nn.Linear(6, 3)
    attack = MIFace(cost="confidence", unit=False, lr=0.1, steps=1, box=None)
    found = attack.run(Weights(linear, (6,), 3), generator=generator())
    zeros = torch.zeros(3, 6, requires_grad=True)
    (slope,) = torch.autograd.grad(COSTS["confidence"](linear(zeros), torch.arange(3)).sum(), zeros)
    assert found.facts["steps"] == 1
    assert torch.allclose(found.inputs, -0.1 * slope)


def test_the_best_record_is_kept_and_not_the_last():
    class Trap(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([-(x.sum(1) - 1).square(), torch.zeros(len(x))], dim=1)

    found = MIFace(box=None, steps=50, lr=0.9, starts=1).run(
        Weights(Trap(), (1,), 2), classes=[0], generator=generator()
    )
    assert float(found.inputs.sum()) == pytest.approx(0.9, abs=0.11)


def test_classes_stop_at_the_confidence_asked_for(model):
    release = Weights(model, SHAPE, 10)
    early = MIFace(target_confidence=0.6).run(release, generator=generator())
    late = MIFace(target_confidence=0.999).run(release, generator=generator())
    assert early.facts["steps"] < late.facts["steps"]


def test_the_model_stays_as_it_is(model, parts):
    model.train()
    model.zero_grad()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    MIFace(steps=3).run(Weights(model, SHAPE, 10), generator=generator())
    assert model.training
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()


class TestQueries:
    @pytest.mark.parametrize("answers", ["posteriors", "labels"])
    def test_answers_are_enough(self, model, parts, answers):
        release = Posteriors(lambda x: logits(model, x), classes=10, logits=True)
        attack = BlackBoxInversion(answers=answers, queries=2000, dimensions=15)
        found = attack.run(release, shape=SHAPE, knowledge=Knowledge(data=parts["public"]), generator=generator())
        assert named(found.inputs, parts) >= 0.6
        assert 1900 < found.queries <= attack.queries
        assert release.queries <= 10 * found.queries
        if answers == "posteriors":
            table = torch.from_numpy(logits(model, found.inputs)).softmax(dim=1)
            assert torch.allclose(found.confidence, table.diagonal(), atol=1e-6)

    def test_an_estimated_slope_is_the_slope(self):
        """On a linear model, the first move goes along the slope as well as the draws allow."""
        linear = nn.Linear(12, 2)
        release = Posteriors(lambda x: linear(x).detach(), classes=2, logits=True)
        attack = BlackBoxInversion(pairs=2000, queries=8002, dimensions=None, box=None, lr=1.0)
        found = attack.run(release, shape=(12,), classes=[0], generator=generator())
        apart = (linear.weight[0] - linear.weight[1]).detach()
        assert float(torch.cosine_similarity(found.inputs[0], apart, dim=0)) > 0.98

    @pytest.mark.parametrize("answers", ["posteriors", "labels"])
    @pytest.mark.parametrize("queries", [21, 22, 41, 42, 63, 100])
    def test_no_class_costs_more_than_its_queries(self, model, parts, answers, queries):
        release = Posteriors(lambda x: logits(model, x), classes=10, logits=True, budget=10 * queries)
        attack = BlackBoxInversion(answers=answers, queries=queries, pairs=10, dimensions=5)
        found = attack.run(release, shape=SHAPE, knowledge=Knowledge(data=parts["public"]), generator=generator())
        assert found.queries <= queries

    def test_a_class_that_is_never_answered_is_not_reached(self, parts):
        always = Posteriors(lambda x: np.tile([0.1, 0.9], (len(x), 1)), classes=2)
        attack = BlackBoxInversion(answers="labels", queries=400, dimensions=5)
        found = attack.run(always, shape=SHAPE, knowledge=Knowledge(data=parts["public"]), generator=generator())
        assert found.confidence.tolist() == [0.0, 1.0]
        assert found.facts["not reached"] == 1


def test_costs_fall_with_the_logit_of_the_class():
    low, high = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[3.0, 1.0, 2.0]])
    for cost in COSTS.values():
        assert float(cost(high, torch.tensor([0]))) < float(cost(low, torch.tensor([0])))


def test_principal_components_span_their_records():
    draw = torch.Generator().manual_seed(0)
    records = torch.rand(50, 3, generator=draw) @ torch.rand(3, 8, generator=draw)
    prior = PrincipalComponents.of(Dataset(records, torch.zeros(50, dtype=torch.long)), dimensions=3)
    points = (records - prior.mean) @ torch.linalg.pinv(prior.components)
    assert torch.allclose(prior.records(points), records, atol=1e-4)
    assert torch.allclose(points.std(dim=0), torch.ones(3), atol=0.05)


def test_chance_recognition_is_chance():
    draw = torch.Generator().manual_seed(0)
    photographs, people = torch.rand(400, 1, 6, 6, generator=draw), torch.arange(40).repeat(10)
    found = recognize(torch.rand(400, 1, 6, 6, generator=draw), people, photographs, people)
    assert found.top(1).low <= found.chance(1) <= found.top(1).high
    assert found.top(5).low <= found.chance(5) <= found.top(5).high
    with pytest.raises(BadInputError, match="no photograph of class 40"):
        recognize(photographs[:1], torch.tensor([40]), photographs, people)
    with pytest.raises(BadInputError, match="NaN"):
        recognize(photographs[:1], people[:1], torch.cat([photographs[1:], photographs[:1] / 0]), people)


def test_a_blank_drawing_names_nobody():
    photographs = torch.rand(30, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    people = torch.arange(10).repeat(3)
    blank = torch.full((10, 1, 6, 6), 0.7)
    assert recognize(blank, torch.arange(10), photographs, people).rank.tolist() == [9] * 10
    assert recognize(photographs[:10], torch.arange(10), photographs, people).rank.tolist() == [0] * 10
    twins = torch.cat([photographs[:1], photographs[:1], photographs[2:10]])
    assert recognize(twins[:1], torch.tensor([0]), twins, torch.arange(10)).rank.tolist() == [1]


@pytest.mark.parametrize("broken", ["nan", "none", "targets"])
def test_drawings_that_cannot_be_named_are_refused(broken):
    photographs, people = torch.eye(4), torch.arange(4)
    drawings = {"nan": photographs * torch.nan, "none": photographs[:0], "targets": photographs[:2]}[broken]
    with pytest.raises(BadInputError, match="finite drawing or more"):
        recognize(drawings, people[: len(drawings) + (broken == "targets")], photographs, people)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: MIFace(steps=0), "steps"),
        (lambda: MIFace(lr=float("nan")), "positive lr"),
        (lambda: MIFace(tv=float("nan")), "negative tv"),
        (lambda: BlackBoxInversion(spread=float("nan")), "positive pairs"),
        (lambda: MIFace().run(Weights(nn.Linear(3, 2), (3,), 4), generator=generator()), "logits of 4 classes"),
        (lambda: MIFace(target_confidence=0.0), "target_confidence"),
        (lambda: MIFace(box=(1.0, 0.0)), "box"),
        (lambda: BlackBoxInversion(queries=10), "queries"),
        (lambda: MIFace().run(Weights(nn.Linear(3, 2), (3,), 2), classes=[5], generator=generator()), "classes"),
        (lambda: MIFace(tv=1.0).run(Weights(nn.Linear(3, 2), (3,), 2), generator=generator()), "images"),
        (lambda: MIFace(dimensions=3).run(Weights(nn.Linear(3, 2), (3,), 2), generator=generator()), "public records"),
        (lambda: MIFace().run(Weights(Blind(), (3,), 2), generator=generator()), "no slope"),
    ],
)
def test_what_cannot_be_done_is_refused(make, told):
    with pytest.raises(BadInputError, match=told):
        make()


class Blind(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), 2)
