"""Attacks on bottlenecks and dropout: closed forms against the truth, and searches for what was drawn."""

import copy
from dataclasses import fields, replace

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from divulge.attacks import ATTACKS
from divulge.attacks.gradients.bias_anchored import BiasAnchored
from divulge.attacks.gradients.inverting_gradients import InvertingGradients
from divulge.attacks.gradients.noise_restoring import DropoutInversion, NoiseRestoring
from divulge.attacks.gradients.variational import bottleneck, open_batch, open_one
from divulge.attacks.knowledge import Knowledge
from divulge.defenses import DEFENSES
from divulge.errors import BadInputError
from divulge.metrics.images import best_order, psnr
from divulge.models import MODELS, seeded
from divulge.models.lenet import LeNet
from divulge.models.mlp import MLP
from divulge.releases import share


def seed(value=0):
    return torch.Generator().manual_seed(value)


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)


def mlp(hidden=(64, 64), **more):
    spec = {"name": "image-mlp", "hidden": list(hidden), "mean": [0.3], "std": [0.4], **more}
    return MODELS.make(spec).build((1, 8, 8), 10, seed=0)


def client(defense, network, images, targets, *, training=True, reduction="mean", value=3):
    """What a client shares under a defense, with the model, the defense, and what was drawn."""
    defense = DEFENSES.make(defense)
    model = defense.architecture(network)
    record = share(model, images, targets, training=training, reduction=reduction)
    sent = defense.share(record, model=model, inputs=images, targets=targets, generator=seed(value))
    return sent.record, model, defense, sent.randomness


@pytest.mark.parametrize("hidden", [(64, 64), (64, 64, 64, 64)])
@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_records_and_noise_of_fully_connected_networks_are_exact(hidden, activation, digits):
    images, targets = digits
    sent = [
        client("precode", mlp(hidden, activation=activation), images[i : i + 1], targets[i : i + 1], value=i)
        for i in range(3)
    ]
    model, (name,) = sent[0][1], sent[0][3]
    found = ATTACKS["precode-closed-form"]().run([one[0] for one in sent], model, generator=seed())
    assert found.exact
    assert (found.inputs[:, 0] - images[:3]).abs().max() < 1e-5
    assert torch.equal(found.targets[:, 0], targets[:3])
    noise = torch.stack([one[3][name] for one in sent])
    assert (found.noise[name] - noise).abs().max() < 1e-4
    assert found.matching.max() < 1e-5


def test_input_code_and_output_of_a_bottleneck_are_exact_below_a_convolution(digits):
    images, targets = digits
    network = LeNet(spread=None).build((1, 8, 8), 10, seed=0).double()
    record, model, _, drawn = client("precode", network, images[:1].double(), targets[:1])
    opened = open_one(record, model)
    with torch.no_grad():
        entered = model[:7](images[:1].double())
        mean, std = model[8].moments(model[7](entered))
        code = mean + std * drawn["8.noise"]
    torch.testing.assert_close(opened.inputs, entered, rtol=0, atol=1e-10)
    torch.testing.assert_close(opened.codes, code, rtol=0, atol=1e-10)
    torch.testing.assert_close(opened.outputs, model[9](code).detach(), rtol=0, atol=1e-10)
    torch.testing.assert_close(opened.noise, drawn["8.noise"], rtol=0, atol=1e-9)
    assert opened.residual < 1e-10
    found = ATTACKS["precode-closed-form"]().run(record, model, generator=seed())
    assert not found.found.any()
    assert not found.exact
    assert found.targets.tolist() == [[targets[0]]]
    assert (found.noise["8.noise"][0] - drawn["8.noise"]).abs().max() < 1e-4


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("batch", [2, 4, 8])
def test_records_of_a_batch_with_neurons_of_their_own_give_their_noise_too(batch, reduction, digits):
    images, targets = digits
    record, model, _, drawn = client("precode", mlp((1024, 64)), images[:batch], targets[:batch], reduction=reduction)
    (name,) = drawn
    found = ATTACKS["precode-closed-form"]().run(record, model, generator=seed())
    assert found.found.all()
    order = best_order(found.inputs[0], images[:batch])
    assert (found.inputs[0, order] - images[:batch]).abs().max() < 1e-4
    assert torch.equal(found.targets[0, order], targets[:batch])
    assert (found.noise[name][0, order] - drawn[name]).abs().max() < 1e-3


