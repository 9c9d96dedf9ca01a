import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from divulge.attacks.gradients.replay import Replay
from divulge.data import Dataset
from divulge.defenses.base import Shared
from divulge.defenses.precode import Precode
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.models.cnn import CNN
from divulge.models.lenet import LeNet
from divulge.models.mlp import MLP
from divulge.models.stochastic import Sample, stochastic_layers
from divulge.releases import share as sharing
from divulge.training.federated import Federation, fit_federated, server, together
from divulge.training.federated.capture import read, written
from divulge.training.federated.client import client_seed


def blobs(n=90, classes=3, width=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % classes
    return Dataset(torch.randn(n, width, generator=generator) + 2 * targets[:, None].float(), targets)


def images(n=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Dataset(torch.rand(n, 1, 8, 8, generator=generator), torch.arange(n) % 4)


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def gradient(model, data):
    loss = functional.cross_entropy(model(data.inputs), data.targets)
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])


def network(data=None, seed=1):
    data = data or blobs()
    return MLP((16,), activation="tanh").build(data.shape, data.num_classes, seed=seed)


NOT_STACKED = nn.Identity()
"""In front of a network it changes nothing but the way that clients are trained."""


def test_one_client_with_all_its_records_is_plain_sgd():
    data, model = blobs(), network()
    reference = copy.deepcopy(model)
    trained = fit_federated(
        model, data, Federation(clients=1, rounds=12, batch_size=None, lr=0.3, lr_decay=0.9), seed=0
    )
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.3)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = functional.cross_entropy(reference(data.inputs), data.targets)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    assert torch.allclose(weights(model), weights(reference), atol=1e-6)
    assert np.allclose([one.loss for one in trained.history], losses, atol=1e-6)


@pytest.mark.parametrize("weighting", ["size", "equal"])
def test_one_step_of_all_clients_is_one_step_along_the_mean_of_their_gradients(weighting):
    data, model = blobs(50), network()
    clients = [np.arange(0, 7), np.arange(7, 30), np.arange(30, 50)]
    shares = np.array([7, 23, 20]) / 50 if weighting == "size" else np.ones(3) / 3
    mean = sum(share * gradient(model, data[rows]) for share, rows in zip(shares, clients, strict=True))
    expected = weights(model) - 0.2 * mean
    if weighting == "size":
        assert torch.allclose(mean, gradient(model, data), atol=1e-6)
    fit_federated(
        model,
        data,
        Federation(clients=3, rounds=1, batch_size=None, lr=0.2, weighting=weighting),
        seed=0,
        clients=clients,
    )
    assert torch.allclose(weights(model), expected, atol=1e-6)


@pytest.mark.parametrize(
    "federation",
    [
        Federation(clients=7, rounds=3, batch_size=4, fraction=0.6),
        Federation(clients=7, rounds=3, batch_size=5, epochs=2, split="classes", weighting="equal"),
        Federation(clients=7, rounds=3, batch_size=None, steps=3),
    ],
)
@pytest.mark.parametrize("bound", [2, 32])
@pytest.mark.parametrize("family", [MLP((16,), activation="tanh"), LeNet(activation="relu", spread=None)])
def test_clients_trained_at_once_share_what_they_share_one_after_another(family, federation, bound, monkeypatch):
    monkeypatch.setattr(together, "TOGETHER", bound)
    data = images(89)
    stacked = family.build(data.shape, 4, seed=0)
    single = nn.Sequential(NOT_STACKED, *copy.deepcopy(stacked))
    assert together.stackable(stacked, 16)
    assert not together.stackable(single, 16)
    rounds = range(1, 4)
    fast = fit_federated(stacked, data, federation, seed=2, capture=rounds)
    slow = fit_federated(single, data, federation, seed=2, capture=rounds)
    assert torch.allclose(weights(stacked), weights(single), atol=1e-5)
    for one, other, mine, theirs in zip(fast.captures, slow.captures, fast.behind, slow.behind, strict=True):
        assert one.record.facts == other.record.facts
        assert np.array_equal(mine.rows, theirs.rows)
        for a, b in zip(one.record.gradients.values(), other.record.gradients.values(), strict=True):
            assert torch.allclose(a, b, atol=1e-5)
    for one, other in zip(fast.history, slow.history, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-5)
        assert replace(one, loss=0, moved=0, accuracy=0) == replace(other, loss=0, moved=0, accuracy=0)


