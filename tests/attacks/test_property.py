"""Worlds told apart: planted differences, none, order of neurons, votes by brute force, and what is refused."""

import copy
import itertools
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from divulge.attacks.knowledge import Knowledge
from divulge.attacks.property import (
    ChosenQueries,
    DeepSets,
    GroupLoss,
    NearestWorld,
    SortedWeights,
    StoredStatistics,
)
from divulge.data import Dataset
from divulge.defenses.coarse import LabelOnly
from divulge.errors import BadInputError
from divulge.models.mlp import MLP
from divulge.releases import Posteriors, Weights

RECORDS, MODELS = 60, 80
QUICK_SETS = DeepSets(width=8, epochs=15, lr=2e-2)


def asked() -> tuple[Dataset, np.ndarray]:
    draw = np.random.default_rng(0)
    group = draw.random(RECORDS) < 0.4
    inputs = np.stack([group, np.arange(RECORDS)], axis=1).astype(np.float32)
    return Dataset(torch.from_numpy(inputs), torch.from_numpy(draw.integers(0, 2, RECORDS))), group


def answering(gap: float, *, seed: int, count: int = MODELS) -> tuple[list[Posteriors], np.ndarray]:
    """Models whose logits are noise, and higher by `gap` for the true class of the group in the second world."""
    data, _ = asked()
    has = np.arange(count) % 2 == 1
    made = []
    for number in range(count):
        noise = np.random.default_rng([seed, number]).normal(size=RECORDS)

        def answer(records: Tensor, noise: np.ndarray = noise, shift: float = gap * has[number]) -> np.ndarray:
            rows = records[:, 1].long().numpy()
            sign = np.where(data.targets.numpy()[rows] == 1, 1, -1)
            one = noise[rows] + sign * shift * records[:, 0].numpy()
            return np.stack([np.zeros_like(one), one], axis=1)

        made.append(Posteriors(answer, classes=2, logits=True))
    return made, has


@cache
def networks(gap: float, *, seed: int, count: int = MODELS) -> tuple[list[Weights], np.ndarray]:
    """Networks with random weights, in the second world with larger ones from the first input, neurons shuffled."""
    has = np.arange(count) % 2 == 1
    made = []
    for number in range(count):
        model = MLP((6, 5)).build((4,), 2, seed=seed + number)
        model[1].weight.data[:, 0] += gap * bool(has[number])
        made.append(Weights(shuffled(model, seed=number), (4,), 2))
    return made, has


def shuffled(model: nn.Sequential, *, seed: int) -> nn.Sequential:
    """The same function with the hidden neurons in another order."""
    model = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    for before, after in itertools.pairwise(linear):
        order = torch.randperm(before.out_features, generator=generator)
        before.weight.data, before.bias.data = before.weight.data[order], before.bias.data[order]
        after.weight.data = after.weight.data[:, order]
    return model.eval()


def guess(attack, gap: float) -> tuple[np.ndarray, np.ndarray]:
    """What an attack makes of targets, and the truth."""
    if isinstance(attack, (SortedWeights, DeepSets)):
        (shadows, has), (targets, truth) = networks(gap, seed=0), networks(gap, seed=1000)
        return attack.run(shadows, has, targets).has, truth
    (shadows, has), (targets, truth) = answering(gap, seed=0), answering(gap, seed=1)
    data, group = asked()
    further = {"group": group} if isinstance(attack, GroupLoss) else {}
    found = attack.run(shadows, has, targets, knowledge=Knowledge(data=data), **further)
    assert all(one.queries == found.queries for one in targets)
    return found.has, truth


EVERY = [ChosenQueries(8), GroupLoss(), NearestWorld(), SortedWeights(), QUICK_SETS]


@pytest.mark.parametrize("attack", EVERY, ids=lambda attack: attack.name)
def test_a_planted_difference_is_told(attack):
    found, truth = guess(attack, 2.0)
    assert (found == truth).mean() > 0.85


@pytest.mark.parametrize("attack", EVERY, ids=lambda attack: attack.name)
def test_worlds_that_do_not_differ_are_not_told(attack):
    found, truth = guess(attack, 0.0)
    assert abs((found == truth).mean() - 0.5) < 0.2


@pytest.mark.parametrize("attack", [SortedWeights(), QUICK_SETS], ids=lambda attack: attack.name)
def test_the_order_of_neurons_does_not_matter(attack):
    (shadows, has), (targets, _) = networks(1.0, seed=0), networks(1.0, seed=1000, count=6)
    mixed = [Weights(shuffled(one.model, seed=7 + place), (4,), 2) for place, one in enumerate(targets)]
    inputs = torch.rand(5, 4)
    assert torch.allclose(targets[0].model(inputs), mixed[0].model(inputs), atol=1e-5)
    before, after = (attack.run(shadows, has, side).scores for side in (targets, mixed))
    assert np.allclose(before, after, atol=1e-4)


