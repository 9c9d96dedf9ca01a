import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence
from torch.func import functional_call

from divulge.errors import BadInputError
from divulge.models import MODELS
from divulge.models.multvae import MultVAE, multinomial
from divulge.models.stochastic import draw_noise, penalties

BASKETS = torch.tensor([[1.0, 0, 1, 0, 1], [0, 1, 0, 0, 0]])


def small(**settings) -> torch.nn.Module:
    return MultVAE(hidden=7, code=3, **settings).build((5,), 5, seed=0)


def test_the_loss_is_minus_the_log_likelihood_of_each_item():
    logits = torch.randn(2, 5, dtype=torch.float64)
    each = Categorical(logits=logits[:, None]).log_prob(torch.arange(5))  # of every item, by another way
    torch.testing.assert_close(multinomial(logits, BASKETS), -(each * BASKETS).sum(dim=1))


def test_items_left_out_of_the_softmax_have_no_gradient():
    logits = torch.randn(1, 5, requires_grad=True)
    left_out = torch.tensor([[False, True, False, False, False]])
    loss = multinomial(logits.masked_fill(left_out, -torch.inf), BASKETS[:1])
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    kept = logits.detach()[~left_out].softmax(dim=0)
    torch.testing.assert_close(gradient[~left_out], 3 * kept - BASKETS[0][~left_out[0]])
    assert gradient[left_out] == 0


def test_the_network_is_the_published_one_with_its_noise_given():
    model = small(beta=0.2).double()
    noise = draw_noise(model, BASKETS.double(), generator=torch.Generator().manual_seed(0))
    mask, drawn = noise["1.noise"], noise["5.noise"]
    weights = dict(model.named_parameters())
    entered = BASKETS.double() / BASKETS.sum(dim=1, keepdim=True).sqrt() * mask / 0.5
    hidden = torch.tanh(entered @ weights["2.weight"].T + weights["2.bias"])
    mean, logarithm = (hidden @ weights["4.weight"].T + weights["4.bias"]).split(3, dim=1)
    code = mean + (logarithm / 2).exp() * drawn
    expected = torch.tanh(code @ weights["6.weight"].T + weights["6.bias"]) @ weights["8.weight"].T + weights["8.bias"]
    with penalties(model) as extra:
        torch.testing.assert_close(functional_call(model, noise, (BASKETS.double(),)), expected)
    divergence = kl_divergence(Normal(mean, (logarithm / 2).exp()), Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(extra[0], 0.2 * divergence)


def test_it_draws_in_training_and_not_in_answers():
    model = small()
    assert torch.equal(model.eval()(BASKETS), model(BASKETS))
    assert not torch.equal(model.train()(BASKETS), model(BASKETS))
    assert set(dict(small(output_bias=False).named_parameters())) == set(dict(model.named_parameters())) - {"8.bias"}


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ({"hidden": 0}, (5,), "positive widths"),
        ({"dropout": 1.0}, (5,), r"a dropout in \[0, 1\)"),
        ({"beta": -1.0}, (5,), "a beta of 0 or more"),
        ({}, (4,), "a logit for each item"),
        ({}, (1, 5, 5), "a logit for each item"),
    ],
)
def test_bad_settings_are_refused(spec, shape, message):
    with pytest.raises(BadInputError, match=message):
        MODELS.make({"name": "multvae", **spec}).build(shape, 5, seed=0)