def test_what_is_drawn_or_measured_or_large_is_not_trained_at_once():
    shape = (1, 8, 8)
    assert not together.stackable(nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(64, 4)), 1)
    assert not together.stackable(CNN((4,), hidden=8).build(shape, 4, seed=0), 1)
    assert not together.stackable(MLP((5000,)).build(shape, 4, seed=0), 1)
    assert not together.stackable(LeNet().build(shape, 4, seed=0), 17)
    assert together.stackable(MLP().build(shape, 4, seed=0), 1000)


def test_a_fixed_part_stays_and_is_not_shared_by_clients_trained_at_once():
    data, model = blobs(), network()
    model[1].requires_grad_(False)
    first = weights(model[1]).clone()
    trained = fit_federated(model, data, Federation(clients=3, rounds=2), seed=0, capture=[1])
    assert torch.equal(weights(model[1]), first)
    trained.captures[0].record.require(model)
    assert list(trained.captures[0].record.gradients) == ["3.weight", "3.bias"]


@pytest.mark.parametrize("split", ["iid", "classes"])
def test_federated_averaging_learns(split):
    data, held_out = blobs(), blobs(seed=5)
    trained = fit_federated(
        network(),
        data,
        Federation(clients=9, rounds=30, fraction=0.5, batch_size=5, lr=0.1, split=split),
        seed=0,
        evaluation=held_out,
    )
    assert trained.accuracy.shape == (30,)
    assert trained.accuracy[-5:].mean() > 0.8  # a third is chance
    assert all(len(one.clients) == 4 for one in trained.history)


def test_the_seed_decides_everything_and_the_global_random_state_stays():
    data = images()
    federation = Federation(clients=4, rounds=3, fraction=0.5, batch_size=4)

    def run(seed):
        model = nn.Sequential(nn.Dropout(0.3), *LeNet(spread=None).build(data.shape, 4, seed=0))
        fit_federated(model, data, federation, seed=seed, share=noisy)
        return weights(model)

    before = torch.get_rng_state()
    assert torch.equal(run(3), run(3))
    assert not torch.equal(run(3), run(4))
    assert torch.equal(torch.get_rng_state(), before)


def noisy(record, *, model, inputs, targets, generator):
    gradients = {name: g + 0.01 * torch.randn(g.shape, generator=generator) for name, g in record.gradients.items()}
    return Shared(replace(record, gradients=gradients), randomness="drawn")


@pytest.mark.parametrize(("steps", "kind"), [(1, "gradient"), (3, "update")])
@pytest.mark.parametrize("family", [MLP((12,)), LeNet(activation="relu", spread=None), CNN((4,), hidden=8)])
def test_captured_records_are_what_the_client_would_share_of_the_rows_behind_them(family, steps, kind):
    data = images()
    model = family.build(data.shape, 4, seed=0)
    federation = Federation(clients=4, rounds=3, batch_size=None, steps=steps, lr=0.05, fraction=0.5)
    trained = fit_federated(model, data, federation, seed=1, capture=(1, 3))
    assert [one.round for one in trained.captures] == [1, 1, 3, 3]
    for capture, behind in zip(trained.captures, trained.behind, strict=True):
        public, record, truth = capture.model(model), capture.record, data[behind.rows]
        record.require(public)
        assert (record.kind, record.local_steps, record.batch_size) == (kind, steps, 6)
        assert capture.replayable
        replayed, _ = Replay(public, record)(truth.inputs, truth.targets)
        for name, shared in record.gradients.items():
            assert torch.allclose(replayed[name], shared, atol=2e-6), name
    first, last = trained.captures[0].public, trained.captures[2].public
    assert not all(torch.equal(first[name], last[name]) for name in record.gradients)


def test_a_client_of_one_pass_in_batches_is_played_again_in_the_order_of_its_steps():
    data, federation = blobs(), Federation(clients=3, rounds=1, batch_size=8, lr=0.3)
    for model in (network(), nn.Sequential(NOT_STACKED, *network())):
        public = copy.deepcopy(model)
        trained = fit_federated(model, data, federation, seed=0, capture=[1])
        for capture, behind in zip(trained.captures, trained.behind, strict=True):
            record, truth = capture.record, data[behind.rows]
            assert capture.replayable
            assert (record.batch_size, record.local_steps, record.step_sizes) == (30, 4, (8, 8, 8, 6))
            replayed, _ = Replay(public, record)(truth.inputs, truth.targets)
            whole, _ = Replay(public, replace(record, step_sizes=()))(truth.inputs, truth.targets)
            for name, shared in record.gradients.items():
                assert torch.allclose(replayed[name], shared, atol=1e-5), name
            assert not all(torch.allclose(whole[name], g, atol=1e-2) for name, g in record.gradients.items())


