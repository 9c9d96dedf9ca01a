"""What a search refuses, and the words it does it in."""

import pytest
import torch
from torch import nn

from divulge.attacks import ATTACKS
from divulge.attacks.gradients.bias_anchored import BiasAnchored
from divulge.attacks.gradients.idlg import IDLG
from divulge.attacks.gradients.search import Search
from divulge.errors import BadInputError
from divulge.models import MODELS, seeded
from divulge.releases import GradientRecord, share

IMAGES = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([3, 1])


def lenet(classes=10):
    return MODELS.make("lenet").build((1, 8, 8), classes, seed=0)


def client(*layers):
    """A linear classifier behind some layers."""
    with seeded(0):
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 10))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"restarts": 0}, "restarts, steps and together of 1 or more"),
        ({"steps": 0}, "restarts, steps and together of 1 or more"),
        ({"lr": 0.0}, "a positive lr"),
        ({"tv": -1.0}, "no negative tv"),
        ({"box": (1.0, 0.0)}, "a box of a lower and a higher pixel"),
        ({"distance": "gaussian"}, "need noise"),
        ({"distance": "laplace", "noise": -0.1}, "need noise"),
        ({"distance": "l2", "noise": 0.1}, "the others take none"),
        ({"noise": 0.0}, "a positive standard deviation"),
        ({"optimizer": "lbfgs", "sign": "hard"}, "are Adam's"),
        ({"optimizer": "lbfgs", "schedule": "steps"}, "are Adam's"),
    ],
)
def test_settings_that_contradict_each_other(settings, words):
    with pytest.raises(BadInputError, match=words):
        Search(**settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "dlg", "step": 5}, "the nearest is 'steps'"),
        ({"name": "dlg", "distance": "l3"}, "distance"),
        ({"name": "idgl"}, "the nearest is 'idlg'"),
    ],
)
def test_settings_from_outside(settings, words):
    with pytest.raises(BadInputError, match=words):
        ATTACKS.make(settings)


class Rounded(nn.Module):
    def forward(self, x):
        return x.round()


class Cut(nn.Module):
    def forward(self, x):
        return x.detach()


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("attack", "model", "count", "training", "words"),
    [
        (Search(steps=2), client(Rounded()), 1, False, "does not change with its input"),
        (Search(steps=2), client(Cut()), 1, False, "differentiate twice and batch|does not change with its input"),
        (Search(steps=2), client(Branching()), 1, False, "differentiate twice and batch"),
        (Search(steps=2), client(nn.Dropout(0.5)), 1, True, "drops units at random"),
        (Search(steps=2, box=(9.0, 9.5)), lenet(), 1, False, "no pixel of the normal start lies in the box"),
        (Search(steps=2, targets=((1, 2),)), lenet(), 1, False, "expected targets for 1 victims with batches of 1"),
        (Search(steps=2, targets=((10,),)), lenet(), 1, False, "10 classes"),
        (Search(steps=2, ignore=("",)), lenet(), 1, False, "leaves no tensor"),
        (IDLG(steps=2), lenet(), 2, False, "batch of 1"),
        (BiasAnchored(steps=2), client(), 1, False, "nothing below"),
        (BiasAnchored(steps=2), nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten()), 1, False, "no such layer"),
    ],
)
def test_what_cannot_be_searched(attack, model, count, training, words):
    record = share(model, IMAGES[:count], LABELS[:count], training=training)
    with pytest.raises(BadInputError, match=words):
        attack.run(record, model, generator=torch.Generator().manual_seed(0))


def test_tables_have_no_variation():
    with seeded(0):
        model = nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 3))
    record = share(model, torch.rand(1, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([2]))
    for settings in ({"tv": 0.1}, {"start": "patterned"}):
        with pytest.raises(BadInputError, match="are for images"):
            Search(**settings).run(record, model, generator=torch.Generator())
    assert Search(steps=2).run(record, model, generator=torch.Generator()).inputs.shape == (1, 1, 6)


def test_record_of_another_architecture():
    record = share(lenet(), IMAGES[:1], LABELS[:1])
    for other in (lenet(classes=5), client()):
        with pytest.raises(BadInputError, match=r"of another architecture|no gradient came"):
            Search(steps=1).run(record, other, generator=torch.Generator())


def test_record_of_another_shape():
    gradients = share(lenet(), IMAGES[:1], LABELS[:1]).gradients
    record = GradientRecord(gradients, batch_size=1, classes=10, shape=(1, 32, 32))
    with pytest.raises(BadInputError, match="PyTorch says"):
        Search(steps=1).run(record, lenet(), generator=torch.Generator())


def test_labels_of_a_batch_are_read_where_they_are_not_told():
    model = lenet()
    for knowing in ({}, {"targets": ((1, 3),)}):
        found = Search(steps=1, **knowing).run(
            share(model, IMAGES, LABELS), model, generator=torch.Generator().manual_seed(0)
        )
        assert sorted(found.targets[0].tolist()) == [1, 3]