def test_noise_of_a_batch_is_exact_given_its_inputs(digits):
    images, targets = digits
    record, model, _, drawn = client("precode", mlp((32, 32)).double(), images[:5].double(), targets[:5])
    with torch.no_grad():
        entered = model[:6](images[:5].double())
    opened = open_batch(record, model, entered)
    torch.testing.assert_close(opened.noise, drawn["7.noise"], rtol=0, atol=1e-6)
    assert torch.equal(opened.targets, targets[:5])


def test_the_gradient_of_another_record_tells_nothing_of_this_one(digits):
    images, targets = digits
    record, model, _, drawn = client("precode", mlp(), images[:1], targets[:1])
    found = ATTACKS["precode-closed-form"]().run(record, model, generator=seed())
    (name,) = drawn
    assert psnr(found.inputs[0], images[5:6]) < 20
    other = torch.randn(drawn[name].shape, generator=seed(9))
    assert (found.noise[name][0] - other).square().mean() > 1


def test_a_record_that_shares_no_signal_is_not_found(digits):
    record, model, *_ = client("precode", mlp(), digits[0][:1], digits[1][:1])
    silent = {name: torch.zeros_like(one) for name, one in record.gradients.items()}
    silent["9.bias"] = record.gradients["9.bias"]
    found = ATTACKS["precode-closed-form"]().run(replace(record, gradients=silent), model, generator=seed())
    assert not found.exact
    assert not found.found.any()


def points(attack, record, model, images, noise, **told):
    """The matching loss of the true images with the true noise."""

    class Told(type(attack)):
        def _begin(self, record, *, joint, generator):
            return ((images - 0.3) / 0.4).flatten()[None]

        def extended(self, begin, rounds, plans, generator):
            if not plans[0].restoring:
                return begin
            return torch.cat([begin, *(one.flatten()[None] for one in noise.values())], dim=1)

    settings = {field.name: getattr(attack, field.name) for field in fields(attack)}
    told = Told(**settings | told | {"steps": 1, "lr": 1e-12, "restarts": 1})
    return told.run(record, model, generator=seed())


@pytest.mark.parametrize("defense", ["precode", "gradient-dropout"])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_client_is_played_again_with_noise_and_divergence(defense, batch, digits):
    images, targets = digits[0][:batch], digits[1][:batch]
    record, model, _, drawn = client(defense, mlp(), images, targets)
    known = {"targets": (tuple(targets.tolist()),), "noise_lr": 1e-12}
    whole = points(NoiseRestoring(penalized=True), record, model, images, drawn, **known)
    assert whole.matching[0] < 1e-10
    assert all((whole.noise[name][0] - one).abs().max() < 1e-5 for name, one in drawn.items())
    wrong = {name: one.flip(0).roll(1, dims=1) for name, one in drawn.items()}
    assert points(NoiseRestoring(penalized=True), record, model, images, wrong, **known).matching[0] > 1e-3
    if defense == "precode":
        assert points(NoiseRestoring(), record, model, images, drawn, **known).matching[0] > 1e-10


def test_searching_for_the_noise_finds_record_and_noise(digits):
    images, targets = digits
    record, model, _, drawn = client({"name": "precode", "width": 8}, mlp((32,)), images[:1], targets[:1])
    attack = NoiseRestoring(steps=250, lr=0.05, penalized=True)
    found = attack.run(record, model, generator=seed())
    plain = InvertingGradients(steps=250, lr=0.05, tv=1e-6).run(record, model, generator=seed())
    assert psnr(found.inputs[0], images[:1]) > 30
    assert psnr(plain.inputs[0], images[:1]) < 20, "noise drawn afresh hides the record"
    (name,) = drawn
    assert (found.noise[name][0] - drawn[name]).square().mean() < 0.1, "independent noise would be off by 2"
    assert plain.noise == {}


@pytest.mark.parametrize("defense", ["precode", {"name": "gradient-dropout", "rate": 0.5}, "ppp"])
def test_an_oracle_searches_under_the_noise_that_was_drawn(defense, digits):
    images, targets = digits
    batches = [(images[i : i + 1], targets[i : i + 1]) for i in range(2)]
    sent = [client(defense, mlp((32,), activation="sigmoid"), *batch, value=i) for i, batch in enumerate(batches)]
    knowing = Knowledge(defense=sent[0][2], randomness=tuple(one[3] for one in sent))
    search = InvertingGradients(steps=100, lr=0.05, tv=1e-6)
    told = search.run([one[0] for one in sent], sent[0][1], knowledge=knowing, generator=seed())
    blind = search.run([one[0] for one in sent], sent[0][1], generator=seed())
    assert told.facts["adapted"][-1] == "played again what the layers drew"
    assert (told.matching < blind.matching / 100).all()
    assert psnr(told.inputs[:, 0], images[:2]).min() > psnr(blind.inputs[:, 0], images[:2]).max()
    restored = NoiseRestoring(steps=2).run([one[0] for one in sent], sent[0][1], knowledge=knowing, generator=seed())
    assert restored.noise == {}, "nothing to search for"


