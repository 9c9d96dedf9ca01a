"""What a client shares: against the textbook gradient, without a trace on the caller's side."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from divulge.attacks.gradients.first_layer import FirstLayer
from divulge.attacks.gradients.inverting_gradients import InvertingGradients
from divulge.attacks.gradients.stated import require_stated_batch
from divulge.defenses.gradient_noise import GradientNoise
from divulge.defenses.gradient_pruning import GradientPruning
from divulge.defenses.gradient_rounding import GradientSign
from divulge.defenses.soteria import Soteria
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.models.cnn import CNN
from divulge.models.mlp import MLP
from divulge.releases import GradientRecord, Tampering, share


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(4, 3, 8, 8, generator=generator), torch.tensor([0, 2, 2, 1])


def dropping():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Dropout(), nn.Linear(8, 3))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("training", [False, True])
def test_gradients_are_those_of_the_textbook(batch, reduction, training):
    model, (inputs, targets) = CNN((4,), 8).build((3, 8, 8), 3, seed=0), batch
    record = share(model, inputs, targets, reduction=reduction, training=training)
    record.require(model)
    twin = copy.deepcopy(model).train(training)
    functional.cross_entropy(twin(inputs), targets, reduction=reduction).backward()
    for name, parameter in twin.named_parameters():
        assert torch.equal(record.gradients[name], parameter.grad)
    assert (record.batch_size, record.classes, record.shape) == (4, 3, (3, 8, 8))
    assert (record.reduction, record.training, record.kind) == (reduction, training, "gradient")


@pytest.mark.parametrize("make", [lambda: CNN((4,), 8).build((3, 8, 8), 3, seed=0), dropping], ids=["norm", "dropout"])
def test_the_model_and_the_global_state_are_left_as_they_were(batch, make):
    model, (inputs, targets) = make(), batch
    model[1].eval()
    kept = torch.ones_like(model[1].weight)
    model[1].weight.grad = kept
    state = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    first, again = (share(model, inputs, targets, training=True) for _ in range(2))
    assert all(torch.equal(first.gradients[name], again.gradients[name]) for name in first.gradients)
    assert model[1].weight.grad is kept
    assert torch.equal(kept, torch.ones_like(kept))
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_what_is_not_learned_is_not_shared_and_what_is_not_used_is_zero(batch):
    model, (inputs, targets) = dropping(), batch
    model[1].weight.requires_grad_(False)
    model.register_parameter("unused", nn.Parameter(torch.ones(2)))
    record = share(model, inputs, targets)
    record.require(model)
    assert list(record.gradients) == ["unused", "1.bias", "3.weight", "3.bias"]
    assert not record.gradients["unused"].any()


def test_a_model_that_fails_is_left_as_it_was():
    model = MLP((4,)).build((6,), 3, seed=0).train()
    with pytest.raises(RuntimeError):
        share(model, torch.rand(2, 5), torch.tensor([0, 1]))
    assert all(module.training for module in model.modules())


class Frozen(nn.Module):
    """Answers from its weights, but not through autograd."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, x):
        return self.linear(x).detach()


@pytest.mark.parametrize(
    ("model", "inputs", "targets", "words"),
    [
        (MLP((4,)).build((6,), 3, seed=0), torch.rand(2, 6), torch.tensor([0]), "a target for each, got 2 records"),
        (MLP((4,)).build((6,), 3, seed=0), torch.rand(0, 6), torch.zeros(0).long(), "a batch of 1 or more"),
        (MLP((4,)).build((6,), 3, seed=0), torch.rand(2, 6), torch.tensor([0, 3]), "targets below the classes"),
        (MLP((4,)).build((6,), 3, seed=0), torch.rand(2, 6), torch.tensor([0, -1]), "targets from -1 to 0"),
        (nn.Conv1d(2, 3, 1), torch.rand(2, 2, 6), torch.tensor([0, 1]), r"logits \(N, classes\)"),
        (Frozen(), torch.rand(2, 6), torch.tensor([0, 1]), "has no gradient"),
    ],
)
def test_batches_that_cannot_be_shared(model, inputs, targets, words):
    with pytest.raises(BadInputError, match=words):
        share(model, inputs, targets)


def changed(record, change):
    gradients = dict(record.gradients)
    change(gradients)
    return replace(record, gradients=gradients)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda g: g.pop("1.bias"), "no gradient came for 1.bias"),
        (lambda g: g.update(head=torch.ones(1)), "head are not parameters"),
        (lambda g: g.update({"1.weight": g.pop("1.weight")}), "expected the order"),
        (lambda g: g.update({"1.weight": g["1.weight"].T}), r"shape \(4, 6\) in the model and \(6, 4\)"),
        (lambda g: g.update({"1.bias": g["1.bias"] * torch.nan}), "NaN"),
        (lambda g: g.update({"1.bias": g["1.bias"] / 0}), "infinity"),
        (lambda g: g.update({name: value * 0 for name, value in g.items()}), "every gradient is zero"),
        (lambda g: g.update({"1.bias": g["1.bias"].to("meta")}), "is on meta and the model on cpu"),
        (lambda g: g.update({"1.bias": g["1.bias"].long()}), "expected floating point, got torch.int64"),
    ],
    ids=["missing", "unknown", "reordered", "shape", "nan", "infinity", "zero", "device", "whole numbers"],
)
def test_records_that_are_not_of_the_model(change, words):
    model = MLP((4,)).build((6,), 3, seed=0)
    record = share(model, torch.rand(1, 6), torch.tensor([1]))
    with pytest.raises(BadInputError, match=words):
        changed(record, change).require(model)


