"""Searches against clients whose records are known: what leaks is found, and what is not there is not."""

import copy
import dataclasses

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from divulge.attacks import ATTACKS
from divulge.attacks.gradients.bias_anchored import BiasAnchored
from divulge.attacks.gradients.dlg import DLG
from divulge.attacks.gradients.idlg import IDLG
from divulge.attacks.gradients.inverting_gradients import InvertingGradients, ModernInvertingGradients
from divulge.attacks.gradients.search import Search
from divulge.metrics.images import psnr
from divulge.models import MODELS, seeded
from divulge.releases import GradientRecord, share

SETTINGS = {
    DLG: {"distance": "l2", "labels": "joint", "optimizer": "lbfgs", "steps": 300, "lr": 1.0, "box": None, "tv": 0.0},
    IDLG: {"distance": "l2", "labels": "weight", "optimizer": "lbfgs", "steps": 300, "lr": 1.0, "enough": 1e-6},
    InvertingGradients: {
        "distance": "cosine", "tv": 1e-4, "variation": "anisotropic", "optimizer": "adam", "lr": 0.1, "sign": "hard",
        "schedule": "steps", "steps": 4800, "box": (0.0, 1.0), "start": "normal", "warmup": 0,
    },
    ModernInvertingGradients: {
        "distance": "cosine", "tv": 0.1, "variation": "color", "lr": 0.1, "sign": "soft", "schedule": "cosine",
        "steps": 24_000, "warmup": 50, "start": "patterned",
    },
    BiasAnchored: {"distance": "cosine", "tv": 1e-6, "anchoring": 1.0, "lr": 0.1, "sign": "hard", "schedule": "steps"},
}  # fmt: skip
QUICK = Search(restarts=2, steps=6, lr=0.05)


def seed(value=0):
    return torch.Generator().manual_seed(value)


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)


@pytest.fixture(scope="module")
def lenet():
    return MODELS.make("lenet").build((1, 8, 8), 10, seed=0)


@pytest.fixture(scope="module")
def records(digits, lenet):
    images, targets = digits
    return [share(lenet, images[i : i + 1], targets[i : i + 1]) for i in range(4)]


@pytest.mark.parametrize("attack", SETTINGS, ids=lambda attack: attack.name)
def test_settings_are_the_papers(attack):
    made = ATTACKS.make(attack.name)
    assert type(made) is attack
    assert made.restarts == 1
    assert {name: getattr(made, name) for name in SETTINGS[attack]} == SETTINGS[attack]


@pytest.fixture(scope="module")
def leaked(lenet, records):
    return DLG(restarts=2, steps=8).run(records[3], lenet, generator=seed())


def test_joint_search_rebuilds_a_digit_and_its_label(leaked, digits):
    assert leaked.inputs.shape == (1, 1, 1, 8, 8)
    assert leaked.targets.tolist() == [[digits[1][3]]]
    assert psnr(leaked.inputs[0], digits[0][3:4]) > 30
    assert leaked.matching[0] < 1e-5
    assert not leaked.exact


def test_search_with_the_label_read_first_rebuilds_a_digit(digits, lenet, records):
    found = IDLG(restarts=2, steps=8).run(records[3], lenet, generator=seed())
    assert found.targets.tolist() == [[digits[1][3]]]
    assert psnr(found.inputs[0], digits[0][3:4]) > 30
    assert 1e-8 < found.matching[0] <= 1e-6


def test_gradient_of_another_image_tells_nothing_of_this_one(leaked, digits):
    images, targets = digits
    others = images[4:][targets[4:] == 3]
    for image in (images[0:1], images[5:6]):
        chance = psnr(others, image.expand_as(others))
        assert psnr(leaked.inputs[0], image) <= chance.max()


def test_directions_alone_improve_on_the_start_in_the_box(digits, lenet, records):
    image = digits[0][1:2]
    begun, later = (InvertingGradients(steps=steps).run(records[1], lenet, generator=seed()) for steps in (1, 80))
    assert later.matching[0] < begun.matching[0] / 50
    assert psnr(later.inputs[0], image) > psnr(begun.inputs[0], image) + 10
    assert later.inputs.min() >= 0
    assert later.inputs.max() <= 1