def test_a_client_that_goes_through_its_records_in_batches_says_so():
    trained = fit_federated(
        network(), blobs(), Federation(clients=3, rounds=1, batch_size=8, epochs=2), seed=0, capture=[1]
    )
    for capture, rows in zip(trained.captures, trained.clients, strict=True):
        assert not capture.replayable
        assert (capture.record.batch_size, capture.record.local_steps) == (len(rows), 8)
        assert sum(capture.record.step_sizes) == 2 * len(rows)


def test_captures_survive_being_written_and_tell_nothing_private():
    model = network()
    trained = fit_federated(model, blobs(), Federation(clients=3, rounds=2, steps=1), seed=0, capture=[1, 2])
    tensors, facts = written(trained.captures)
    again = read({name: tensor.numpy() for name, tensor in tensors.items()}, facts)
    for one, other in zip(trained.captures, again, strict=True):
        assert one.record.facts == other.record.facts
        assert (one.round, one.client, one.replayable) == (other.round, other.client, other.replayable)
        assert all(torch.equal(one.public[name], other.public[name]) for name in one.public)
        assert all(torch.equal(one.record.gradients[k], other.record.gradients[k]) for k in one.record.gradients)
    assert set(tensors) == {
        f"{number}/{who}/{name}" for number in (1, 2) for who in ("public", 0, 1, 2) for name in model.state_dict()
    }
    with pytest.raises(BadInputError, match="captures: expected"):
        read({}, facts)


@pytest.mark.parametrize("model", [network(), nn.Sequential(NOT_STACKED, *network())])
def test_a_defense_sees_the_update_or_each_step_and_decides_what_is_averaged(model):
    data, seen = blobs(30), []

    def share(record, *, model, inputs, targets, generator):
        seen.append((record.kind, record.batch_size, len(inputs), weights(model)))
        return Shared(
            replace(record, gradients={k: torch.zeros_like(g) for k, g in record.gradients.items()}), len(seen)
        )

    first = weights(model).clone()
    federation = Federation(clients=3, rounds=1, batch_size=5)
    on_update = fit_federated(model, data, federation, seed=0, share=share, capture=[1])
    assert [entry[:3] for entry in seen] == [("update", 10, 5)] * 3
    assert all(torch.equal(entry[3], first) for entry in seen)
    assert torch.equal(weights(model), first)
    assert [one.randomness for one in on_update.behind] == [1, 2, 3]
    seen.clear()
    on_step = fit_federated(model, data, replace(federation, sharing="step"), seed=0, share=share, capture=[1])
    assert [entry[:3] for entry in seen] == [("gradient", 5, 5)] * 6
    assert [one.randomness for one in on_step.behind] == [[1, 2], [3, 4], [5, 6]]
    assert torch.equal(weights(model), first)


