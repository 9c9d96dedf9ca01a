from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from divulge.attacks.gradients.base import GradientAttack, Reconstructions
from divulge.attacks.gradients.first_layer import FirstLayer
from divulge.auditing.gradients import ADVERSARIES, Attempt, attempt, choose
from divulge.auditing.gradients.scoring import MOST, distortion, pictures
from divulge.data import load
from divulge.defenses import Defense
from divulge.defenses.base import Shared
from divulge.errors import BadInputError
from divulge.metrics import bootstrap
from divulge.models import MODELS
from divulge.models.layers import Normalize


@dataclass(frozen=True)
class Doubled(Defense):
    """Shares the gradient twice as long, and draws a number for each client."""

    name: ClassVar[str] = "doubled"

    def share(self, record, *, model, inputs, targets, generator) -> Shared:
        doubled = {name: 2 * one for name, one in record.gradients.items()}
        return Shared(replace(record, gradients=doubled), float(torch.rand((), generator=generator)))


@dataclass(frozen=True)
class Answer(GradientAttack):
    """Says what it was told to, and keeps what it was asked."""

    name: ClassVar[str] = "answer"

    inputs: Tensor = field(default_factory=lambda: torch.zeros(0), compare=False)
    targets: Tensor | None = field(default=None, compare=False)
    found: Tensor | None = field(default=None, compare=False)
    asked: list[Any] = field(default_factory=list, compare=False)

    def invert(self, records, model, *, knowledge, generator) -> Reconstructions:
        self.asked.append((records, knowledge))
        return Reconstructions(self.inputs, self.targets, torch.zeros(len(records)), found=self.found)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def model(digits):
    return MODELS.make({"name": "mlp", "hidden": [32]}).build(digits.shape, 10, seed=0)


def test_victims_are_other_records_than_those_to_compare_with_and_of_the_same_classes(digits):
    chosen = choose(digits, count=30, batch=4, seed=1)
    assert len(set(chosen.rows)) == 120
    assert not set(chosen.rows) & set(chosen.others)
    assert torch.equal(digits.targets[chosen.rows], digits.targets[chosen.others])
    fewer = choose(digits, count=10, batch=4, seed=1)
    assert np.array_equal(fewer.rows, chosen.rows[:40])
    assert not np.array_equal(choose(digits, count=30, batch=4, seed=2).rows, chosen.rows)


