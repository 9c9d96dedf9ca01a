"""Several rounds, several local steps and several records at once."""

import copy
import dataclasses
from dataclasses import dataclass

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from divulge.attacks.gradients.base import Reconstructions
from divulge.attacks.gradients.inverting_gradients import InvertingGradients
from divulge.attacks.gradients.rounds import Round
from divulge.attacks.gradients.search import Search
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.metrics.images import best_order, psnr
from divulge.models import MODELS, seeded
from divulge.releases import GradientRecord, Tampering, share

NOISE = 0.05


@dataclass(frozen=True)
class Noisy:
    def tampering(self, model):
        return Tampering(noise="gaussian", std=NOISE)


def seed(value=0):
    return torch.Generator().manual_seed(value)


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)


@pytest.fixture(scope="module")
def lenets():
    return [MODELS.make("lenet").build((1, 8, 8), 10, seed=number) for number in range(4)]


def observed(digits, lenets, victims):
    """The noisy records of some victims in one round for each network."""
    rounds, generator = [], seed(1)
    for model in lenets:
        honest = [share(model, digits[0][[victim]], digits[1][[victim]]) for victim in victims]
        noise = [
            {name: NOISE * torch.randn(one.shape, generator=generator) for name, one in record.gradients.items()}
            for record in honest
        ]
        noisy = [
            dataclasses.replace(record, gradients={name: one + added[name] for name, one in record.gradients.items()})
            for record, added in zip(honest, noise, strict=True)
        ]
        rounds.append(Round(noisy, model, noise))
    return rounds


def told(attack, images):
    """The attack, started at the true batch and left there."""

    class Told(type(attack)):
        def _begin(self, record, *, joint, generator):
            return images.flatten()[None]

    settings = {field.name: getattr(attack, field.name) for field in dataclasses.fields(attack)}
    return Told(**settings | {"steps": 1, "lr": 1e-12, "restarts": 1, "tv": 0.0})


def test_losses_of_all_rounds_are_added(digits, lenets):
    rounds = [dataclasses.replace(one, randomness=None) for one in observed(digits, lenets[:2], [5])]
    attack = told(Search(distance="l2"), digits[0][[6]])
    together = attack.combine(rounds, generator=seed())
    alone = [attack.run(one.records, one.model, generator=seed()) for one in rounds]
    assert float(together.matching) == pytest.approx(sum(float(one.matching) for one in alone))
    assert isinstance(together, Reconstructions)


def test_noise_is_averaged_over_rounds(digits, lenets):
    victims = [10, 11, 12, 13]
    rounds = observed(digits, lenets, victims)
    adaptive = [dataclasses.replace(one, randomness=None) for one in rounds]
    attack, knowledge = InvertingGradients(steps=60, tv=0.0), Knowledge(defense=Noisy())
    one = attack.combine(adaptive[:1], knowledge=knowledge, generator=seed())
    four = attack.combine(adaptive, knowledge=knowledge, generator=seed())
    truth = digits[0][victims]
    assert psnr(four.inputs[:, 0], truth).mean() > psnr(one.inputs[:, 0], truth).mean() + 2
    assert four.targets[:, 0].tolist() == digits[1][victims].tolist()
    oracle = told(Search(targets=((5,),)), digits[0][[5]])
    found = oracle.combine(observed(digits, lenets[:2], [5]), knowledge=knowledge, generator=seed())
    assert float(found.matching) < 1e-6


def test_rounds_that_do_not_fit(digits, lenets):
    first, second = observed(digits, lenets[:2], [5, 6])
    attack = Search(steps=1)
    for rounds in ([], [first, dataclasses.replace(second, records=second.records[:1])]):
        with pytest.raises(BadInputError, match="one round or more, in which the same victims"):
            attack.combine(rounds, generator=seed())
    with pytest.raises(BadInputError, match="of another architecture"):
        Round(first.records, MODELS.make("lenet").build((1, 16, 16), 10, seed=0))
    with pytest.raises(BadInputError, match="got none"):
        Round([], lenets[0])


def update(model, images, targets, *, steps, lr, training, reduction):
    """What plain gradient descent on the whole batch comes to."""
    client = copy.deepcopy(model)
    for _ in range(steps):
        gradients = share(client, images, targets, training=training, reduction=reduction).gradients
        with torch.no_grad():
            for name, parameter in client.named_parameters():
                parameter -= lr * gradients[name]
    after = dict(client.named_parameters())
    return {name: (p.detach() - after[name].detach()) / lr for name, p in model.named_parameters()}


@pytest.mark.parametrize(
    ("batch", "steps", "training", "reduction"),
    [(1, 2, False, "mean"), (1, 8, True, "mean"), (2, 5, False, "sum"), (4, 3, True, "mean"), (4, 6, False, "mean")],
)
def test_local_epochs_are_played_again(batch, steps, training, reduction, digits):
    with seeded(0):
        model = nn.Sequential(
            nn.Conv2d(1, 6, 3, stride=2), nn.BatchNorm2d(6), nn.Sigmoid(), nn.Flatten(), nn.Linear(54, 10)
        )
    images, targets = digits[0][20 : 20 + batch], digits[1][20 : 20 + batch]
    made = {"training": training, "reduction": reduction}
    gradients = update(model, images, targets, steps=steps, lr=0.2, **made)
    facts = {"batch_size": batch, "classes": 10, "shape": (1, 8, 8), "kind": "update", "lr": 0.2, **made}
    attack = told(Search(targets=(tuple(targets.tolist()),)), images)
    matching = [
        float(attack.run(GradientRecord(gradients, **facts, local_steps=count), model, generator=seed()).matching)
        for count in (steps, 1)
    ]
    assert matching[0] < 1e-8 < 1e-4 < matching[1]


@pytest.mark.parametrize(("batch", "steps"), [(2, 20), (4, 30)])
def test_a_batch_is_rebuilt_in_some_order(batch, steps, digits, lenets):
    images, targets = digits[0][:batch], digits[1][:batch]
    record = share(lenets[0], images, targets)
    attack = Search(distance="l2", optimizer="lbfgs", lr=1.0, box=None, steps=steps, restarts=2)
    found = attack.run(record, lenets[0], generator=seed())
    order = best_order(found.inputs[0], images)
    assert psnr(found.inputs[0, order], images).min() > 30
    assert found.targets[0, order].tolist() == targets.tolist()


@pytest.mark.parametrize("training", [False, True])
def test_resnet_is_searched_in_either_mode(training, digits):
    model = MODELS.make({"name": "resnet20", "width": 1}).build((1, 8, 8), 10, seed=0)
    record = share(model, digits[0][:2], digits[1][:2], training=training)
    labels = (tuple(digits[1][:2].tolist()),)
    assert float(told(Search(targets=labels), digits[0][:2]).run(record, model, generator=seed()).matching) < 1e-8
    begun, later = (InvertingGradients(steps=steps, lr=0.05).run(record, model, generator=seed()) for steps in (1, 12))
    assert later.matching[0] < begun.matching[0]
    assert sorted(later.targets[0].tolist()) == sorted(labels[0])