def test_noise_on_early_gradients_spoils_the_closed_form_until_it_is_known(digits):
    images, targets = digits
    record, model, defense, drawn = client("ppp", mlp(), images[:1], targets[:1])
    attack = ATTACKS["precode-closed-form"]()
    blind, adaptive, oracle = (
        attack.run(record, model, knowledge=knowledge, generator=seed())
        for knowledge in (Knowledge(), Knowledge(defense=defense), Knowledge(defense=defense, randomness=(drawn,)))
    )
    assert not blind.exact
    assert adaptive.facts["not used"] == "gaussian noise of 0.01"
    assert (oracle.inputs[0] - images[:1]).abs().max() < 1e-4
    assert "took the noise back" in oracle.facts["adapted"]


def test_leaving_out_what_lies_behind_the_draw_is_what_an_adaptive_search_does(digits):
    record, model, defense, _ = client("precode", mlp(), digits[0][:1], digits[1][:1])
    search, knows = InvertingGradients(steps=2), Knowledge(defense=defense)
    found = search.run(record, model, knowledge=knows, generator=seed())
    restoring = NoiseRestoring(steps=2).run(record, model, knowledge=knows, generator=seed())
    assert restoring.facts["adapted"] == (), "searching for the noise needs what depends on it"
    assert found.facts["adapted"] == ("left out 8.weight, 8.bias, 9.weight",)
    assert found.targets.tolist() == [[digits[1][0]]]


def test_anchored_search_does_not_see_the_bottleneck(digits):
    images, targets = digits
    network = LeNet(spread=None, mean=(0.3,), std=(0.4,)).build((1, 8, 8), 10, seed=0)
    (one, model, *_), (two, *_) = (client("precode", network, images[:1], targets[:1], value=value) for value in (0, 1))
    first, second = (BiasAnchored(steps=40).run(record, model, generator=seed()) for record in (one, two))
    assert min(psnr(each.inputs[0], images[:1]) for each in (first, second)) > 12
    assert psnr(first.inputs[0], second.inputs[0].clamp(0, 1)) > 20, "drawn twice, and the same to the search"


def test_peeling_goes_on_below_a_bottleneck(digits):
    images, targets = digits
    record, model, *_ = client("precode", LeNet(spread=None).build((1, 8, 8), 10, seed=0), images[:1], targets[:1])
    found = ATTACKS["peel"]().run(record, model, generator=seed())
    assert psnr(found.inputs[0], images[:1]) > 60
    assert torch.equal(found.targets[0], targets[:1])


@pytest.mark.parametrize("batch", [1, 2])
def test_masks_are_searched_for_within_their_bounds(batch, digits):
    images, targets = digits[0][:batch], digits[1][:batch]
    record, model, _, drawn = client("gradient-dropout", mlp((32,)), images, targets)
    found = DropoutInversion(steps=40).run(record, model, generator=seed())
    for name, masks in found.noise.items():
        assert masks[0].shape == drawn[name].shape
        assert masks.min() >= 0
        assert masks.max() <= 1
    begun = DropoutInversion(steps=1).run(record, model, generator=seed())
    assert (found.matching < begun.matching / 2).all()


def test_masks_are_read_off_the_zeros(digits):
    images, targets = digits
    record, model, _, drawn = client("gradient-dropout", mlp((32, 32), activation="sigmoid"), images[:1], targets[:1])
    found = DropoutInversion(steps=1, lr=1e-9, noise_start="read").run(record, model, generator=seed())
    for name, masks in drawn.items():
        assert torch.allclose(found.noise[name][0], masks, atol=1e-6)
    plain = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    found = DropoutInversion(steps=1, lr=1e-9, noise_start="read").run(
        share(plain, images[:1], targets[:1], training=True, seed=4), plain, generator=seed()
    )
    with seeded(4):
        kept = nn.Dropout(0.5)(images[:1].flatten(1) + 1) > 0
    assert torch.equal(found.noise["1.noise"][0] > 0.5, kept & (images[:1].flatten(1) > 0))


def test_noise_starts_where_the_closed_form_has_it(digits):
    images, targets = digits
    sent = [client("precode", mlp((32,)), images[i : i + 1], targets[i : i + 1], value=i) for i in range(2)]
    attack = NoiseRestoring(steps=1, lr=1e-9, restarts=2, noise_start="read")
    found = attack.run([one[0] for one in sent], sent[0][1], generator=seed())
    for number, (_, _, _, drawn) in enumerate(sent):
        (name,) = drawn
        assert (found.noise[name][number] - drawn[name]).abs().max() < 1e-4