def test_votes_of_pairs_by_brute_force():
    (shadows, has), (targets, _) = answering(0.5, seed=0, count=10), answering(0.5, seed=1, count=4)
    data, _ = asked()
    found = NearestWorld().run(shadows, has, targets, knowledge=Knowledge(data=data)).scores
    p = [torch.tensor(one.logits(data.inputs)).log_softmax(1) for one in (*shadows, *targets)]
    for target, score in enumerate(found):
        own = p[10 + target]
        away = [float((own.exp() * (own - other)).sum()) for other in p[:10]]
        votes = [np.sign(away[a] - away[b]) for a in range(0, 10, 2) for b in range(1, 10, 2)]
        assert score == pytest.approx(np.mean(votes))


def test_the_record_that_differs_is_asked_about():
    data, _ = asked()
    models, has = answering(0.0, seed=0)
    rare = []
    for model, marked in zip(models, has, strict=True):

        def answer(records: Tensor, model: Posteriors = model, marked: bool = bool(marked)) -> np.ndarray:
            return np.asarray(model.answer(records)) + [[0.0, 8.0 * marked]] * (records[:, 1:] == 17).numpy()

        rare.append(Posteriors(answer, classes=2, logits=True))
    found = ChosenQueries(queries=1).run(rare[:60], has[:60], rare[60:], knowledge=Knowledge(data=data))
    assert (found.has == has[60:]).all()
    assert rare[-1].queries == 1


def test_stored_means_are_read_outright():
    draw = torch.Generator().manual_seed(0)
    has = np.arange(40) % 2 == 1
    made = []
    for marked in has:
        model = MLP((3,), standardize=True).build((4,), 2, seed=0)
        records = torch.randn(200, 4, generator=draw)
        records[:, 1] = (torch.rand(200, generator=draw) < (0.5 if marked else 0.3)).float()
        model[0].measure(records)
        made.append(Weights(model, (4,), 2))
    assert (StoredStatistics().run(made[:20], has[:20], made[20:]).has == has[20:]).mean() > 0.9


def test_networks_and_random_state_are_left_as_they_were():
    (shadows, has), (targets, _) = networks(1.0, seed=0, count=12), networks(1.0, seed=9, count=2)
    before = [{name: value.clone() for name, value in one.model.state_dict().items()} for one in shadows]
    state = torch.random.get_rng_state()
    QUICK_SETS.run(shadows, has, targets)
    SortedWeights().run(shadows, has, targets)
    assert torch.equal(state, torch.random.get_rng_state())
    for one, kept in zip(shadows, before, strict=True):
        assert all(torch.equal(value, kept[name]) for name, value in one.model.state_dict().items())


def convolutional() -> list[Weights]:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    return [Weights(model, (1, 4, 4), 2)] * 4


def of_two_kinds() -> list[Weights]:
    return [Weights(MLP((2 + place % 2,)).build((4,), 2, seed=0), (4,), 2) for place in range(4)]


def standardized(*widths: int) -> list[Weights]:
    """Fresh batch norm, which has measured nothing yet."""
    return [Weights(nn.Sequential(nn.BatchNorm1d(width), nn.Linear(width, 2)), (width,), 2) for width in widths]


HALF = np.array([False, True, False, True])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: ChosenQueries(0), "queries >= 1"),
        (lambda: DeepSets(width=0), "positive width"),
        (lambda: NearestWorld().run(answering(0, seed=0)[0][:4], HALF, [], knowledge=Knowledge()), "and 0 targets"),
        (
            lambda: NearestWorld().run(answering(0, seed=0)[0][:4], HALF & False, [1], knowledge=Knowledge()),
            "4 without and 0 with",
        ),
        (lambda: SortedWeights().run(of_two_kinds(), HALF[:3], [1]), "marked by bool \\(4,\\)"),
        (
            lambda: NearestWorld().run(answering(0, seed=0)[0][:4], HALF, [1], knowledge=Knowledge()),
            "records to ask about",
        ),
        (
            lambda: NearestWorld().run(
                answering(0, seed=0)[0][:4], HALF, [1], knowledge=Knowledge(data=asked()[0], defense=LabelOnly())
            ),
            "train them under it",
        ),
        (
            lambda: GroupLoss().run(
                answering(0, seed=0)[0][:4],
                HALF,
                answering(0, seed=0)[0][:1],
                knowledge=Knowledge(data=asked()[0]),
                group=np.ones(RECORDS, dtype=bool),
            ),
            "records of the group and others",
        ),
        (lambda: SortedWeights().run(convolutional(), HALF, convolutional()), "fully connected"),
        (lambda: DeepSets().run(of_two_kinds(), HALF, of_two_kinds()), "one architecture"),
        (
            lambda: StoredStatistics().run(of_two_kinds(), HALF, of_two_kinds()),
            "store no statistics",
        ),
        (lambda: StoredStatistics().run(standardized(3, 3, 3, 3), HALF, standardized(3)), "the same in all of them"),
        (lambda: StoredStatistics().run(standardized(3, 3, 3, 3), HALF, standardized(4)), "one architecture"),
    ],
)
def test_what_cannot_be_done_is_refused(make, told):
    with pytest.raises(BadInputError, match=told):
        make()