def test_copies_are_never_two_victims(digits):
    twice = digits[np.repeat(np.arange(200), 2)]
    assert len({row // 2 for row in choose(twice, count=100, seed=0).rows}) == 100


@pytest.mark.parametrize(("count", "rows", "message"), [(10, 10, "more than 10"), (9, 10, "all of its records")])
def test_too_many_victims_are_refused(digits, count, rows, message):
    with pytest.raises(BadInputError, match=message):
        choose(digits[np.arange(rows)], count=count, seed=0)


def test_the_first_layer_gives_its_record_away(digits, model):
    chosen = choose(digits, count=6, seed=0)
    outcome = attempt(model, digits[chosen.rows], Attempt(FirstLayer()), others=digits[chosen.others])
    assert outcome.exact
    assert outcome.found.all()
    assert (outcome.scores["mse"] < 1e-10).all()
    assert (outcome.scores["psnr"] <= MOST).all()
    assert (outcome.scores["ssim"] > 0.999).all()
    assert (outcome.scores["label accuracy"] == 1).all()
    assert (outcome.scores["distortion"] == 0).all()
    assert (outcome.control["psnr"] < 30).all()
    assert outcome.control["label accuracy"].mean() < 1
    assert torch.allclose(outcome.reconstructions[:, 0], digits.inputs[chosen.rows], atol=1e-5)


def test_what_knows_nothing_scores_as_against_other_records(digits, model):
    chosen = choose(digits, count=200, seed=3)
    guesses = torch.rand((200, 1, *digits.shape), generator=torch.Generator().manual_seed(0))
    labels = torch.randint(10, (200, 1), generator=torch.Generator().manual_seed(1))
    outcome = attempt(model, digits[chosen.rows], Attempt(Answer(guesses, labels)), others=digits[chosen.others])
    for name in ("mse", "psnr", "ssim", "label accuracy"):
        gain = bootstrap(np.mean, outcome.scores[name] - outcome.control[name], seed=0, confidence=0.999)
        assert gain.low <= 0 <= gain.high, name


@pytest.mark.parametrize("adversary", ADVERSARIES)
def test_adversaries_differ_in_what_they_know_alone(digits, model, adversary):
    victims, defense = digits[np.arange(3)], Doubled()
    attack = Answer(victims.inputs[:, None])
    outcome = attempt(model, victims, Attempt(attack, defense, adversary))
    records, knowledge = attack.asked[0]
    assert knowledge.defense is (None if adversary == "blind" else defense)
    if adversary == "oracle":
        assert len(knowledge.randomness) == len(set(knowledge.randomness)) == 3
    else:
        assert knowledge.randomness is None
    assert outcome.scores["distortion"] == pytest.approx(np.ones(3))
    honest = Answer(victims.inputs[:, None])
    attempt(model, victims, Attempt(honest))
    for mine, theirs in zip(honest.asked[0][0], records, strict=True):
        assert all(torch.equal(2 * mine.gradients[name], theirs.gradients[name]) for name in mine.gradients)


def test_records_of_a_batch_go_with_the_nearest_truth_and_the_missing_are_told(digits, model):
    victims = digits[np.arange(8)]
    truth, named = victims.inputs.unflatten(0, (2, 4)), victims.targets.unflatten(0, (2, 4))
    guess = truth.flip(1).clone()
    guess[0, 0] = 0  # the last record of the first batch
    found = torch.ones(2, 4, dtype=torch.bool)
    found[0, 0] = False
    outcome = attempt(model, victims, Attempt(Answer(guess, named.flip(1), found)), batch=4)
    assert torch.equal(outcome.reconstructions[1], truth[1])
    assert outcome.found.tolist() == [[True, True, True, False], [True] * 4]
    assert outcome.scores["mse"][1] == 0 < outcome.scores["mse"][0]
    assert (outcome.scores["label accuracy"] == 1).all()


def test_scores_in_the_units_of_the_network_are_not_clamped(digits, model):
    victims = digits[np.arange(2)]
    scaled = nn.Sequential(Normalize([0.5], [0.25]), model)
    outcome = attempt(scaled, victims, Attempt(Answer(victims.inputs[:, None] + 1)))
    assert outcome.scores["network mse"] == pytest.approx(np.full(2, 16.0))
    assert (outcome.scores["mse"] < 1).all()


def test_small_pictures_and_tables_have_no_structural_similarity():
    assert set(pictures(torch.zeros(2, 1, 5), torch.ones(2, 1, 5))) == {"mse", "network mse", "psnr"}
    assert "ssim" not in pictures(torch.zeros(2, 1, 1, 6, 6), torch.ones(2, 1, 1, 6, 6))
    assert distortion({"w": torch.tensor([0.0, 4.0])}, {"w": torch.tensor([3.0, 4.0])}) == pytest.approx(0.6)


def test_model_victims_and_random_state_stay_as_they_were(digits, model):
    model.train()
    victims = digits[np.arange(2)]
    before = [one.clone() for one in model.parameters()], victims.inputs.clone(), torch.random.get_rng_state()
    first = attempt(model, victims, Attempt(FirstLayer(), Doubled(), "oracle", seed=5))
    assert all(torch.equal(one, two) for one, two in zip(before[0], model.parameters(), strict=True))
    assert all(one.grad is None for one in model.parameters())
    assert torch.equal(before[1], victims.inputs)
    assert torch.equal(before[2], torch.random.get_rng_state())
    assert model.training
    again = attempt(model, victims, Attempt(FirstLayer(), Doubled(), "oracle", seed=5))
    assert torch.equal(first.reconstructions, again.reconstructions)
    model.eval()


@pytest.mark.parametrize(
    ("rows", "others", "batch", "message"),
    [(3, None, 2, "fill batches of 2"), (2, None, 0, "fill batches"), (0, None, 1, "fill"), (4, 3, 1, "same order")],
)
def test_bad_victims_are_refused(digits, model, rows, others, batch, message):
    wrong = None if others is None else digits[np.arange(others)]
    with pytest.raises(BadInputError, match=message):
        attempt(model, digits[np.arange(rows)], Attempt(FirstLayer()), batch=batch, others=wrong)