def test_anchored_needs_no_label_and_ignores_what_happens_above(digits, lenet):
    class Veiled(nn.Module):
        def __init__(self, body, head):
            super().__init__()
            self.body, self.encode, self.head = body, nn.Linear(head.in_features, 16), nn.Linear(8, 10)
            self.noise = None

        def forward(self, x):
            mean, spread = self.encode(self.body(x)).chunk(2, dim=1)
            return self.head(mean + spread.exp() * self.noise)

    with seeded(0):
        model = Veiled(lenet[:-1], lenet[-1])
        model.noise = torch.randn(8)
    record = share(model, digits[0][2:3], digits[1][2:3])
    model.noise = torch.zeros(8)
    found = BiasAnchored(steps=80).run(record, model, generator=seed())
    assert psnr(found.inputs[0], digits[0][2:3]) > 25
    assert found.targets is None


def test_victims_and_restarts_together_are_as_one_by_one(lenet, records):
    for attack in (QUICK, DLG(restarts=2, steps=1)):
        together = attack.run(records[:3], lenet, generator=seed())
        generator = seed()
        alone = [attack.run(record, lenet, generator=generator) for record in records[:3]]
        torch.testing.assert_close(together.inputs, torch.cat([one.inputs for one in alone]), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(together.matching, torch.cat([one.matching for one in alone]), rtol=1e-3, atol=1e-6)
    chunked = Search(restarts=2, steps=6, lr=0.05, together=4).run(records[:3], lenet, generator=seed())
    whole = QUICK.run(records[:3], lenet, generator=seed())
    torch.testing.assert_close(chunked.inputs, whole.inputs, rtol=1e-3, atol=1e-3)


def test_the_best_restart_has_the_least_matching_loss(lenet, digits):
    # in float64, as Adam's first steps are as long for a slope that is all rounding error as for any other
    model = copy.deepcopy(lenet).double()
    record = share(model, digits[0][:1].double(), digits[1][:1])
    # 64 entries a start, so that drawing two in one go gives those of one after the other
    generator, attack = seed(), Search(steps=6, lr=0.05, tv=0.1)
    alone = [attack.run(record, model, generator=generator) for _ in range(3)]
    best = min(alone, key=lambda found: float(found.matching))
    found = dataclasses.replace(attack, restarts=3).run(record, model, generator=seed())
    torch.testing.assert_close(found.inputs, best.inputs, rtol=1e-3, atol=1e-3)
    assert float(found.matching) < max(float(one.matching) for one in alone)


def test_nothing_of_the_callers_changes(digits):
    with seeded(0):
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Sigmoid(), nn.Flatten(), nn.Linear(36, 10)
        )
    model[0].eval()
    model[0].bias.requires_grad_(False)
    state, modes = copy.deepcopy(model.state_dict()), [layer.training for layer in model.modules()]
    record = share(model, digits[0][:3], digits[1][:3], training=True)
    kept, random = {name: one.clone() for name, one in record.gradients.items()}, torch.get_rng_state()
    for attack in (QUICK, BiasAnchored(steps=2)):
        one = record if attack is QUICK else share(model, digits[0][:1], digits[1][:1])
        with torch.no_grad():
            first = attack.run(one, model, generator=seed())
        assert torch.equal(first.inputs, attack.run(one, model, generator=seed()).inputs)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [layer.training for layer in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == [True, False, True, True, True, True]
    assert all(p.grad is None for p in model.parameters())
    assert not any(layer._forward_pre_hooks for layer in model)
    assert all(torch.equal(record.gradients[name], one) for name, one in kept.items())
    assert torch.equal(torch.get_rng_state(), random)


def matching_at(attack, record, model, images, **known):
    """The matching loss of the true batch."""

    class Told(type(attack)):
        def _begin(self, record, *, joint, generator):
            return images.flatten()[None]

    settings = {field.name: getattr(attack, field.name) for field in dataclasses.fields(attack)}
    told = Told(**settings | known | {"steps": 1, "lr": 1e-12, "restarts": 1})
    return float(told.run(record, model, generator=seed()).matching)


def test_batch_norm_in_training_mode_is_played_again(digits):
    with seeded(0):
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Sigmoid(), nn.Flatten(), nn.Linear(144, 10))
    images, targets = digits[0][:3], digits[1][:3]
    for training, other in ((True, False), (False, True)):
        record = share(model, images, targets, training=training)
        wrong = GradientRecord(record.gradients, batch_size=3, classes=10, shape=(1, 8, 8), training=other)
        labels = (tuple(targets.tolist()),)
        assert matching_at(QUICK, record, model, images, targets=labels) < 1e-10
        assert matching_at(QUICK, wrong, model, images, targets=labels) > 1e-3


