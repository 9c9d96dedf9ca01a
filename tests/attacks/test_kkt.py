"""Reconstruction from weights: exact slopes, planted networks, controls, and what is refused."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from divulge.attacks.reconstruction import KKT, Candidates, pooled
from divulge.attacks.reconstruction.chain import Chain
from divulge.attacks.reconstruction.stationarity import margin_slopes
from divulge.attacks.reconstruction.twice import SmoothReLU, Twice
from divulge.data import Dataset, load
from divulge.errors import BadInputError
from divulge.metrics.nearest import correlation, matches
from divulge.models import seeded
from divulge.models.homogeneous import HomogeneousMLP
from divulge.models.layers import OneLogit
from divulge.releases import Weights
from divulge.training.margin import Descent, fit_to_margin

SHAPE = (1, 3, 4)


def network(classes: int, *, hidden: tuple[int, ...] = (13, 11, 7), seed: int = 0) -> nn.Module:
    return HomogeneousMLP(hidden=hidden, first_std=None).build(SHAPE, classes, seed=seed).double()


def guesses(runs: int = 2, count: int = 5, classes: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    return (
        torch.randn(runs, count, 12, generator=draw, dtype=torch.float64),
        torch.rand(runs, count, generator=draw, dtype=torch.float64),
        torch.randint(classes, (runs, count), generator=draw),
        torch.tensor([3.0, 20.0], dtype=torch.float64)[:runs],
    )


class TestSlopes:
    @pytest.mark.parametrize("classes", [2, 4])
    @pytest.mark.parametrize("hidden", [(9,), (13, 11, 7)])
    def test_closed_form_equals_differentiating_twice(self, classes, hidden):
        release = Weights(network(classes, hidden=hidden), SHAPE, classes)
        exact = Chain.of(release).residual(*guesses(classes=classes))
        generic = Twice.of(release).residual(*guesses(classes=classes))
        for name in ("value", "points", "multipliers"):
            assert torch.allclose(getattr(exact, name), getattr(generic, name), rtol=1e-10, atol=1e-12)

    def test_layers_between_are_matched_with_their_biases_or_not_at_all(self):
        with seeded(0):
            model = nn.Sequential(
                *(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
            ).double()
        release, guess = Weights(model, SHAPE, 3), guesses(classes=3)
        ends, whole = (Chain.of(release, hidden=hidden).residual(*guess).value for hidden in (False, True))
        with torch.no_grad():
            model[3].bias += 1e-3  # of no layer that the ends are matched by, but it moves what they compute
        far = Chain.of(release, hidden=False)
        far = replace(far, biases=(far.biases[0], far.biases[1] + 100.0, far.biases[2]))
        direct = replace(far, hidden=True).residual(*guess).value - far.residual(*guess).value
        assert (whole > ends).all()
        assert (direct > 1e4).all(), "what a hidden bias misses by counts only where hidden layers do"

    @pytest.mark.parametrize("shared", [False, True])
    def test_every_place_of_a_rectifier_is_smooth(self, shared):
        model = network(2, hidden=(9, 8))
        if shared:
            model[5] = model[3]
        release = Weights(model, SHAPE, 2)
        assert sum(isinstance(layer, SmoothReLU) for layer in Twice.of(release).model) == 2
        exact, generic = (way.of(release).residual(*guesses()) for way in (Chain, Twice))
        assert torch.allclose(exact.points, generic.points, rtol=1e-10, atol=1e-12)

    def test_a_frozen_layer_is_not_explained(self):
        model = network(2, hidden=(9, 8))
        model[2].requires_grad_(False)
        release = Weights(model, SHAPE, 2)
        assert Chain.of(release) is None
        with torch.no_grad():
            before = Twice.of(release).residual(*guesses()).value
            model[2].weight += 100.0
            model[2].bias -= 1e6  # no neuron fires: the sum is nothing, and only the weights that learned are missed
        after = Twice.of(release).residual(*guesses()).value
        learned = sum(float(weight.detach().square().sum()) for weight in (model[4].weight, model[6].weight))
        assert after.tolist() == pytest.approx([learned] * 2)
        assert not torch.allclose(before, after)

    def test_narrowed_coordinates_change_nothing_but_their_number(self):
        chain = Chain.of(Weights(network(2), SHAPE, 2))
        span = torch.randn(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        first = torch.randn(13, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) @ span
        start = 1e-6 * torch.randn(13, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        whole = Chain(((first + start), *chain.weights[1:]), chain.biases, chain.mean, chain.std)
        narrow = whole.narrowed()
        assert narrow.basis.shape == (5, 12)
        points, *rest = guesses()
        inner = narrow.inside(points)
        assert torch.allclose(
            narrow.residual(inner, *rest).value, whole.residual(narrow.outside(inner), *rest).value, atol=1e-4
        )

    def test_a_layer_that_began_large_is_not_narrowed(self):
        chain = Chain.of(Weights(network(2), SHAPE, 2))
        assert chain.narrowed() is chain


class TestPlanted:
    def test_a_network_made_of_its_records_has_no_residual_at_them(self):
        """One hidden layer, its weights the weighted sum of its own gradients: the truth solves every equation.

        The corners of a simplex have negative products with each other, so the neuron along each fires on it alone.
        Then `w = l y v x` and `v = l y relu(w x)` hold with multipliers, lengths and outputs of 1.
        """
        corners = torch.eye(4, dtype=torch.float64) - 0.25
        records = corners / corners.norm(dim=1, keepdim=True)
        labels = torch.tensor([[0, 1, 0, 1]])
        zeros, ones = torch.zeros(4).double(), torch.ones(4).double()
        sign = 2 * labels - 1
        chain = Chain((sign.T**2 * records, sign.double()), (None, None), zeros, ones)
        at = torch.full((1,), 1e3, dtype=torch.float64)
        assert float(chain.residual(records[None], ones[None], labels, at).value) < 1e-12
        assert float(chain.residual(records[None] + 0.1, ones[None], labels, at).value) > 1e-3
        assert float(chain.residual(records[None], 0.9 * ones[None], labels, at).value) > 1e-3


@pytest.fixture(scope="module")
def digits() -> tuple[Dataset, Dataset]:
    """Twenty training records of two kinds, and twenty that the network never sees."""
    data = load("digits")
    rows = [(data.targets == kind).nonzero()[:, 0] for kind in (3, 8)]
    sets = []
    for start in (0, 40):
        picked = torch.cat([part[start : start + 10] for part in rows])
        sets.append(Dataset(data.inputs[picked], torch.arange(2).repeat_interleave(10), classes=("3", "8")))
    return sets[0], sets[1]


@pytest.fixture(scope="module")
def release(digits) -> Weights:
    model = HomogeneousMLP(hidden=(200, 100)).build((1, 8, 8), 2, seed=0)
    fit_to_margin(model, digits[0], Descent(loss=1e-6))
    return Weights(model, (1, 8, 8), 2)


ATTACK = KKT(candidates=20, runs=4, steps=400)


@pytest.fixture(scope="module")
def found(release) -> Candidates:
    return ATTACK.run(release, generator=torch.Generator().manual_seed(0))


class TestDigits:
    def test_finds_training_records_and_no_held_out_ones(self, digits, release, found):
        center = release.model[0].mean
        pool = pooled([found], searches=4, center=center)
        real = matches(pool.inputs, digits[0].inputs, digits[1].inputs, center=center)
        control = matches(pool.inputs, digits[1].inputs, digits[0].inputs, center=center)
        good = [int((one.found & (one.correlation > 0.75)).sum()) for one in (real, control)]
        assert good[0] >= 8
        assert good[1] == 0

    def test_a_network_of_other_records_gives_none_of_these(self, digits):
        other = HomogeneousMLP(hidden=(200, 100)).build((1, 8, 8), 2, seed=0)
        fit_to_margin(other, digits[1], Descent(loss=1e-6))
        candidates = ATTACK.run(Weights(other, (1, 8, 8), 2), generator=torch.Generator().manual_seed(0))
        center = other[0].mean
        pool = pooled([candidates], searches=4, center=center)
        good = matches(pool.inputs, digits[0].inputs, digits[1].inputs, center=center)
        assert int((good.found & (good.correlation > 0.75)).sum()) == 0

    def test_same_seed_same_candidates_and_the_network_stays(self, release, found):
        before = {name: value.clone() for name, value in release.model.state_dict().items()}
        again = ATTACK.run(release, generator=torch.Generator().manual_seed(0))
        assert torch.equal(again.inputs, found.inputs)
        assert all(torch.equal(value, before[name]) for name, value in release.model.state_dict().items())
        assert all(weight.requires_grad for weight in release.model.parameters())

    def test_a_search_that_diverges_begins_again_with_smaller_steps(self, release):
        wild = KKT(candidates=5, runs=2, steps=60, optimizer="sgd", lr=(1e12, 1e12), multiplier_lr=(1e-2, 1e-2))
        candidates = wild.run(release, generator=torch.Generator().manual_seed(0))
        assert candidates.facts["restarts"] > 0
        assert candidates.inputs.isfinite().all()

    @pytest.mark.parametrize("optimizer", ["adam", "sgd"])
    @pytest.mark.parametrize("multipliers", ["positive", "free"])
    def test_every_form_lowers_the_loss(self, release, optimizer, multipliers):
        rate = (1e-2, 1e-2)
        short, long = (
            KKT(candidates=10, runs=2, steps=steps, optimizer=optimizer, multipliers=multipliers, lr=rate).run(
                release, generator=torch.Generator().manual_seed(1)
            )
            for steps in (1, 100)
        )
        assert (long.losses < short.losses).all()


class TestOtherNetworks:
    def test_convolutions_are_attacked_by_differentiating_twice(self, digits):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1, bias=False), OneLogit()
        )
        fit_to_margin(model, digits[0], Descent(loss=1e-3, steps=200))
        attack = KKT(candidates=10, runs=1, steps=30, lr=(1e-2, 1e-2))
        short = KKT(candidates=10, runs=1, steps=1, lr=(1e-2, 1e-2))
        release = Weights(model, (1, 8, 8), 2)
        losses = [one.run(release, generator=torch.Generator().manual_seed(0)).losses for one in (short, attack)]
        assert float(losses[1]) < float(losses[0])
        assert isinstance(model[1], nn.ReLU)

    def test_several_classes(self):
        data = load("digits")[:30]
        model = HomogeneousMLP(hidden=(50,)).build((1, 8, 8), 10, seed=0)
        fit_to_margin(model, data, Descent(loss=1e-3))
        found = KKT(candidates=3, runs=2, steps=20).run(
            Weights(model, (1, 8, 8), 10), generator=torch.Generator().manual_seed(0)
        )
        assert found.inputs.shape == (60, 1, 8, 8)
        assert found.targets.bincount().tolist() == [6] * 10


class TestPool:
    def test_equal_candidates_are_merged_and_others_are_not(self):
        inputs = torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))
        inputs[1] = 2 * inputs[0] + 0.1
        found = Candidates(
            inputs, torch.tensor([0, 0, 1, 1]), torch.tensor([1.0, 3.0, 1.0, 1.0]), torch.zeros(4).long(), torch.ones(1)
        )
        pool = pooled([found], searches=1, center=torch.zeros(1, 3, 3))
        assert len(pool.inputs) == 3
        assert torch.allclose(pool.inputs[0], 0.25 * inputs[0] + 0.75 * inputs[1])

    def test_only_the_searches_with_the_least_loss_are_kept(self):
        inputs = torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))
        ones = torch.ones(4)
        found = Candidates(
            inputs, torch.zeros(4).long(), ones, torch.tensor([0, 0, 1, 1]), torch.tensor([torch.inf, 1.0])
        )
        assert pooled([found, found], searches=1, center=torch.zeros(1, 3, 3)).run.unique().tolist() == [1]
        with pytest.raises(BadInputError, match="diverged"):
            pooled(
                [Candidates(inputs, ones.long(), ones, ones.long() * 0, torch.tensor([torch.inf]))],
                searches=1,
                center=torch.zeros(1, 3, 3),
            )

    def test_the_heavier_of_two_leads_whatever_the_sign_of_its_multiplier(self):
        inputs = torch.rand(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
        inputs[1] = 2 * inputs[0]
        found = Candidates(
            inputs, torch.zeros(2).long(), torch.tensor([1.0, -3.0]), torch.tensor([0, 1]), torch.tensor([1.0, 2.0])
        )
        assert pooled([found], searches=2, center=torch.zeros(1, 3, 3)).run.tolist() == [1]


class TestMatches:
    def test_what_is_constant_correlates_with_nothing(self):
        flat, other = (
            torch.full((1, 1, 28, 28), 0.7),
            torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0)),
        )
        assert not correlation(flat, torch.cat([other, 0.3 * flat])).any()
        assert not correlation(flat.expand(1, 3, 28, 28), other.expand(3, 3, 28, 28)).any()

    def test_contrast_and_brightness_do_not_count(self):
        image = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
        assert float(correlation(0.1 * image + 0.7, image)) == pytest.approx(1, abs=1e-5)

    def test_a_candidate_that_is_nearer_to_a_held_out_record_is_no_find(self):
        draw = torch.Generator().manual_seed(0)
        records, held_out = torch.rand(2, 5, 1, 8, 8, generator=draw)
        near = records[:1] + 0.3 * torch.randn(1, 1, 8, 8, generator=draw)
        center = torch.full((1, 8, 8), 0.5)
        assert matches(near, records, held_out, center=center).found.tolist()[0]
        assert not matches(near, held_out, records, center=center).found.any()

    @pytest.mark.parametrize("broken", ["empty", "nan", "shape"])
    def test_what_cannot_be_compared_is_refused(self, broken):
        images = torch.rand(3, 1, 4, 4)
        candidates = {"empty": images[:0], "nan": images * torch.nan, "shape": images[..., :3]}[broken]
        with pytest.raises(BadInputError):
            matches(candidates, images, images, center=images[0, :, :, :1])


def test_margin_slopes_of_one_logit_and_of_several():
    assert margin_slopes(torch.tensor([[0.3]]), torch.tensor([0])).tolist() == [[-1.0]]
    assert margin_slopes(torch.tensor([[0.3, 0.2, 0.1]]), torch.tensor([0])).tolist() == [[1.0, -1.0, 0.0]]


@pytest.mark.parametrize(
    "settings",
    [
        {"candidates": 0},
        {"runs": 0},
        {"steps": 0},
        {"lr": (0.0, 1.0)},
        {"start": (2.0, 1.0)},
        {"sharpness": (1.0, math.inf)},
        {"least": (math.nan, 1.0)},
        {"multiplier_lr": (0.0, 1.0)},
    ],
)
def test_settings_out_of_range(settings):
    with pytest.raises(BadInputError, match="expected"):
        KKT(**settings)


@pytest.mark.parametrize(
    ("shape", "classes", "told"),
    [(SHAPE, 3, "3 classes"), ((1, 3, 5), 2, r"records of shape \(1, 3, 5\)"), ((12,), 2, "means")],
)
def test_a_release_that_says_something_else_than_its_network_is_refused(shape, classes, told):
    with pytest.raises(BadInputError, match=told):
        KKT(steps=1).run(Weights(network(2).float(), shape, classes), generator=torch.Generator())


def test_too_few_logits_of_any_other_network_are_refused():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(BadInputError, match="each of 5 classes"):
        KKT(steps=1).run(Weights(model, SHAPE, 5), generator=torch.Generator())


def test_releases_of_weights_that_are_broken_are_refused():
    normed = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 2))
    normed[1].running_mean[0] = math.inf
    with pytest.raises(BadInputError, match=r"1\.running_mean holds NaN or infinity"):
        Weights(normed, SHAPE, 2)
    with pytest.raises(BadInputError, match="sizes of 1 or more"):
        Weights(nn.Linear(2, 2), (), 2)


def test_a_network_that_learns_nothing_is_refused():
    model = network(2).requires_grad_(False)
    with pytest.raises(BadInputError, match="no weights"):
        KKT().run(Weights(model, SHAPE, 2), generator=torch.Generator())
    with pytest.raises(BadInputError, match="NaN"):
        Weights(nn.Linear(2, 2).requires_grad_(False).apply(_break), (2,), 2)


def _break(layer: nn.Module) -> None:
    layer.weight.data[0] = math.nan
