"""Dropout with early stopping: where it goes, what it leaves alone, when it stops."""

import numpy as np
import pytest
import torch
from torch import nn

from divulge.data import Dataset
from divulge.defenses import DEFENSES, Defense
from divulge.defenses.dropout import Dropout
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.models.cnn import CNN
from divulge.models.mlp import MLP
from divulge.training import Recipe, fit


class Attending(nn.Module):
    """Linear layers of its own around a ready-made block that reads its own weights."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.block(self.embed(x)[:, None])[:, 0])


def built(architecture, shape, classes=3):
    return architecture.build(shape, classes, seed=0)


def attending():
    with seeded(0):
        return Attending()


NETWORKS = {
    "mlp": (lambda: built(MLP((16, 8)), (4,)), (4,), ["3.0", "5.0"]),
    "cnn": (lambda: built(CNN((4, 4), hidden=8), (1, 8, 8)), (1, 8, 8), ["10.0", "12.0"]),
    "attention": (attending, (4,), ["head.0"]),
    "softmax": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), (4,), []),
    "one layer": (lambda: nn.Linear(4, 3), (4,), []),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_dropout_stands_before_every_linear_layer_but_the_one_that_reads_the_record(case):
    make, shape, expected = NETWORKS[case]
    model = make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layers = [type(layer) for layer in model.modules()]
    defended = Dropout(rate=0.3).architecture(model)

    own = {id(layer) for layer in model.modules()}
    added = {n: layer for n, layer in defended.named_modules() if isinstance(layer, nn.Dropout) and "block" not in n}
    assert sorted(added) == sorted(expected)
    assert {layer.p for layer in added.values()} <= {0.3}
    assert [type(layer) for layer in model.modules()] == layers, "the caller's model was changed"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not own & {id(layer) for layer in defended.modules()}

    records = torch.rand(5, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model.eval()(records), defended.eval()(records)), "dropout must be the identity when asked"
        defended.train()
        if expected:
            with seeded(1):
                first = defended(records)
                assert not torch.equal(first, defended(records))


@pytest.fixture
def records():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(60, 4, generator=generator)
    return Dataset(inputs, torch.randint(3, (60,), generator=generator))


def test_training_stops_early_and_keeps_the_best_epoch(records):
    model = Dropout(patience=3).architecture(built(MLP((64,)), (4,)))
    epochs = []
    trained = Dropout(patience=3).train(
        model, records[:30], Recipe(epochs=200, lr=0.02), seed=0, validation=records[30:], watch=epochs.append
    )
    history = trained.history
    losses = [epoch.validation_loss for epoch in history]
    assert len(history) < 200, "labels are random: validation loss cannot fall for long"
    assert epochs == list(range(1, len(history) + 1))
    assert len(losses) - 1 - int(np.argmin(losses)) == 3
    assert not model.training
    loss = nn.functional.cross_entropy(model(records[30:].inputs), records[30:].targets)
    assert float(loss) == pytest.approx(min(losses), abs=1e-5)


def test_without_patience_training_runs_to_the_end_as_the_plain_loop_does(records):
    one, other = (Dropout(rate=0.5).architecture(built(MLP((16,)), (4,))) for _ in range(2))
    history = Dropout(patience=None).train(one, records, Recipe(epochs=4), seed=3).history
    fit(other, records, Recipe(epochs=4), seed=3)
    assert len(history) == 4
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_stopping_early_needs_records_to_judge_by(records):
    assert Dropout().needs_validation
    assert not Dropout(patience=None).needs_validation
    with pytest.raises(BadInputError, match="needs validation records"):
        Dropout().train(built(MLP((4,)), (4,)), records, Recipe(epochs=2), seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0.0}, "expected 0 < rate < 1, got 0"),
        ({"rate": 1.0}, "expected 0 < rate < 1, got 1"),
        ({"patience": 0}, "expected patience >= 1 or none, got 0"),
        ({"rates": 0.5}, "the nearest is 'rate'"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(BadInputError, match=message):
        DEFENSES.make({"name": "dropout", **settings})


@pytest.mark.parametrize("name", DEFENSES.classes)
def test_every_defense_says_what_it_is_and_leaves_closed_doors_as_they_are(name):
    cls = DEFENSES[name]
    defense = cls()
    assert DEFENSES.make(name) == defense
    assert cls.source
    assert cls.randomness
    assert DEFENSES.summaries()[name].endswith(".")
    model, rows = nn.Linear(2, 2), np.array([[0.4, 0.6]])
    if cls.architecture is Defense.architecture:
        assert defense.architecture(model) is model
    if cls.respond is Defense.respond:
        assert defense.respond(rows) is rows
    doors = ("architecture", "train", "share", "respond")
    assert any(getattr(cls, door) is not getattr(Defense, door) for door in doors)
