"""What was done to a gradient: found where it was done, and not found where it was not."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from divulge.attacks.gradients.detection import noise_floor, traces
from divulge.models.lenet import LeNet
from divulge.models.mlp import MLP
from divulge.releases import share


@pytest.fixture(scope="module")
def model():
    return LeNet().build((3, 16, 16), 10, seed=0)


@pytest.fixture(scope="module")
def record(model):
    generator = torch.Generator().manual_seed(0)
    return share(model, torch.rand(1, 3, 16, 16, generator=generator), torch.tensor([3]))


LARGE = ["0.weight", "2.weight", "4.weight", "7.weight"]


def pruned(tensor, rate):
    threshold = tensor.abs().flatten().kthvalue(int(rate * tensor.numel())).values
    return torch.where(tensor.abs() > threshold, tensor, 0.0)


def noised(record, law, std, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = {"gaussian": torch.randn, "laplace": torch.distributions.Laplace(0, 0.5**0.5).sample}[law]
        return replace(record, gradients={name: g + std * made(g.shape) for name, g in record.gradients.items()})


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "tanh"])
def test_an_undefended_gradient_shows_nothing(activation):
    for built in (LeNet(activation=activation), MLP((64,), activation="tanh")):
        plain = built.build((3, 16, 16), 10, seed=1)
        record = share(plain, torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)), torch.tensor([0]))
        assert noise_floor(record, plain) == {}
        for tensor in record.gradients.values():
            seen = traces(tensor)
            assert seen.pruned_below is None
            assert seen.levels is None
            assert seen.precision == "float32"


def test_hidden_columns_are_named(record):
    masked = record.gradients["7.weight"].clone()
    masked[:, [2, 5, 191]] = 0
    hidden = traces(masked).hidden
    assert hidden.nonzero().flatten().tolist() == [2, 5, 191]
    assert not traces(record.gradients["7.weight"]).hidden.any()
    assert traces(record.gradients["0.weight"]).hidden is None, "a kernel has no columns"
    assert traces(torch.zeros(3, 3)).hidden is None, "nothing stands out where all is zero"


def test_masked_columns_are_no_pruning_by_magnitude(record):
    masked = record.gradients["7.weight"].clone()
    masked[:, ::2] = 0
    assert traces(masked).pruned_below is None


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("rate", [0.1, 0.7, 0.9])
def test_the_threshold_of_pruning_is_the_smallest_survivor(record, name, rate):
    kept = pruned(record.gradients[name], rate)
    seen = traces(kept)
    assert seen.pruned_below == pytest.approx(float(kept[kept != 0].abs().min()))
    assert seen.zeros == pytest.approx(rate, abs=0.01)


def test_rounding_shows_in_the_count_of_values_or_in_their_format(record):
    tensor = record.gradients["2.weight"]
    assert traces(tensor.sign()).levels == 2
    step = tensor.abs().max() / 7
    assert traces((tensor / step).round() * step).levels <= 15
    assert traces(tensor.half().float()).precision == "float16"
    assert traces(tensor.bfloat16().float()).precision == "bfloat16"
    assert traces(tensor.double() + 1e-12).precision == "float64"
    assert traces((tensor / step).round() * step).pruned_below is None, "a grid has no threshold"


@pytest.mark.parametrize("law", ["gaussian", "laplace"])
@pytest.mark.parametrize("std", [1e-5, 1e-2, 1.0])
def test_noise_is_measured_and_named_without_knowing_anything_else(model, record, law, std):
    seen = noise_floor(noised(record, law, std), model)
    assert list(seen) == ["7"]
    assert seen["7"].std == pytest.approx(std, rel=0.15)
    assert seen["7"].law == law


def test_the_rank_of_a_batch_is_no_noise():
    model = MLP((64, 32)).build((1, 8, 8), 10, seed=0)
    generator = torch.Generator().manual_seed(0)
    batch = share(model, torch.rand(5, 1, 8, 8, generator=generator), torch.arange(5))
    assert noise_floor(batch, model) == {}
    assert set(noise_floor(replace(batch, batch_size=2), model)) == {"1", "3", "5"}, "of a batch of two it would be"
    assert set(noise_floor(noised(batch, "gaussian", 0.01), model)) == {"1", "3", "5"}


def test_a_layer_too_narrow_to_tell_is_left_out():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    record = share(model, torch.rand(1, 1, 8, 8), torch.tensor([0]))
    assert noise_floor(noised(record, "gaussian", 1.0), model) == {}
