"""Differential privacy at the client against a loop over its records, and what its ledger says."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from divulge.defenses.client_dp import ClientDp
from divulge.errors import BadInputError
from divulge.privacy import accounting
from divulge.privacy.gaussian import epsilon_of
from divulge.releases import Tampering, share


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def network():
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 4))


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(2)
    return torch.rand(5, 1, 6, 6, generator=generator), torch.arange(5) % 4


def sent(defense, batch, model, *, seed=0, **more):
    record = share(model, *batch, **more)
    generator = torch.Generator().manual_seed(seed)
    return record, defense.share(record, model=model, inputs=batch[0], targets=batch[1], generator=generator)


def one_by_one(model, batch, clip):
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for x, y in zip(*batch, strict=True):
        gradients = share(model, x[None], y[None]).gradients
        norm = torch.cat([one.flatten() for one in gradients.values()]).norm()
        for name, one in gradients.items():
            total[name] += one * min(1.0, clip / float(norm))
    return total


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("clip", [0.3, 1e6])
def test_the_clipped_sum_is_that_of_a_loop_over_the_records(reduction, clip, batch):
    model, size = network(), 5 if reduction == "mean" else 1
    record, shared = sent(ClientDp(0.0, clip, size), batch, model, reduction=reduction)
    for name, total in one_by_one(model, batch, clip).items():
        assert torch.allclose(shared.record.gradients[name], total / size, atol=1e-6)
        if clip == 1e6:
            assert torch.allclose(shared.record.gradients[name], record.gradients[name], atol=1e-6)


def test_no_record_moves_the_sum_by_more_than_the_clip(batch):
    model, clip = network(), 0.3
    wild = (torch.cat([batch[0], 100 * torch.rand(1, 1, 6, 6)]), torch.cat([batch[1], torch.tensor([3])]))
    sums = [sent(ClientDp(0.0, clip), some, model, reduction="sum")[1].record for some in (batch, wild)]
    apart = torch.cat([(sums[1].gradients[name] - one).flatten() for name, one in sums[0].gradients.items()]).norm()
    assert float(apart) == pytest.approx(clip, rel=1e-4), "as much as it may, and no more"


def test_the_noise_is_what_an_oracle_is_told_and_of_the_public_size():
    model = nn.Linear(500, 40)
    batch = (torch.rand(4, 500), torch.arange(4))
    defense = ClientDp(2.0, clip=0.5, batch_size=4)
    _, shared = sent(defense, batch, model)
    _, clean = sent(dataclasses.replace(defense, noise_multiplier=0.0), batch, model)
    known = defense.tampering(model)
    assert (known.scaled, known.noise, known.std) == (True, "gaussian", 2.0 * 0.5 / 4)
    for name, one in clean.record.gradients.items():
        assert torch.allclose(one + shared.randomness[name], shared.record.gradients[name])
    assert float(shared.randomness["weight"].std()) == pytest.approx(known.std, rel=0.03)
    assert ClientDp(0.0).tampering(model) == Tampering(scaled=True)


def test_dropout_in_training_mode_draws_from_the_generator_alone(batch):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(36, 4))
    defense = ClientDp(0.0, clip=1.0, batch_size=5)
    one, again, other = (
        sent(defense, batch, model, seed=seed, training=True)[1].record.gradients["2.weight"] for seed in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_the_ledger_of_rounds_of_all_records_is_the_gaussian_closed_form():
    defense = ClientDp(noise_multiplier=4.0)
    for rounds in (1, 10):
        spent = accounting.epsilon(defense.ledger(records=600, rounds=rounds), delta=1e-4).epsilon
        assert spent == pytest.approx(epsilon_of(math.sqrt(rounds) / 4.0, 1e-4), rel=1e-3)
    ledger = defense.ledger(records=600, rounds=30, sampling_rate=0.1, sampling="poisson")
    sampled = accounting.epsilon(ledger, delta=1e-4).epsilon
    fixed = accounting.epsilon(defense.ledger(records=600, rounds=30, sampling_rate=0.1), delta=1e-4).epsilon
    assert sampled < 0.5 * fixed, "batches of a fixed size are not counted as hidden"
    assert ledger.fixed_noise_seed
    assert any("seed" in one for one in ledger.caveats)
    with pytest.raises(BadInputError, match="Without noise there is no differential privacy"):
        ClientDp(0.0).ledger(records=600)


def test_what_it_cannot_protect_is_refused(batch):
    model = network()
    with pytest.raises(BadInputError, match=r"expected batch_size=5 for the mean of 5 records, got 1"):
        sent(ClientDp(), batch, model)
    with pytest.raises(BadInputError, match=r"expected batch_size=1 for the sum"):
        sent(ClientDp(batch_size=5), batch, model, reduction="sum")
    update = dataclasses.replace(share(model, *batch), kind="update", local_steps=3, lr=0.1)
    with pytest.raises(BadInputError, match="update of 3 local steps"):
        ClientDp(batch_size=5).share(
            update, model=model, inputs=batch[0], targets=batch[1], generator=torch.Generator()
        )
    normed = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36), nn.Linear(36, 4))
    with pytest.raises(BadInputError, match="BatchNorm1d"):
        sent(ClientDp(batch_size=5), batch, normed, training=True)
