"""Layers that draw: what they draw, what they add to the loss, and that they work under torch.func."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.func import functional_call, grad, vmap

from divulge.errors import BadInputError
from divulge.models import MODELS, Normalize
from divulge.models.bottleneck import convolutional_bottleneck, linear_bottleneck
from divulge.models.cnn import CNN
from divulge.models.lenet import LeNet
from divulge.models.mlp import MLP
from divulge.models.stochastic import MaskedDropout, Sample, draw_noise, injectable, penalties, stochastic_layers

insert = partial(linear_bottleneck, width=4, beta=0.1, always=False, seed=0)
insert_early = partial(convolutional_bottleneck, kernel=3, beta=0.1, always=False, seed=0)


def seed(value=0):
    return torch.Generator().manual_seed(value)


def inputs(*shape):
    return torch.rand(*shape, generator=seed())


@pytest.fixture
def model():
    return insert(MLP((8,)).build((6,), 3, seed=0))


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 3, 2)])
def test_the_penalty_is_the_divergence_from_a_standard_normal_law(shape):
    given = 4 * inputs(*shape).double() - 2
    layer = Sample(beta=0.3)
    mean, std = layer.moments(given)
    divergence = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum(dim=1).reshape(5, -1).mean(dim=1)
    torch.testing.assert_close(layer.penalty(given), 0.3 * divergence)
    standard = torch.cat([torch.zeros(2, 3), torch.full((2, 3), (torch.tensor(1.0).exp() - 1).log())], dim=1)
    torch.testing.assert_close(layer.penalty(standard), torch.zeros(2), atol=1e-6, rtol=0)


def test_the_penalty_counts_half_precision_in_float32():
    assert Sample(beta=1.0).penalty(inputs(2, 8).bfloat16()).dtype == torch.float32


def test_deviations_are_limited_where_that_is_asked_for():
    _, std = Sample(beta=1.0, limit=5.0).moments(torch.tensor([[0.0, 100.0]]))
    assert float(std) == pytest.approx(5.0067, abs=1e-4)


def test_a_sample_is_drawn_around_the_mean_and_is_the_mean_when_asked():
    layer, given = Sample(beta=1.0), torch.cat([torch.full((20_000, 1), 3.0), torch.zeros(20_000, 1)], dim=1)
    drawn = layer(given)
    assert float(drawn.mean()) == pytest.approx(3.0, abs=0.03)
    assert float(drawn.std()) == pytest.approx(float(torch.tensor(2.0).log()), abs=0.02)
    assert torch.equal(layer.eval()(given), given[:, :1])
    assert not torch.equal(Sample(beta=1.0, always=True).eval()(given), given[:, :1])


def test_noise_can_be_given_and_changes_nothing_of_the_model(model):
    x, noise = inputs(5, 6), torch.randn(5, 4, generator=seed())
    state, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    first, again = (functional_call(model.train(), {"4.noise": noise}, (x,)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(first, functional_call(model.eval(), {"4.noise": noise}, (x,))), "in every mode"
    assert torch.equal(functional_call(model, {"4.noise": torch.zeros(5, 4)}, (x,)), model(x))
    assert torch.equal(random, torch.get_rng_state())
    assert model[4].noise is None
    assert list(model.state_dict()) == list(state)
    assert "4.noise" not in state


def test_penalties_are_collected_inside_the_block_only(model):
    with penalties(model) as extra:
        model(inputs(5, 6))
    torch.testing.assert_close(extra[0], model[4].penalty(model[:4](inputs(5, 6))))
    with pytest.raises(ZeroDivisionError), penalties(model):
        raise ZeroDivisionError
    assert not any(layer._forward_pre_hooks for layer in model.modules())
    with penalties(MLP((8,)).build((6,), 3, seed=0)) as extra:
        pass
    assert extra == []


def test_noise_and_divergence_are_functional_under_vmap_and_grad(model):
    x, noise = inputs(5, 6), torch.randn(5, 4, generator=seed())
    weights = {name: p.detach() for name, p in model.named_parameters()}

    def loss(weights, x, noise):
        with penalties(model) as extra:
            answer = functional_call(model, {**weights, "4.noise": noise[None]}, (x[None],))
        return answer.square().sum() + extra[0].sum()

    together = vmap(grad(loss), in_dims=(None, 0, 0))(weights, x, noise)
    alone = [grad(loss)(weights, x[i], noise[i]) for i in range(5)]
    for name in weights:
        torch.testing.assert_close(together[name], torch.stack([one[name] for one in alone]))
    slope = grad(loss, argnums=2)(weights, x[0], noise[0])
    assert slope.abs().min() > 0, "the noise can be searched for"


def test_drawn_noise_is_that_of_its_generator_and_of_every_layer():
    model = injectable(nn.Sequential(insert(MLP((8,)).build((6,), 3, seed=0)), nn.Dropout(0.25), nn.Linear(3, 2)))
    first, same, other = (draw_noise(model, inputs(500, 6), generator=seed(value)) for value in (1, 1, 2))
    assert {name: one.shape for name, one in first.items()} == {"0.4.noise": (500, 4), "1.noise": (500, 3)}
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    assert float(first["0.4.noise"].std()) == pytest.approx(1, abs=0.05)
    assert float(first["1.noise"].mean()) == pytest.approx(0.75, abs=0.05)
    assert set(first["1.noise"].unique().tolist()) == {0.0, 1.0}


def test_dropout_that_takes_its_mask_is_dropout():
    plain = nn.Sequential(nn.Dropout(0.4), nn.Dropout(0.0), nn.Linear(6, 3)).train()
    model, x = injectable(plain), inputs(50, 6)
    assert [type(layer) for layer in model] == [MaskedDropout, nn.Dropout, nn.Linear]
    assert type(plain[0]) is nn.Dropout
    answers = []
    for one in (plain, model):
        torch.manual_seed(4)
        answers.append(one(x))
    assert torch.equal(*answers)
    assert torch.equal(plain.eval()(x), model.eval()(x))
    mask = (x > 0.5).float()
    torch.testing.assert_close(functional_call(model, {"0.noise": mask}, (x,)), plain[2](x * mask / 0.6))


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        ({"name": "image-mlp"}, 4_994_570),
        ({"name": "image-mlp", "hidden": [1024] * 4}, 7_093_770),
        ({"name": "lenet"}, 606_930),
    ],
)
def test_networks_with_a_bottleneck_have_the_sizes_of_the_study(spec, size):
    model = linear_bottleneck(
        MODELS.make(spec).build((3, 32, 32), 10, seed=0), width=None, beta=1e-3, always=False, seed=0
    )
    assert sum(p.numel() for p in model.parameters()) == size


def test_image_mlp_standardizes_first_and_lies_flat():
    model = MODELS.make({"name": "image-mlp", "hidden": [8], "mean": [0.5], "std": [0.2]}).build((1, 4, 4), 3, seed=0)
    assert [type(layer) for layer in model] == [Normalize, nn.Flatten, nn.Linear, nn.ReLU, nn.Linear]


class Net(nn.Module):
    """A network that is no sequence, with one inside."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5))
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.body(x).relu())


