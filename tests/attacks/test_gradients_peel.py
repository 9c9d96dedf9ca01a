"""Peeling: exact where the equations suffice, honest where they do not, and refused where they cannot be written."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from divulge.attacks import ATTACKS
from divulge.attacks.gradients.convolution import Convolution
from divulge.attacks.gradients.peel import Peel
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.metrics.images import psnr
from divulge.models.layers import Flatten
from divulge.models.lenet import LeNet
from divulge.models.mlp import MLP
from divulge.releases import Tampering, share


class Public:
    """A defense of which no more is known than what it says publicly."""

    def __init__(self, **said):
        self.said = Tampering(**said)

    def tampering(self, model):
        return self.said


def victims(n, shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, *shape, generator=generator), torch.randint(10, (n,), generator=generator)


def peel(records, model, *, steps=0, **said):
    knowledge = Knowledge(defense=Public(**said)) if said else Knowledge()
    return Peel(steps=steps).run(records, model, knowledge=knowledge, generator=torch.Generator().manual_seed(0))


def defended(record, **changed):
    return replace(record, gradients={**record.gradients, **changed})


def smooth(activation=nn.Sigmoid, *, stride=2, width=6, norm=False):
    """Two convolutions on images of 1 x 10 x 10."""
    between = [nn.BatchNorm2d(8)] if norm else []
    layers = [
        nn.Conv2d(1, 8, 3, stride=stride, padding=1),
        *between,
        activation(),
        nn.Conv2d(8, width, 3),
        activation(),
    ]
    size = nn.Sequential(*layers)(torch.zeros(2, 1, 10, 10)).flatten(1).shape[1]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, 10))


@pytest.mark.parametrize("spread", [0.5, None])
@pytest.mark.parametrize("convolutions", [3, 4])
def test_sigmoid_lenets_give_their_records_exactly(convolutions, spread):
    model = LeNet(convolutions, spread=spread, mean=(0.5,), std=(0.25,)).build((1, 12, 12), 10, seed=0)
    inputs, targets = victims(2, (1, 12, 12))
    state = copy.deepcopy(model.state_dict())
    found = peel([share(model, inputs[i : i + 1], targets[i : i + 1]) for i in range(2)], model)
    assert psnr(found.inputs[:, 0], inputs).min() > 80
    assert torch.equal(found.targets[:, 0], targets)
    assert found.exact
    assert found.facts == {"undetermined": []}
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    "settings",
    [{"activation": nn.Tanh}, {"activation": nn.LeakyReLU}, {"stride": 1, "width": 16}, {"norm": True}],
    ids=["tanh", "leaky", "stride 1", "batch norm"],
)
def test_without_rounding_nothing_is_lost(settings):
    model = smooth(**settings).double().eval()
    inputs, targets = victims(1, (1, 10, 10))
    found = peel(share(model, inputs.double(), targets), model)
    assert psnr(found.inputs[0], inputs).min() > 130
    assert found.matching.max() < 1e-8
    assert found.exact


def test_running_statistics_and_scales_of_batch_norm_are_undone():
    model = smooth(norm=True)
    with torch.no_grad():
        model[1].weight.uniform_(0.5, 2)
        model[1].bias.normal_()
        model(victims(64, (1, 10, 10), seed=1)[0])
    model.eval()
    inputs, targets = victims(1, (1, 10, 10))
    assert psnr(peel(share(model, inputs, targets), model).inputs[0], inputs).min() > 80


class Bottleneck(nn.Module):
    """A body that is a chain of chains, flattened by the way, and above it noise."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.Sigmoid()), nn.Identity())
        self.encoder = nn.Linear(200, 32)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        mean, spread = self.encoder(self.body(x).flatten(1)).chunk(2, dim=1)
        return self.head(mean + spread.exp() * torch.randn_like(mean))


@pytest.mark.parametrize("training", [False, True])
def test_what_lies_above_the_first_linear_layer_does_not_matter(training):
    model, (inputs, targets) = Bottleneck(), victims(1, (1, 10, 10))
    found = peel(share(model, inputs, targets, training=training, seed=5), model)
    assert psnr(found.inputs[0], inputs).min() > 80


def test_channels_last_features_find_their_places():
    model = nn.Sequential(*list(smooth())[:-2], Flatten(), nn.Linear(54, 10))
    inputs, targets = victims(1, (1, 10, 10))
    record = share(model, inputs, targets)
    assert psnr(peel(record, model).inputs[0], inputs).min() > 80
    hidden = defended(record, **{"5.weight": torch.zeros(10, 54)})
    assert psnr(peel(hidden, model, zeros=True).inputs[0], inputs).min() > 60