def test_records_of_another_architecture():
    record = share(MLP((4,)).build((6,), 3, seed=0), torch.rand(1, 6), torch.tensor([1]))
    with pytest.raises(BadInputError, match=r"shape \(5, 6\) in the model"):
        record.require(MLP((5,)).build((6,), 3, seed=0))
    with pytest.raises(BadInputError, match=r"no gradient came for 5.weight, 5.bias"):
        record.require(MLP((4, 4)).build((6,), 3, seed=0))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"batch_size": 0}, "a batch of 0"),
        ({"classes": 0}, "0 classes"),
        ({"shape": (3, 0)}, r"shape \(3, 0\)"),
        ({"local_steps": 2}, "Say kind='update'"),
        ({"kind": "update"}, "positive lr"),
        ({"kind": "update", "local_steps": 0, "lr": 0.1}, "0 local steps"),
        ({"batch_size": 4, "step_sizes": (2, 2)}, r"for each of 1 steps .* step_sizes=\(2, 2\)"),
        ({"kind": "update", "lr": 0.1, "batch_size": 4, "local_steps": 2, "step_sizes": (1, 2)}, "all of them in one"),
        ({"kind": "update", "lr": 0.1, "batch_size": 4, "local_steps": 2, "step_sizes": (5, 1)}, "of 4 records"),
    ],
)
def test_facts_that_contradict_each_other(facts, words):
    with pytest.raises(BadInputError, match=words):
        GradientRecord(**{"gradients": {}, "batch_size": 1, "classes": 2, "shape": (3,), **facts})


def stated(record, model, size):
    FirstLayer().run(replace(record, batch_size=size), model, generator=torch.Generator())


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_more_records_than_stated_stand_behind_the_gradient(batch, reduction):
    model, (inputs, _) = MLP((8,)).build((3, 8, 8), 6, seed=0), batch
    record = share(model, inputs, torch.tensor([0, 2, 2, 1]), reduction=reduction)
    for size in (1, 3):
        with pytest.raises(BadInputError, match=f"4 records or more .* 3 labels or more, .* stated batch of {size}"):
            require_stated_batch(replace(record, batch_size=size), model)
    with pytest.raises(BadInputError, match="stated batch of 1"):
        stated(record, model, 1)
    require_stated_batch(record, model)
    require_stated_batch(replace(record, batch_size=5), model)


@pytest.mark.parametrize(
    "defense",
    [GradientNoise(std=1e-3), GradientPruning(rate=0.3), GradientSign(), Soteria(rate=0.5)],
    ids=lambda one: one.name,
)
def test_a_defended_record_of_the_stated_batch_is_believed(batch, defense):
    model, (inputs, targets) = MLP((8,)).build((3, 8, 8), 6, seed=0), batch
    for size in (1, 2):
        honest = share(model, inputs[:size], targets[:size])
        generator = torch.Generator().manual_seed(0)
        sent = defense.share(honest, model=model, inputs=inputs[:size], targets=targets[:size], generator=generator)
        require_stated_batch(sent.record, model)


class Patches(nn.Module):
    """Classifies the rows of an image one by one, and takes the mean."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(24, 6)

    def forward(self, x):
        return self.head(x.transpose(1, 2).flatten(2)).mean(dim=1)


def test_a_layer_that_sees_many_rows_of_a_record_tells_nothing_of_the_batch(batch):
    with seeded(0):
        model = Patches()
    require_stated_batch(share(model, batch[0][:1], batch[1][:1]), model)


@pytest.mark.parametrize(
    ("withheld", "name", "expected"),
    [
        ("fc1", "fc1.weight", True),
        ("fc1", "fc10.weight", False),
        ("fc1.", "fc1.weight", True),
        ("fc1.weight", "fc1.weight", True),
        ("fc1.weight", "fc1.weight_scale", False),
        ("block.fc1", "fc1.weight", False),
    ],
)
def test_a_withheld_name_is_that_of_a_parameter_or_a_module(withheld, name, expected):
    assert Tampering(withheld=(withheld,)).withholds(name) is expected


def test_steps_that_share_some_records_cannot_be_played_again(batch):
    model, (inputs, targets) = MLP((4,)).build((3, 8, 8), 3, seed=0), batch
    honest = share(model, inputs, targets)
    facts = {"kind": "update", "lr": 0.1}
    one_pass = replace(honest, **facts, local_steps=2, step_sizes=(3, 1))
    assert one_pass.steps == (slice(0, 3), slice(3, 4))
    twice = replace(honest, **facts, local_steps=4, step_sizes=(3, 1, 3, 1))
    with pytest.raises(BadInputError, match="nobody knows whom in which"):
        InvertingGradients(steps=1).run(twice, model, generator=torch.Generator())