@pytest.mark.parametrize(
    ("make", "name", "place"),
    [
        (lambda: MLP((8,)).build((6,), 3, seed=0), None, "4"),
        (lambda: MLP((8,)).build((6,), 3, seed=0), "1", "2"),
        (Net, None, "head.1"),
        (Net, "body.2", "body.3"),
        (lambda: nn.Linear(6, 3), None, "1"),
    ],
)
def test_a_bottleneck_stands_before_the_layer_that_was_named(make, name, place):
    model = make()
    state = copy.deepcopy(model.state_dict())
    longer = insert(model, name)
    assert [one.removesuffix(".noise") for one in stochastic_layers(longer)] == [place]
    assert longer(inputs(2, 6)).shape == (2, 3)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items()), "the caller's model"
    assert not {id(one) for one in model.modules()} & {id(one) for one in longer.modules()}
    again, other = insert(model, name), linear_bottleneck(model, name, width=4, beta=0.1, always=False, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(longer.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(longer.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_an_early_bottleneck_has_no_biases_and_follows_the_first_block(activation):
    model = insert_early(LeNet(activation=activation).build((1, 12, 12), 3, seed=0))
    assert [type(layer).__name__ for layer in model[:5]][2:] == ["Conv2d", "Sample", "Conv2d"]
    assert model[2].bias is model[4].bias is None
    assert (model[2].out_channels, model[4].in_channels) == (16, 8)
    assert model(inputs(2, 1, 12, 12)).shape == (2, 3)
    pooled = insert_early(CNN((4,), hidden=8).build((1, 8, 8), 3, seed=0))
    assert [type(layer).__name__ for layer in pooled][1:8] == [
        *("Conv2d", "BatchNorm2d", "MaxPool2d", "ReLU", "Conv2d", "Sample", "Conv2d")
    ]


@pytest.mark.parametrize(
    ("put", "words"),
    [
        (lambda m: insert(m, "head"), "got 'head', which the model does not have. There is '1', '3'"),
        (lambda m: insert(m, "2"), "got '2', which is ReLU"),
        (
            lambda m: linear_bottleneck(m, width=9, beta=1, always=False, seed=0),
            "1 to the 8 inputs of layer '3', got 9",
        ),
        (lambda m: linear_bottleneck(m, width=0, beta=1, always=False, seed=0), "got 0"),
        (lambda m: insert(insert(m)), "there is one already"),
        (insert_early, "Conv2d layer, got none"),
        (lambda m: insert(nn.ReLU()), "Linear layer, got none"),
        (
            lambda m: convolutional_bottleneck(nn.Conv2d(1, 2, 3), kernel=2, beta=1, always=False, seed=0),
            "odd kernel",
        ),
    ],
)
def test_where_a_bottleneck_does_not_fit(put, words):
    with pytest.raises(BadInputError, match=words):
        put(MLP((8,)).build((6,), 3, seed=0))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop, self.head = MaskedDropout(0.5), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.drop(self.drop(x)))


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop, self.head, self.calls = MaskedDropout(0.5), nn.Linear(6, 3), 0

    def forward(self, x):
        self.calls += 1
        return self.calls * self.head(self.drop(x))


class Drawing(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop, self.head = MaskedDropout(0.5), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.drop(x)) + torch.rand(())


@pytest.mark.parametrize(
    ("kind", "words"), [(Twice, "called once"), (Counting, "side effects"), (Drawing, "outside of its layers")]
)
def test_models_whose_noise_cannot_be_told(kind, words):
    with pytest.raises(BadInputError, match=words):
        draw_noise(kind(), inputs(2, 6), generator=seed())