@pytest.mark.parametrize("settings", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "bias": False}])
def test_a_convolution_is_solved_to_the_least_squares_answer(settings):
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(2, 5, 3, **settings).double().requires_grad_(False)
    true = torch.rand(2, 6, 6, generator=generator, dtype=torch.float64)
    output = layer(true[None])[0]
    signal = torch.rand(output.shape, generator=generator, dtype=torch.float64)
    layer.requires_grad_(True)
    probe = true[None].clone().requires_grad_()
    slopes, below = torch.autograd.grad((layer(probe)[0] * signal).sum(), [layer.weight, probe])
    layer.requires_grad_(False)
    convolution = Convolution(layer, (2, 6, 6))
    solved = convolution.solve(output, torch.ones_like(output), signal, slopes, torch.ones_like(slopes))
    assert solved.left < 1e-10
    assert torch.allclose(layer(solved.values[None])[0], output, atol=1e-9)
    assert torch.allclose(convolution.signal_below(signal), below[0])
    if solved.determined:
        assert torch.allclose(solved.values, true, atol=1e-8)


def test_a_convolution_with_too_few_equations_is_called_open():
    layer = nn.Conv2d(2, 1, 3, stride=3).double().requires_grad_(False)
    output, slopes = torch.ones(1, 2, 2).double(), torch.ones(1, 2, 3, 3).double()
    solved = Convolution(layer, (2, 6, 6)).solve(output, output, output, slopes, slopes)
    assert not solved.determined


def test_noise_and_withheld_tensors_are_seen_in_the_matching():
    model = LeNet().build((1, 12, 12), 10, seed=0)
    inputs, targets = victims(1, (1, 12, 12))
    record = share(model, inputs, targets)
    noise = {name: g + 0.1 * g.std() * torch.randn(g.shape) for name, g in record.gradients.items()}
    found = peel(replace(record, gradients=noise), model, noise="gaussian", std=0.1)
    assert not found.exact
    assert found.matching.min() > 1e-3
    assert found.facts["not used"] == "gaussian noise of 0.1"
    withheld = peel(defended(record, **{"2.weight": torch.zeros_like(record.gradients["2.weight"])}), model)
    assert torch.isfinite(withheld.inputs).all()
    assert withheld.facts["undetermined"] == ["2"]
    assert not withheld.exact


def test_a_random_gradient_gives_no_record():
    model = LeNet().build((1, 12, 12), 10, seed=0)
    record = share(model, *victims(1, (1, 12, 12)))
    noise = torch.Generator().manual_seed(0)
    random = {name: torch.randn(g.shape, generator=noise) for name, g in record.gradients.items()}
    found = peel(replace(record, gradients=random), model)
    assert not found.exact
    assert found.matching.min() > 0.1


def test_the_record_of_another_image_gives_the_other_image():
    model = LeNet().build((1, 12, 12), 10, seed=0)
    inputs, targets = victims(2, (1, 12, 12))
    found = peel(share(model, inputs[:1], targets[:1]), model)
    assert psnr(found.inputs[0], inputs[1:]).max() < 12


def test_without_a_signal_nothing_is_found():
    model = LeNet().build((1, 12, 12), 10, seed=0)
    record = share(model, *victims(1, (1, 12, 12)))
    silent = {name: g if name == "0.weight" else torch.zeros_like(g) for name, g in record.gradients.items()}
    found = peel(replace(record, gradients=silent), model)
    assert not found.found.any()
    assert not found.exact


def test_below_a_relu_the_open_layers_are_named():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(100, 10))
    inputs, targets = victims(1, (3, 12, 12))
    found = peel(share(model, inputs, targets), model)
    assert found.facts["undetermined"] == ["0"]
    assert found.matching.max() < 1e-4
    assert not found.exact


def test_what_a_relu_leaves_open_is_filled_with_a_smooth_picture():
    model = nn.Sequential(nn.Conv2d(1, 6, 5, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(384, 10))
    across = torch.linspace(0, 1, 20)
    inputs = (across[:, None] * across > 0.2)[None, None] * 0.6 + 0.2
    record = share(model, inputs, torch.tensor([3]))
    found, smallest = peel(record, model, steps=500), peel(record, model)
    assert found.facts["undetermined"] == ["0"]
    assert psnr(found.inputs[0], inputs).min() > psnr(smallest.inputs[0], inputs).max() + 2
    assert not found.exact


def test_a_relu_that_leaves_enough_open_changes_nothing():
    model = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(1600, 10))
    inputs, targets = victims(1, (1, 10, 10))
    found = peel(share(model, inputs, targets), model)
    assert psnr(found.inputs[0], inputs).min() > 80
    assert found.exact


