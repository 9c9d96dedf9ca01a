"""Soteria against a slow reference, its semantics at the edges, and its certificate against brute force."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from divulge.attacks.gradients.inverting_gradients import InvertingGradients
from divulge.attacks.gradients.layer_input import layer_input
from divulge.attacks.gradients.layers import layer
from divulge.attacks.knowledge import Knowledge
from divulge.auditing.gradients.audit_steps import unexplained
from divulge.defenses.jacobian import inside, pull_back
from divulge.defenses.lipschitz import lipschitz
from divulge.defenses.soteria import Soteria
from divulge.errors import BadInputError
from divulge.models import Normalize, seeded
from divulge.models.lenet import LeNet
from divulge.models.mlp import MLP
from divulge.releases import Tampering, share

WEIGHT = "9.weight"


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def convolutions(seed=0):
    with seeded(seed):
        return nn.Sequential(
            Normalize((0.4, 0.5), (0.2, 0.3)),
            nn.Conv2d(2, 4, 5, stride=2, padding=2),
            nn.Sigmoid(),
            nn.Conv2d(4, 6, 3, stride=(2, 1), padding=(0, 1)),
            nn.BatchNorm2d(6),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(18, 9),
            nn.Sigmoid(),
            nn.Linear(9, 4),
        ).eval()


def reference(model, layer_name, x, *, inverse, offset=0.0, step=1):
    """One backward pass a feature, of every `step`-th one, and one record at a time."""
    seen = []
    handle = model.get_submodule(layer_name).register_forward_hook(lambda module, given, answer: seen.append(given[0]))
    scores = []
    for record in x:
        row = record[None].clone().requires_grad_()
        model(row)
        features = seen.pop()
        jacobian = torch.stack(
            [torch.autograd.grad(one, row, retain_graph=True)[0].flatten() for one in features[0, ::step]]
        ).detach()
        told = features[0, ::step].detach().abs() + offset
        if inverse == "ratio":
            scores.append(jacobian.norm(dim=1) / told)
        else:
            scores.append(1 / (torch.from_numpy(np.linalg.pinv(jacobian.numpy())).norm(dim=0) * told))
    handle.remove()
    return torch.stack(scores)


def sent(defense, model, x, y, *, training=False, **more):
    record = share(model, x, y, training=training, **more)
    shared = defense.share(record, model=model, inputs=x, targets=y, generator=torch.Generator())
    return record, shared


@pytest.mark.parametrize("inverse", ["ratio", "exact"])
@pytest.mark.parametrize("where", ["8", "10"])
def test_the_scores_are_those_of_a_loop_of_backward_passes(inverse, where):
    model, x = convolutions().double(), torch.rand(3, 2, 13, 9, dtype=torch.float64)
    model[8] = nn.Linear(model[:8](x).shape[1], 9).double()
    scores = Soteria(inverse=inverse, layer=where, offset=0.1).scores(model, x)
    assert torch.allclose(scores, reference(model, where, x, inverse=inverse, offset=0.1), rtol=1e-6)


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_the_scores_on_the_network_of_the_paper(activation):
    model, x = LeNet(4, activation).build((3, 32, 32), 10, seed=0).requires_grad_(False), torch.rand(1, 3, 32, 32)
    scores = Soteria(offset=0.1).scores(model, x)
    assert scores.shape == (1, 768)
    assert torch.allclose(scores[:, ::17], reference(model, "9", x, inverse="ratio", offset=0.1, step=17), rtol=1e-5)


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize("padding", [(0, 0), (2, 1), (4, 5)])
@pytest.mark.parametrize("sides", [(11, 8), (12, 9)])
def test_going_back_through_a_convolution_is_its_gradient(stride, padding, sides):
    weight = torch.randn(4, 3, 5, 4, dtype=torch.float64)
    x = torch.randn(2, 3, *sides, dtype=torch.float64, requires_grad=True)
    answer = nn.functional.conv2d(x, weight, stride=stride, padding=padding)
    signal = torch.randn_like(answer)
    (expected,) = torch.autograd.grad(answer, x, signal)
    assert torch.allclose(pull_back(signal, weight, stride, padding, sides), expected)


def test_records_mixed_by_batch_norm_have_the_jacobian_of_their_own():
    model, x = convolutions().train(), torch.rand(3, 2, 12, 12)
    looked = inside(model, "8", x, training=True)
    assert looked.mixed
    jacobian = torch.cat(list(looked.rows()))
    assert jacobian.shape == (18, 3, 2, 12, 12)

    def features(batch):
        return model[:8](batch)

    whole = torch.autograd.functional.jacobian(features, x)
    assert torch.allclose(jacobian[:, 1], whole[1, :, 1], atol=1e-5)
    assert not torch.allclose(jacobian.sum(), whole.sum(dim=0).sum(), atol=1e-3), "control: records do mix"
    assert not inside(model, "8", x, training=False).mixed


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.4, 0.8, 1.0])
@pytest.mark.parametrize("inverse", ["ratio", "exact"])
def test_as_many_columns_are_zero_as_the_rate_says_and_all_else_is_untouched(rate, inverse):
    with seeded(0):
        model = nn.Sequential(nn.Flatten(), nn.Linear(60, 100), nn.Sigmoid(), nn.Linear(100, 5))
    x, y = torch.rand(1, 60), torch.tensor([3])
    defense = Soteria(rate, inverse, layer="3")
    record, shared = sent(defense, model, x, y)
    left, honest = shared.record.gradients["3.weight"], record.gradients["3.weight"]
    kept = shared.randomness["3.weight"]
    assert int((~kept).sum()) == math.ceil(round(rate * 100, 9))
    assert torch.equal((left == 0).all(dim=0), ~kept)
    assert torch.equal(left, honest * kept), "what an oracle is told gives what was shared"
    for name in ("1.weight", "1.bias", "3.bias"):
        assert torch.equal(shared.record.gradients[name], record.gradients[name])
    assert defense.tampering(model).zeros == (rate > 0)
    scores = defense.scores(model, x)[0]
    if 0 < rate < 1:
        assert scores[~kept].max() <= scores[kept].min()


def test_one_percent_of_the_papers_network_is_eight_columns_and_the_others_tell_the_representation_exactly():
    model, x, y = LeNet(4).build((3, 32, 32), 10, seed=1), torch.rand(1, 3, 32, 32), torch.tensor([2])
    _, shared = sent(Soteria(0.01), model, x, y)
    kept = shared.randomness[WEIGHT]
    assert int((~kept).sum()) == 8
    told = layer_input(layer(shared.record, model, "9")).values
    assert torch.allclose(told[kept], model[:-1](x)[0].double()[kept], atol=1e-6)
    assert not told[~kept].any()


def test_among_equal_scores_the_first_columns_are_pruned():
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
    x = torch.tensor([[0.5, 0.25, 0.5, 0.5, 1.0, 0.5]])  # the representation is the record: scores are 1 / |x|
    _, shared = sent(Soteria(0.5), model, x, torch.tensor([0]))
    assert shared.randomness["1.weight"].tolist() == [False, True, False, True, False, True]


def test_entries_without_size_and_slope_are_pruned_last_unless_there_is_an_offset():
    with seeded(3):
        model = nn.Sequential(nn.Linear(8, 40), nn.ReLU(), nn.Linear(40, 3))
    x, y = torch.rand(1, 8), torch.tensor([1])
    dead = (model[:2](x)[0] == 0).detach()
    number = int(dead.sum())
    assert 5 < number < 35
    for inverse in ("ratio", "exact"):
        _, shared = sent(Soteria(1 - number / 40, inverse, layer="2"), model, x, y)
        assert torch.equal(shared.randomness["2.weight"], dead)
    _, shared = sent(Soteria(number / 40, layer="2", offset=0.1), model, x, y)
    assert torch.equal(~shared.randomness["2.weight"], dead), "as the published code does"


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_each_record_of_a_batch_is_pruned_in_its_own_gradient(reduction):
    model, x, y = convolutions(), torch.rand(4, 2, 12, 12), torch.tensor([0, 1, 1, 3])
    defense = Soteria(0.4)
    record, shared = sent(defense, model, x, y, reduction=reduction)
    alone = [sent(defense, model, x[i : i + 1], y[i : i + 1])[1] for i in range(4)]
    total = sum(one.record.gradients["8.weight"] for one in alone) / (4 if reduction == "mean" else 1)
    assert torch.allclose(shared.record.gradients["8.weight"], total, atol=1e-6)
    kept = shared.randomness["kept by each record"]
    assert torch.equal(kept, torch.stack([one.randomness["8.weight"] for one in alone]))
    assert len(kept.unique(dim=0)) > 1, "control: the records differ"
    assert not shared.record.gradients["8.weight"][:, ~kept.any(dim=0)].any()
    everyone = kept.all(dim=0)
    assert torch.equal(shared.record.gradients["8.weight"][:, everyone], record.gradients["8.weight"][:, everyone])


def test_together_all_records_share_the_columns_of_the_summed_scores_and_so_does_an_update():
    model, x, y = convolutions(), torch.rand(4, 2, 12, 12), torch.tensor([0, 1, 1, 3])
    record, shared = sent(Soteria(0.4, batch="together"), model, x, y)
    scores = Soteria().scores(model, x).sum(dim=0)
    kept = torch.ones(18, dtype=torch.bool).index_fill(0, scores.argsort()[:8], False)
    assert torch.equal(shared.randomness["8.weight"], kept)
    assert torch.equal(shared.record.gradients["8.weight"], record.gradients["8.weight"] * kept)
    update = dataclasses.replace(record, kind="update", local_steps=7, lr=0.1)
    other = Soteria(0.4).share(update, model=model, inputs=x, targets=y, generator=torch.Generator())
    assert torch.equal(other.record.gradients["8.weight"], record.gradients["8.weight"] * kept)


def test_of_a_linear_network_the_bound_is_what_brute_force_finds_and_met_in_the_worst_direction():
    with seeded(1):
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3)).double()
    x = torch.tensor([[0.3, 0.8]], dtype=torch.float64)
    defense = Soteria(0.5, layer="1")
    certificate = defense.certificate(model, x)
    _, shared = sent(defense, model, x, torch.tensor([1]))
    target = model[0](x)[0].detach() * shared.randomness["1.weight"]
    weight, bias = (parameter.detach() for parameter in model[0].parameters())
    nearest = torch.linalg.solve(weight, target - bias)  # the one record that agrees
    distance = float((nearest - x[0]).norm())
    assert float(certificate.first_order) <= distance
    assert float(certificate.certified) == pytest.approx(float(certificate.first_order))
    assert float(certificate.change) == pytest.approx(float((model[0](x)[0].detach() - target).norm()))
    sizes = torch.linalg.svdvals(weight)
    assert distance <= float(certificate.change / sizes[1]) + 1e-9
    assert float(certificate.slope) == pytest.approx(float(sizes[0]))


def test_no_record_that_agrees_is_nearer_than_certified_in_a_curved_network():
    with seeded(2):
        model = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 3)).double()
    model[0].weight.data.mul_(4)
    axis = torch.linspace(-4, 5, 361, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    answers = model[:2](grid).detach()
    nearer = 0
    for x in 4 * torch.rand(20, 1, 2, dtype=torch.float64) - 1.5:
        certificate = Soteria(0.5, layer="2").certificate(model, x)
        # any change of the representation as long as Soteria's is at least as far away as certified
        reached = (answers - model[:2](x).detach()).norm(dim=1) >= float(certificate.change)
        nearest = float((grid - x).norm(dim=1)[reached].min()) if reached.any() else math.inf
        assert float(certificate.certified) <= nearest + 1e-9
        nearer += nearest < float(certificate.first_order)
    assert nearer, "control: to first order alone, the bound is broken at some distance"


def test_the_lipschitz_bound_is_above_every_slope_and_close_for_one_convolution():
    model, x = convolutions(), torch.rand(8, 2, 12, 12)
    bound = lipschitz(model, "8", x)
    slopes = Soteria(0.5).certificate(model, x).slope
    assert 0 < float(slopes.max()) <= bound
    with seeded(0):
        convolution = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Flatten(), nn.Linear(5 * 64, 2)).double()
    matrix = torch.autograd.functional.jacobian(convolution[0], torch.zeros(1, 3, 8, 8, dtype=torch.float64))
    exact = float(torch.linalg.matrix_norm(matrix.view(5 * 64, 3 * 64), 2))
    assert exact <= lipschitz(convolution, "2", torch.zeros(1, 3, 8, 8)) <= 1.1 * exact


@pytest.mark.parametrize(
    ("layer", "training", "known"),
    [
        (nn.MaxPool2d(2), True, True),
        (nn.AvgPool2d(2), True, True),
        (nn.AvgPool2d(2, padding=1), True, False),
        (nn.AvgPool2d(2, ceil_mode=True), True, False),
        (nn.Dropout(0.5), False, True),
        (nn.Dropout(0.5), True, False),
    ],
    ids=str,
)
def test_a_layer_has_a_bound_only_where_it_stretches_nothing_more(layer, training, known):
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(4, 2)).train(training)
    apart = torch.eye(25).view(25, 1, 5, 5)  # one pixel each, at the border too
    largest = float(layer(apart).flatten(1).norm(dim=1).max())
    bound = lipschitz(model, "2", apart[:1], training=training)
    assert (bound is not None) == known
    assert not known or largest <= bound


def test_the_certificate_in_words_with_a_bound_and_without():
    model, x = convolutions(), torch.rand(2, 2, 12, 12)
    certificate = Soteria(0.4).certificate(model, x)
    assert f"{float(certificate.certified.min()):.3g}" in certificate.sentence
    assert "reads that layer alone" in certificate.sentence
    model[5] = nn.GELU()
    unbound = Soteria(0.4).certificate(model, x)
    assert unbound.certified is None
    assert "no bound" in unbound.sentence
    assert not Soteria(0.0).certificate(model, x).change.any(), "null: nothing pruned, nothing certified"


def test_what_it_cannot_defend_is_refused():
    model, x, y = convolutions(), torch.rand(2, 2, 12, 12), torch.tensor([0, 1])
    record = share(model, x, y)

    def refused(defense, message, *, of=model, given=record, inputs=x, targets=y):
        with pytest.raises(BadInputError, match=message):
            defense.share(given, model=of, inputs=inputs, targets=targets, generator=torch.Generator())

    refused(Soteria(layer="fc"), r"the name of a linear layer of the model, one of 10, 8, got 'fc'")
    refused(Soteria(layer="1"), r"got '1'")
    refused(Soteria(), "fully connected layer, got one without", of=nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten()))
    refused(
        Soteria(), "has no '8.weight' to prune", given=dataclasses.replace(record, gradients={"10.bias": torch.ones(4)})
    )
    refused(Soteria(), "the batch behind the record, got 0 records", inputs=x[:0], targets=y[:0])
    refused(Soteria(), "2 records and 1 targets", targets=y[:1])
    refused(Soteria(), "do not give the gradient in the record", targets=y.flip(0))
    wide = MLP((4,)).build((2, 6), 3, seed=0)
    sequence = nn.Sequential(nn.Linear(6, 5), nn.Flatten(), nn.Linear(10, 3))
    rows, labels = torch.rand(2, 2, 6), torch.tensor([0, 1])
    assert sent(Soteria(), wide, rows, labels)
    with pytest.raises(BadInputError, match="on one row for each of 2 records"):
        sent(Soteria(), sequence, rows, labels)


def test_entries_of_a_batch_pruned_record_by_record_are_not_to_be_believed():
    with seeded(0):
        model = MLP((30,)).build((12,), 4, seed=0)
    x, y = torch.rand(3, 12), torch.tensor([0, 1, 1])
    for batch, name in (("each", "3.weight"), ("together", "")):
        defense = Soteria(0.5, layer="3", batch=batch)
        known = defense.tampering(model)
        assert known.of_batch(1) == Tampering(zeros=True)
        assert known.of_batch(3).withheld == ((name,) if name else ())
        shared = sent(defense, model, x, y)[1]
        left = unexplained(shared.record, model, x, y, known.of_batch(3))
        assert left < 1e-6
        if batch == "each":
            assert unexplained(shared.record, model, x, y, Tampering(zeros=True)) > 1e-3
        found = InvertingGradients(steps=1, tv=0.0).run(
            shared.record, model, knowledge=Knowledge(defense=defense), generator=torch.Generator()
        )
        assert any(name in words for words in found.facts["adapted"])