def test_a_defense_on_each_step_changes_the_steps_that_follow():
    data, model = blobs(), network()

    def halved(record, *, model, inputs, targets, generator):
        return Shared(replace(record, gradients={name: g / 2 for name, g in record.gradients.items()}))

    reference = copy.deepcopy(model)
    federation = Federation(clients=3, rounds=4, batch_size=10, lr=0.2, sharing="step")
    fit_federated(model, data, federation, seed=0, share=halved)
    fit_federated(reference, data, replace(federation, lr=0.1), seed=0)
    assert torch.allclose(weights(model), weights(reference), atol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_answer_that_is_not_finite_is_dropped_and_reported(bad):
    data, model = blobs(30), network()
    clients = [np.arange(0, 10), np.arange(10, 20), np.arange(20, 30)]

    def broken(record, *, model, inputs, targets, generator):
        if not torch.isin(inputs[:, 0], data.inputs[clients[1], 0]).any():
            return Shared(record)
        return Shared(replace(record, gradients={name: g + bad for name, g in record.gradients.items()}))

    expected = weights(model) - 0.1 * (gradient(model, data[clients[0]]) + gradient(model, data[clients[2]])) / 2
    federation = Federation(clients=3, rounds=1, batch_size=None)
    trained = fit_federated(model, data, federation, seed=0, clients=clients, share=broken)
    assert trained.history[0].dropped == (1,)
    assert trained.history[0].records == 20
    assert torch.allclose(weights(model), expected, atol=1e-6)


def test_a_round_without_a_finite_answer_is_an_error():
    def broken(record, *, model, inputs, targets, generator):
        return Shared(replace(record, gradients={name: g / 0 for name, g in record.gradients.items()}))

    with pytest.raises(BadInputError, match=r"no client's answer in round 1 was finite\. Lower"):
        fit_federated(network(), blobs(), Federation(clients=3), seed=0, share=broken)


def test_batch_norm_statistics_are_averaged_and_the_model_keeps_its_hooks_and_grads():
    data = images()
    model = CNN((4,), hidden=8).build(data.shape, 4, seed=0).eval()
    model[4].register_forward_hook(lambda *_: None)
    model[1].weight.grad = torch.ones_like(model[1].weight)
    fixed = {id(parameter) for parameter in model.parameters()}
    alone = copy.deepcopy(model).train()
    fit_federated(model, data, Federation(clients=1, rounds=1, batch_size=None), seed=0)
    alone(data.inputs)
    assert torch.allclose(model[2].running_mean, alone[2].running_mean, atol=1e-6)
    assert int(model[2].num_batches_tracked) == 1
    assert {id(parameter) for parameter in model.parameters()} == fixed
    assert not model.training
    assert len(model[4]._forward_hooks) == 1
    assert model[1].weight.grad.eq(1).all()


def test_counts_of_clients_are_averaged_without_losing_one():
    parts = [{"count": torch.tensor(1), "mean": torch.tensor([1.0], dtype=torch.float64)} for _ in range(10)]
    mean = server.mean(parts, [1.0] * 10)
    assert float(mean["mean"]) < 1, "control: cut off, the count would be 0"
    assert mean["count"].dtype == torch.int64
    assert int(mean["count"]) == 1


def test_a_client_whose_statistics_are_not_finite_is_dropped():
    data = images()
    model = CNN((4,), hidden=8).build(data.shape, 4, seed=0)
    clients = [np.arange(0, 12), np.arange(12, 24)]

    def broken(record, *, model, inputs, targets, generator):
        if inputs.max() <= 1:
            return Shared(record)
        return Shared(replace(record, gradients={name: torch.zeros_like(g) for name, g in record.gradients.items()}))

    wild = Dataset(data.inputs.clone(), data.targets)
    wild.inputs[12:] = 3e38  # what it measures overflows, and zeros hide that its gradient did
    trained = fit_federated(
        model,
        wild,
        Federation(clients=2, rounds=1, batch_size=None),
        seed=0,
        clients=clients,
        share=broken,
    )
    assert trained.history[0].dropped == (1,)
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize("steps", [1, 3])
def test_what_layers_add_to_the_loss_is_part_of_what_a_client_shares(steps):
    data = images()
    model = Precode(width=5, beta=0.5).architecture(LeNet(spread=None).build(data.shape, 4, seed=0))
    federation = Federation(clients=1, rounds=1, batch_size=None, steps=steps, lr=0.1)
    weighed, plain = copy.deepcopy(model), copy.deepcopy(model)
    next(layer for layer in plain.modules() if isinstance(layer, Sample)).beta = 0.0
    records = []
    for one in (weighed, plain):
        records.append(fit_federated(copy.deepcopy(one), data, federation, seed=0, capture=[1]).captures[0].record)
    again, without = (list(record.gradients.values()) for record in records)
    assert not all(torch.allclose(a, b) for a, b in zip(again, without, strict=True))
    if steps == 1:
        capture = fit_federated(copy.deepcopy(model), data, federation, seed=0, capture=[1])
        truth = data[capture.behind[0].rows]
        honest = sharing(
            model,
            truth.inputs,
            truth.targets,
            training=True,
            noise=drawn(model, truth.inputs, client_seed(0, 1, 0, "draw")),
        )
        for name, gradient in honest.gradients.items():
            assert torch.allclose(capture.captures[0].record.gradients[name], gradient, atol=1e-6), name


def drawn(model, inputs, seed):
    """The noise that the layers draw from the global random state, as a client does."""
    (name,) = stochastic_layers(model)
    with seeded(seed):
        return {name: torch.randn(len(inputs), 5)}


def test_rounds_that_there_are_not_cannot_be_captured():
    with pytest.raises(BadInputError, match="rounds 1 to 2 to capture, got 3"):
        fit_federated(network(), blobs(), Federation(clients=3, rounds=2), seed=0, capture=[3])


def test_watch_sees_the_model_after_each_round():
    model, seen = network(), []
    fit_federated(
        model,
        blobs(),
        Federation(clients=3, rounds=3),
        seed=0,
        watch=lambda number: seen.append((number, weights(model))),
    )
    assert [number for number, _ in seen] == [1, 2, 3]
    assert not torch.equal(seen[0][1], seen[2][1])
    assert torch.equal(seen[2][1], weights(model))