@pytest.mark.parametrize("convolutions", [3, 4])
@pytest.mark.parametrize("hidden", [0.4, 0.8, 1.0])
def test_features_that_a_defense_hides_are_found_again(hidden, convolutions):
    model = LeNet(convolutions).build((1, 12, 12), 10, seed=0)
    inputs, targets = victims(1, (1, 12, 12))
    record = share(model, inputs, targets)
    name = list(record.gradients)[-2]
    kept = torch.rand(record.gradients[name].shape[1], generator=torch.Generator().manual_seed(1)) >= hidden
    masked = defended(record, **{name: record.gradients[name] * kept})
    assert psnr(peel(masked, model, zeros=True).inputs[0], inputs).min() > 60
    blind = peel(masked, model)
    assert psnr(blind.inputs[0], inputs).max() < 20
    assert not blind.exact
    withheld = peel(masked, model, withheld=(name,))
    assert psnr(withheld.inputs[0], inputs).min() > 60


def test_equations_that_were_pruned_are_left_out():
    model = smooth()
    inputs, targets = victims(1, (1, 10, 10))
    record = share(model, inputs, targets)
    slopes = record.gradients["0.weight"]
    pruned = defended(record, **{"0.weight": slopes * (slopes.abs() > slopes.abs().median())})
    assert psnr(peel(pruned, model, zeros=True).inputs[0], inputs).min() > 60
    assert psnr(peel(pruned, model).inputs[0], inputs).max() < 60
    gone = defended(record, **{"0.weight": torch.rand_like(slopes)})
    assert psnr(peel(gone, model, withheld=("0.weight",)).inputs[0], inputs).min() > 60


class Twice(nn.Module):
    """A network that uses a convolution twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.head = nn.Linear(144, 10)

    def forward(self, x):
        return self.head(self.conv(self.conv(x).sigmoid()).flatten(1))


@pytest.mark.parametrize(
    ("model", "batch", "words"),
    [
        (LeNet().build((1, 12, 12), 10, seed=0), 2, "batches of 1, got 1 on 2. Use a search"),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(50, 10)),
            1,
            "got MaxPool2d",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3, padding="same"), nn.Flatten(), nn.Linear(288, 10)),
            1,
            "padded with a number",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(144, 10, bias=False)), 1, "a biased linear layer"),
        (nn.Sequential(nn.Flatten(), nn.Linear(144, 9, bias=False), nn.Linear(9, 10)), 1, r"got Linear \(1\)"),
        (Twice(), 1, "called once each"),
    ],
)
def test_networks_that_cannot_be_peeled(model, batch, words):
    with pytest.raises(BadInputError, match=words):
        peel(share(model, *victims(batch, (1, 12, 12))), model)


def test_batch_norm_in_training_mode_is_refused():
    model = smooth(norm=True)
    with pytest.raises(BadInputError, match=r"no BatchNorm2d \(1\) that takes the statistics of the batch"):
        peel(share(model, *victims(1, (1, 10, 10)), training=True), model)


def test_frozen_convolutions_and_withheld_signals_are_refused():
    model = smooth()
    record = share(model, *victims(1, (1, 10, 10)))
    with pytest.raises(BadInputError, match=r"5.bias is withheld"):
        peel(record, model, withheld=("5.",))
    model[0].requires_grad_(False)
    with pytest.raises(BadInputError, match=r"convolutions that learn, got Conv2d \(0\)"):
        peel(share(model, *victims(1, (1, 10, 10))), model)


def test_hidden_features_need_a_convolution_below_them():
    model = MLP((8,)).build((1, 4, 4), 10, seed=0)
    record = share(model, *victims(1, (1, 4, 4)))
    with pytest.raises(BadInputError, match="no convolution below it"):
        peel(record, model, withheld=("1.weight",))


@pytest.mark.parametrize("settings", [{"tolerance": 0.0}, {"steps": -1}, {"tv": -1.0}])
def test_wrong_settings(settings):
    with pytest.raises(BadInputError, match="positive tolerance and no negative steps"):
        ATTACKS.make({"name": "peel"} | settings)