def test_several_local_steps_are_differentiated_through(digits, lenet):
    images, targets = digits[0][:2], digits[1][:2]
    client, lr = copy.deepcopy(lenet), 0.3
    for _ in range(3):
        gradients = share(client, images, targets).gradients
        with torch.no_grad():
            for name, parameter in client.named_parameters():
                parameter -= lr * gradients[name]
    after = dict(client.named_parameters())
    update = {name: (p.detach() - after[name].detach()) / lr for name, p in lenet.named_parameters()}
    facts = {"batch_size": 2, "classes": 10, "shape": (1, 8, 8), "kind": "update", "lr": lr}
    record, wrong = (GradientRecord(update, **facts, local_steps=steps) for steps in (3, 1))
    labels = (tuple(targets.tolist()),)
    assert matching_at(QUICK, record, lenet, images, targets=labels) < 1e-9
    assert matching_at(QUICK, wrong, lenet, images, targets=labels) > 1e-4
    found = Search(targets=((0, 1),), steps=3).run(record, lenet, generator=seed())
    assert found.inputs.shape == (1, 2, 1, 8, 8)
    assert found.targets.tolist() == [[0, 1]]


def test_a_sum_over_the_batch_is_told_from_a_mean(digits, lenet):
    images, targets = digits[0][:2], digits[1][:2]
    record = share(lenet, images, targets, reduction="sum")
    assert matching_at(Search(distance="l2"), record, lenet, images, targets=(tuple(targets.tolist()),)) < 1e-8


def test_withheld_and_ignored_tensors_are_left_out(digits, lenet, records):
    holes = {name: one.clone() for name, one in records[0].gradients.items()}
    holes["7.weight"][:, ::2] = 0
    holes["4.weight"][:] = 0
    record = GradientRecord(holes, batch_size=1, classes=10, shape=(1, 8, 8))
    image = digits[0][:1]
    assert matching_at(QUICK, record, lenet, image) > 1e-2
    assert matching_at(QUICK, record, lenet, image, zeros="skip") < 1e-10
    assert matching_at(QUICK, record, lenet, image, ignore=("7.weight", "4.weight")) < 1e-10


def test_units_are_those_after_normalization(digits):
    model = MODELS.make({"name": "lenet", "mean": (0.4,), "std": (0.1,)}).build((1, 8, 8), 10, seed=0)
    record = share(model, digits[0][:1], digits[1][:1])
    found = Search(box=None, steps=1, lr=1e-9).run(record, model, generator=seed())
    start = torch.randn(1, 64, generator=seed())
    torch.testing.assert_close(found.inputs.flatten(), 0.4 + 0.1 * start.flatten(), rtol=1e-4, atol=1e-4)
    boxed = Search(steps=20).run(record, model, generator=seed())
    assert boxed.inputs.min() >= -1e-6
    assert boxed.inputs.max() <= 1 + 1e-6


def test_restarts_that_meet_nan_are_counted_and_dropped(digits, lenet):
    class Root(nn.Module):
        def forward(self, x):
            return x + (x.mean() + 0.02).sqrt()

    model = nn.Sequential(Root(), lenet)
    record = share(model, digits[0][:1], digits[1][:1])
    attack = Search(box=None, restarts=6, steps=5, lr=0.01)
    found = attack.run(record, model, generator=seed())
    assert 1 <= found.facts["diverged"] < 6
    assert found.found is None
    assert found.matching.isfinite().all()
    assert found.inputs.isfinite().all()

    class Lost(nn.Module):
        def forward(self, x):
            return x + (x.min() - 0).sqrt()

    model = nn.Sequential(Lost(), lenet)
    found = attack.run(share(model, digits[0][:1], digits[1][:1]), model, generator=seed())
    assert found.facts["diverged"] == 6
    assert not found.found.any()
    assert not found.inputs.any()