def test_nothing_of_the_callers_changes(digits):
    for defense in ("precode", "gradient-dropout"):
        record, model, knows, _ = client(defense, mlp((16,)), digits[0][:1], digits[1][:1])
        model.train()
        state, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
        kept = {name: one.clone() for name, one in record.gradients.items()}
        names = ["noise-restoring", "inverting-gradients"] + ["precode-closed-form"] * (defense == "precode")
        for name in names:
            made = ATTACKS[name]() if name == "precode-closed-form" else ATTACKS[name](steps=2)
            first, again = (
                made.run(record, model, knowledge=Knowledge(defense=knows), generator=seed()) for _ in range(2)
            )
            assert torch.equal(first.inputs, again.inputs)
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
        assert all(torch.equal(record.gradients[key], one) for key, one in kept.items())
        assert all(layer.training for layer in model.modules())
        assert not any(layer._forward_pre_hooks for layer in model.modules())
        assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "noise-restoring", "noise_lr": 0.0}, "positive noise_lr"),
        ({"name": "noise-restoring", "noise_weight": -1.0}, "noise_weight of 0 or more"),
        ({"name": "noise-restoring", "labels": "joint"}, "labels that are read first"),
        ({"name": "dropout-inversion", "optimizer": "lbfgs", "sign": "none", "schedule": "constant"}, "adam"),
        ({"name": "precode-closed-form", "tolerance": 0.0}, r"tolerance in \(0, 1\)"),
    ],
)
def test_bad_settings(spec, words):
    with pytest.raises(BadInputError, match=words):
        ATTACKS.make(spec)


def test_networks_that_draw_nothing_are_refused(digits):
    record = share(mlp(), digits[0][:1], digits[1][:1])
    with pytest.raises(BadInputError, match="a model that draws"):
        NoiseRestoring(steps=1).run(record, mlp(), generator=seed())
    with pytest.raises(BadInputError, match="a variational bottleneck between"):
        ATTACKS["precode-closed-form"]().run(record, mlp(), generator=seed())
    convolutional, model, *_ = client("cvb", LeNet().build((1, 8, 8), 10, seed=0), digits[0][:1], digits[1][:1])
    with pytest.raises(BadInputError, match="Against a convolutional one"):
        bottleneck(convolutional, model)
    with pytest.raises(BadInputError, match="can be read"):
        NoiseRestoring(steps=1, noise_start="read").run(
            *client({"name": "precode", "width": 4}, DEFENSES.make("gradient-dropout").architecture(mlp()),
                    digits[0][:1], digits[1][:1])[:2],
            generator=seed(),
        )  # fmt: skip


def test_a_batch_cannot_be_read_as_one(digits):
    record, model, *_ = client("precode", mlp((16,)), digits[0][:2], digits[1][:2])
    with pytest.raises(BadInputError, match="a batch of 1, got 2"):
        NoiseRestoring(steps=1, noise_start="read").run(record, model, generator=seed())
    record, model, *_ = client("gradient-dropout", mlp((16,)), digits[0][:2], digits[1][:2])
    with pytest.raises(BadInputError, match="Set noise_start='drawn'"):
        NoiseRestoring(steps=1, noise_start="read").run(record, model, generator=seed())


@pytest.mark.parametrize("drawn", [({"5.noise": torch.zeros(1, 3)},), ({}, {"5.noise": torch.zeros(1, 4)})])
def test_an_oracle_told_the_wrong_noise(drawn, digits):
    record, model, defense, _ = client({"name": "precode", "width": 4}, mlp((16,)), digits[0][:1], digits[1][:1])
    with pytest.raises(BadInputError, match="expected"):
        InvertingGradients(steps=1).run(
            record, model, knowledge=Knowledge(defense=defense, randomness=drawn), generator=seed()
        )


def test_a_bottleneck_further_down_is_opened_for_one_record_only(digits):
    network = MLP((16, 16)).build((1, 8, 8), 10, seed=0)
    record, model, _, drawn = client({"name": "precode", "layer": "3"}, network, digits[0][:1], digits[1][:1])
    assert (open_one(record, model).noise - drawn["4.noise"]).abs().max() < 1e-4
    record, model, *_ = client({"name": "precode", "layer": "3"}, network, digits[0][:2], digits[1][:2])
    with pytest.raises(BadInputError, match="right before the last"):
        open_batch(record, model, torch.zeros(2, 16).double())
