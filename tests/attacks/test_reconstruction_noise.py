"""Noise of private training in weights: how much there is, and taking it out before a search."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from divulge.attacks.reconstruction import KKT
from divulge.attacks.reconstruction.chain import Chain
from divulge.attacks.reconstruction.noise import weight_noise, without_noise
from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.models.homogeneous import HomogeneousMLP
from divulge.privacy.accounting import epsilon
from divulge.privacy.gaussian import epsilon_of
from divulge.privacy.ledger import Ledger, Phase
from divulge.releases import Weights
from divulge.training import Privacy, Recipe
from divulge.training.noisy import NoisyDescent, fit_noisily


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_noise_in_weights_is_that_of_an_optimizer_fed_with_noise_alone(momentum, decay, schedule):
    recipe = Recipe(
        epochs=1, batch_size=5, optimizer="sgd", lr=0.2, lr_decay=1.0, momentum=momentum, weight_decay=decay
    )
    privacy = Privacy(noise_multiplier=0.7, clip=2.0, schedule=schedule, steps=12)
    weights = nn.Parameter(torch.zeros(200_000))
    optimizer = torch.optim.SGD([weights], lr=0.2, momentum=momentum, weight_decay=decay)
    draw = torch.Generator().manual_seed(0)
    for step in range(12):
        weights.grad = torch.randn(weights.shape, generator=draw) * 0.7 * 2.0 / 5
        optimizer.param_groups[0]["lr"] = 0.2 * privacy.pace(step / 12)
        optimizer.step()
    told = weight_noise(recipe, privacy, Ledger(10, (Phase(0.5, 0.7, 5), Phase(0.5, 0.7, 7))))
    assert told == pytest.approx(float(weights.detach().std()), rel=0.01)


def test_noise_that_is_not_public_is_refused():
    ledger = Ledger(10, (Phase(0.5, 1.0, 2),))
    for recipe, privacy in (
        (Recipe(optimizer="adam"), Privacy()),
        (Recipe(optimizer="sgd"), Privacy(averaging=0.9)),
        (Recipe(optimizer="sgd"), Privacy(clipping="adaptive")),
    ):
        with pytest.raises(BadInputError, match="expected training by SGD"):
            weight_noise(recipe, privacy, ledger)


def test_a_matrix_of_low_rank_comes_out_of_noise_better_than_by_leaving_values_out():
    draw = torch.Generator().manual_seed(0)
    truth = torch.randn(60, 3, generator=draw) @ torch.randn(3, 90, generator=draw)
    seen = truth + torch.randn(60, 90, generator=draw)
    found, rows = without_noise(seen, 1.0)
    assert rows.shape == (3, 90)
    assert torch.allclose(rows @ rows.T, torch.eye(3), atol=1e-5)
    left, sizes, right = torch.linalg.svd(seen, full_matrices=False)
    cut = (left[:, :3] * sizes[:3]) @ right[:3]
    assert (found - truth).norm() < (cut - truth).norm() < 0.5 * (seen - truth).norm()


def test_of_noise_alone_nothing_is_left():
    found, rows = without_noise(torch.randn(60, 90, generator=torch.Generator().manual_seed(0)), 1.02)
    assert not found.any()
    assert rows.shape == (0, 90)
    with pytest.raises(BadInputError, match="above 0"):
        without_noise(torch.zeros(2, 2), 0.0)


def test_a_network_without_its_noise_is_searched_where_its_records_lie():
    model = HomogeneousMLP(hidden=(80,), first_std=None).build((40,), 2, seed=0)
    draw = torch.Generator().manual_seed(0)
    span = torch.randn(4, 40, generator=draw)
    with torch.no_grad():
        model[2].weight.copy_(torch.randn(80, 4, generator=draw) @ span)
        clean = model[2].weight.clone()
        model[2].weight += 0.1 * torch.randn(80, 40, generator=draw)
    chain = Chain.of(Weights(model, (40,), 2)).denoised(0.1)
    assert chain.basis.shape == (4, 40)
    assert (chain.weights[0] @ chain.basis - clean).norm() < 0.5 * (model[2].weight - clean).norm()
    found = KKT(candidates=3, runs=1, steps=3).run(
        Weights(model, (40,), 2), noise=0.1, generator=torch.Generator().manual_seed(0)
    )
    assert found.facts["dimensions"] == 4


def test_noise_in_another_network_is_refused():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    with pytest.raises(BadInputError, match="Leave noise out"):
        KKT(steps=1).run(Weights(model, (1, 4, 4), 2), noise=0.1, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("noise", [-0.1, math.nan, math.inf])
def test_noise_that_is_no_deviation_is_refused(noise):
    release = Weights(HomogeneousMLP(hidden=(5,)).build((4,), 2, seed=0), (4,), 2)
    with pytest.raises(BadInputError, match="standard deviation of 0 or more"):
        KKT(candidates=2, runs=1, steps=1).run(release, noise=noise, generator=torch.Generator().manual_seed(0))


class TestNoisyDescent:
    @pytest.fixture
    def data(self) -> Dataset:
        inputs = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        return Dataset(inputs, torch.arange(2).repeat_interleave(6))

    def network(self) -> nn.Module:
        return HomogeneousMLP(hidden=(40,)).build((1, 4, 4), 2, seed=0)

    def test_reaches_a_small_loss_where_there_is_hardly_noise(self, data):
        model, state = self.network(), torch.get_rng_state()
        ended = fit_noisily(model, data, NoisyDescent(1e-6, steps=300, noise_seed=0))
        loss = nn.functional.cross_entropy(model(data.inputs), data.targets)
        assert float(loss.detach()) < 0.01
        assert not model.training
        assert torch.equal(torch.get_rng_state(), state)
        assert ended.ledger.phases == (Phase(1.0, 1e-6, 300),)
        assert "fixed seed" in ended.ledger.caveats[0]

    def test_epsilon_of_full_batches_is_that_of_one_gaussian(self, data):
        ended = fit_noisily(self.network(), data, NoisyDescent(10.0, steps=25))
        assert not ended.ledger.caveats
        assert epsilon(ended.ledger, delta=1e-3).epsilon == pytest.approx(epsilon_of(25**0.5 / 10, 1e-3), rel=1e-3)

    @pytest.mark.parametrize("rate", [1.0, 0.5])
    def test_the_noise_told_is_the_noise_added(self, data, rate):
        # so much noise that nothing else moves the weights
        model, first = self.network(), self.network()
        ended = fit_noisily(model, data, NoisyDescent(1e3, steps=20, rate=rate, noise_seed=0))
        moved = torch.cat([(a - b).flatten() for a, b in zip(model.parameters(), first.parameters(), strict=True)])
        assert ended.noise == pytest.approx(float(moved.detach().std()), rel=0.1)

    def test_a_known_seed_draws_the_same(self, data):
        one, two, other = self.network(), self.network(), self.network()
        for model, seed in ((one, 1), (two, 1), (other, 2)):
            fit_noisily(model, data, NoisyDescent(1.0, steps=3, noise_seed=seed))
        assert torch.equal(one[2].weight, two[2].weight)
        assert not torch.equal(one[2].weight, other[2].weight)

    def test_what_dropout_leaves_out_is_as_secret_as_the_noise(self, data):
        masks: list[list[torch.Tensor]] = []
        for seed in (1, 2):
            model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Dropout(0.5), nn.Linear(8, 2))
            seen = list[torch.Tensor]()
            model[2].register_forward_hook(lambda _, given, out, seen=seen: seen.append((out != 0).cpu()))
            fit_noisily(model, data, NoisyDescent(1e-6, steps=1, noise_seed=seed))
            masks.append(seen)
        assert not all(torch.equal(*pair) for pair in zip(*masks, strict=True))

    def test_settings_out_of_range_and_broken_networks_are_refused(self, data):
        for setting in ({"noise": 0.0}, {"noise": np.inf}, {"steps": 0}, {"rate": 1.5}, {"clip": -1.0}, {"least": 0.0}):
            with pytest.raises(BadInputError, match="noisy descent: expected"):
                NoisyDescent(**{"noise": 1.0, **setting})
        with pytest.raises(BadInputError, match="at least 2 records"):
            fit_noisily(self.network(), data[:1], NoisyDescent(1.0))
