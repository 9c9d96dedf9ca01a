"""Labels from the last layer: the sign rule, the weight rule and where it fails, counts, and shares."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from divulge.attacks.gradients.labels import label_by_bias, label_by_weight, label_counts, labels_given_inputs
from divulge.errors import BadInputError
from divulge.models.lenet import LeNet
from divulge.models.mlp import MLP, Softmax
from divulge.releases import share


def victims(n, seed=0, shape=(1, 8, 8), classes=10):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, *shape, generator=generator), torch.randint(classes, (n,), generator=generator)


def told(rule, model, inputs, targets):
    return [
        rule(share(model, one[None], target[None]), model) == target
        for one, target in zip(inputs, targets, strict=True)
    ]


@pytest.mark.parametrize("spread", [0.5, None])
def test_both_rules_are_always_right_after_a_sigmoid(spread):
    model = LeNet(spread=spread).build((1, 8, 8), 10, seed=0)
    assert all(told(label_by_bias, model, *victims(24)))
    assert all(told(label_by_weight, model, *victims(24)))


def test_the_weight_rule_fails_where_features_have_both_signs_and_the_bias_rule_does_not():
    model = MLP((16,), activation="tanh").build((1, 8, 8), 10, seed=0)
    inputs, targets = victims(32)
    assert all(told(label_by_bias, model, inputs, targets))
    features = model[:3](inputs).sum(dim=1)
    right = told(label_by_weight, model, inputs, targets)
    assert right == (features > 0).tolist(), "right exactly where the features have a positive sum"
    assert 0 < sum(right) < 32


@pytest.mark.parametrize("batch", [2, 8, 32])
def test_counts_are_right_for_untrained_models_and_always_name_what_is_there(batch):
    model = LeNet(spread=None).build((1, 8, 8), 10, seed=0)
    for seed in range(10):
        inputs, targets = victims(batch, seed)
        for reduction in ("mean", "sum"):
            record = share(model, inputs, targets, reduction=reduction)
            counts = label_counts(record, model, victims(16, seed + 100)[0])
            assert torch.equal(counts, torch.bincount(targets, minlength=10))


def test_counts_fill_the_batch_and_hold_every_class_with_a_negative_entry_when_posteriors_are_misjudged():
    model = MLP((16,)).build((1, 8, 8), 10, seed=0)
    with torch.no_grad():
        model[3].weight.mul_(30)  # confident answers, which noise does not have
    for seed in range(10):
        inputs, targets = victims(12, seed)
        record = share(model, inputs, targets)
        counts = label_counts(record, model, 1 - inputs)
        assert counts.sum() == 12
        assert counts.min() >= 0
        assert (counts[record.gradients["3.bias"] < 0] >= 1).all()


@pytest.mark.parametrize("bias", [True, False])
def test_labels_of_known_inputs_come_in_their_order(bias):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10, bias=bias))
    inputs, targets = victims(12)
    record = share(model, inputs, targets)
    assert torch.equal(labels_given_inputs(record, model, inputs), targets)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    assert torch.equal(labels_given_inputs(record, model, inputs[order]), targets[order])


def test_a_gradient_without_a_label_in_it_names_none_more_often_than_chance():
    # the loss pulls toward a uniform answer, so that no class is the label
    def uniform(logits, targets, reduction):
        return functional.cross_entropy(logits, torch.full_like(logits, 0.1), reduction=reduction)

    inputs, targets = victims(60)
    models = [MLP((16,)).build((1, 8, 8), 10, seed=seed) for seed in range(60)]
    right = sum(
        label_by_bias(share(model, one[None], target[None], loss=uniform), model) == target
        for model, one, target in zip(models, inputs, targets, strict=True)
    )
    assert right <= 14, "more than 14 of 60 by chance of 1 in 10 has a probability of 0.0003"


@pytest.mark.parametrize(
    ("rule", "model", "batch", "words"),
    [
        (label_by_bias, Softmax(), 2, "batch of 1, got 2. Use label_counts"),
        (label_by_weight, Softmax(), 2, "batch of 1, got 2. Use label_counts"),
        (label_by_bias, nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False)), 1, "one without"),
        (
            label_by_bias,
            nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten()),
            1,
            "an output for each of 10 classes, got no linear layer",
        ),
        (
            label_by_bias,
            nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Unflatten(1, (10, 2)), nn.AvgPool1d(2), nn.Flatten()),
            1,
            r"got 1 \(20 outputs\)",
        ),
    ],
)
def test_records_that_tell_no_label(rule, model, batch, words):
    built = model.build((1, 8, 8), 10, seed=0) if isinstance(model, Softmax) else model
    with pytest.raises(BadInputError, match=words):
        rule(share(built, *victims(batch)), built)
