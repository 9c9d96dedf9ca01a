"""Fast forms against slow ones: per-example loops, double loops, scipy, scikit-learn and torch."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import log_loss

from divulge.attacks import ATTACKS
from divulge.attacks.membership import Signals, View, perceptron
from divulge.attacks.membership.bayes import Base
from divulge.attacks.membership.calibrated import Calibrated
from divulge.attacks.membership.lira import Lira
from divulge.attacks.membership.ml_leaks import MlLeaks
from divulge.attacks.membership.quantile import QuantileRegression
from divulge.attacks.membership.rmia import Rmia
from divulge.attacks.membership.thresholds import ModifiedEntropy
from divulge.metrics import auc


def softmax(logits):
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def view(make_view):
    """40 candidates, 50 of the population, 6 shadow models that each also skip some records."""
    view, _ = make_view(leak=2.0, n=40, population=50, shadows=6)
    members = view.candidates.members.copy()
    members[0, :10] = False
    return dataclasses.replace(view, candidates=dataclasses.replace(view.candidates, members=members))


def sides(signals):
    """The target's confidence and the shadow models' inside and outside, one record at a time."""
    for i in range(len(signals)):
        values, inside = signals.shadow_confidence[i], signals.members[:, i]
        yield signals.confidence[i], values[inside], values[~inside]


def test_lira_per_example(view):
    expected = [
        stats.norm.logpdf(own, inside.mean(), inside.std(ddof=1))
        - stats.norm.logpdf(own, outside.mean(), outside.std(ddof=1))
        for own, inside, outside in sides(view.candidates)
    ]
    evidence = Lira(variance="example", mode="online").run(view)
    np.testing.assert_allclose(evidence.scores, expected, rtol=1e-9)
    np.testing.assert_array_equal(evidence.decisions, np.array(expected) > 0)


def test_lira_global_and_offline(view):
    parts = list(sides(view.candidates))

    def pooled(side):
        return np.sqrt(
            sum(((p[side] - p[side].mean()) ** 2).sum() for p in parts) / sum(len(p[side]) - 1 for p in parts)
        )

    expected = [
        stats.norm.logpdf(p[0], p[1].mean(), pooled(1)) - stats.norm.logpdf(p[0], p[2].mean(), pooled(2)) for p in parts
    ]
    np.testing.assert_allclose(Lira(variance="global").run(view).scores, expected, rtol=1e-9)
    np.testing.assert_allclose(Lira().run(view).scores, expected, rtol=1e-9)
    tail = [stats.norm.logcdf(p[0], p[2].mean(), p[2].std(ddof=1)) for p in parts]
    offline = Lira(mode="offline", variance="example").run(view).scores
    np.testing.assert_allclose(stats.norm.logcdf(offline), tail, rtol=1e-9)


def test_calibrated_and_attack_r(view):
    parts = list(sides(view.candidates))
    expected = [own - outside.mean() for own, _, outside in parts]
    np.testing.assert_allclose(Calibrated().run(view).scores, expected)
    np.testing.assert_allclose(
        ATTACKS.make("attack-r").run(view).scores, [(outside < own).mean() for own, _, outside in parts]
    )


@pytest.mark.parametrize("mode", ["online", "offline"])
@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_rmia_is_the_double_loop(view, mode, gamma):
    a = 0.3

    def ratio(signals, i):
        p = softmax(np.concatenate([signals.shadows, signals.target[None]]))[:, i, signals.labels[i]]
        inside = signals.members[:, i]
        if mode == "online":
            return p[-1] / ((p[:-1][inside].mean() + p[:-1][~inside].mean()) / 2)
        return p[-1] / (((1 + a) * p[:-1][~inside].mean() + (1 - a)) / 2)

    own = [ratio(view.candidates, i) for i in range(40)]
    others = [ratio(view.population, i) for i in range(50)]
    beaten = np.array([sum(x / z >= gamma for z in others) for x in own])
    scores = Rmia(mode=mode, gamma=gamma).run(view).scores
    np.testing.assert_array_equal(np.floor(scores * 51 + 1e-9), beaten)
    np.testing.assert_array_equal(np.argsort(scores), np.argsort(own))


def test_rmia_with_one_reference_fills_in_what_was_never_outside(view):
    members = np.ones((1, 40), dtype=bool)
    members[0, 20:] = False
    some = view.candidates
    one = dataclasses.replace(some, shadows=some.shadows[:1], members=members)
    p, own = (softmax(t)[np.arange(40), some.labels] for t in (some.shadows[0], some.target))
    out = np.where(members[0], np.maximum((p + 0.3 - 1) / 0.3, 0), p)
    expected = np.log(own / ((1.3 * out + 0.7) / 2))
    np.testing.assert_allclose(Rmia().log_ratios(one, online=False), expected, rtol=1e-9)


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_base_is_a_log_mean_exp(view, mode):
    some = view.candidates
    log_p = np.log(softmax(np.concatenate([some.shadows, some.target[None]]) / 2))
    expected = []
    for i in range(40):
        own, inside = log_p[:, i, some.labels[i]], some.members[:, i]
        means = [np.log(np.exp(own[:-1][side]).mean()) for side in (inside, ~inside)]
        expected.append(own[-1] - (np.log(np.exp(means).mean()) if mode == "online" else 0.33 * means[1]))
    np.testing.assert_allclose(Base(mode=mode).run(view).scores, expected, rtol=1e-9)


def test_loss_and_entropies(view):
    some = view.candidates
    p, rows = softmax(some.target), np.arange(40)
    own = p[rows, some.labels]
    losses = [-log_loss([label], [row], labels=range(4)) for label, row in zip(some.labels, p, strict=True)]
    np.testing.assert_allclose(ATTACKS.make("loss").run(view).scores, losses)
    np.testing.assert_allclose(ATTACKS.make("entropy").run(view).scores, -stats.entropy(p, axis=1))
    np.testing.assert_allclose(ATTACKS.make("confidence").run(view).scores, np.log(p.max(1) / (1 - p.max(1))))
    others = np.array([[q for j, q in enumerate(row) if j != label] for label, row in zip(some.labels, p, strict=True)])
    expected = (1 - own) * np.log(own) + (others * np.log(1 - others)).sum(axis=1)
    np.testing.assert_allclose(ATTACKS.make("modified-entropy").run(view).scores, expected)


def test_thresholds_per_class_are_the_shadow_models_best():
    labels = np.repeat([0, 1], 4)
    levels = np.array([5.0, 4, 1, 0, 15, 14, 11, 10])  # class 1 is easier: one threshold for both cannot be right
    members = np.array([[True, True, False, False] * 2])
    logits = np.stack([np.where(labels == 0, levels, 0), np.where(labels == 1, levels, 0)], axis=1) / 2
    view = View(Signals(labels, logits, logits[None], members))
    split = ATTACKS.make({"name": "confidence", "posterior": "true", "per_class": True}).run(view)
    np.testing.assert_array_equal(split.decisions, members[0])
    np.testing.assert_allclose(split.scores, np.where(labels == 0, levels - 2.5, levels - 12.5) / 2)
    assert (ATTACKS.make({"name": "confidence", "posterior": "true"}).run(view).decisions != members[0]).any()


def test_class_the_shadow_model_lacks_gets_the_threshold_for_all(make_view):
    view, _ = make_view(leak=4.0)
    some = view.candidates
    keep = some.labels != 2
    known = Signals(some.labels[keep], None, some.shadows[:, keep], some.members[:, keep])
    with_classes = ModifiedEntropy(per_class=True).run(View(some, shadowed=known))
    overall = ModifiedEntropy().run(View(some, shadowed=known))
    np.testing.assert_array_equal(with_classes.decisions[~keep], overall.decisions[~keep])


def test_perceptron_takes_the_steps_of_torch():
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(30, 5)), rng.random(30) < 0.5
    arguments = {"hidden": 7, "learning_rate": 0.02, "decay": 0.9, "weight_decay": 0.01, "seed": 4}
    start = perceptron.fit(features, targets, epochs=0, **arguments)
    end = perceptron.fit(features, targets, epochs=6, batch_size=30, **arguments)
    weights = [torch.tensor(part, requires_grad=True) for part in start]
    optimizer = torch.optim.Adam(weights, lr=0.02, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    x, y = torch.tensor(features), torch.tensor(targets, dtype=torch.float64)
    for _ in range(6):
        active = torch.relu(x @ weights[0][:-1] + weights[0][-1])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            (active @ weights[1][:-1] + weights[1][-1])[:, 0], y
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    for ours, theirs in zip(end, weights, strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-6, atol=1e-9)


def test_gaussian_gradient_is_that_of_the_likelihood():
    outputs, targets = np.random.default_rng(0).normal(size=(2, 9, 2))[0], np.linspace(-2, 2, 9)
    place = torch.tensor(outputs, requires_grad=True)
    torch.distributions.Normal(place[:, 0], place[:, 1].exp()).log_prob(torch.tensor(targets)).sum().neg().backward()
    np.testing.assert_allclose(perceptron.gaussian(outputs, targets), place.grad.numpy())


def test_ml_leaks_reads_only_the_largest_posteriors_and_reports_its_training(make_view):
    view, truth = make_view(leak=5.0, classes=6, n=400)
    attack = MlLeaks(posteriors=3, epochs=5)
    evidence = attack.run(view)
    order = np.array([3, 1, 0, 5, 4, 2])
    some = view.candidates
    renamed = Signals(np.argsort(order)[some.labels], some.target[:, order], some.shadows[..., order], some.members)
    np.testing.assert_allclose(attack.run(View(renamed)).scores, evidence.scores, rtol=1e-9)
    assert 0.6 < evidence.facts["train_accuracy"] <= 1
    assert evidence.facts["train_accuracy"] == pytest.approx((evidence.decisions == truth).mean(), abs=0.1)


def test_shokri_learns_what_is_particular_to_a_class():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=800)
    members = rng.random((2, 800)) < 0.5
    truth = rng.random(800) < 0.5
    logits = rng.normal(size=(3, 800, 2))
    surer = np.concatenate([members, truth[None]]) ^ (labels == 1)  # class 1's members are less sure: no one rule fits
    logits[:, np.arange(800), labels] += np.where(surer, 4.0, 0.0)
    view = View(Signals(labels, logits[2], logits[:2], members))
    assert auc(ATTACKS.make("shokri").run(view).scores, truth).low > 0.9
    assert auc(ATTACKS.make("loss").run(view).scores, truth).high < 0.6


def test_quantile_regression_expects_what_the_record_shows():
    rng = np.random.default_rng(0)

    def signals(n, members):
        inputs = rng.normal(size=(n, 3)).astype(np.float32)
        logits = np.zeros((n, 2))
        logits[:, 0] = 4 * inputs[:, 0] + 3 * members + rng.normal(size=n) * np.exp(inputs[:, 1] / 2)
        return Signals(np.zeros(n, dtype=np.int64), logits, inputs=inputs)

    truth = rng.random(2000) < 0.5
    view = View(signals(2000, truth), signals(4000, np.zeros(4000)))
    evidence = QuantileRegression(fpr=0.1).run(view)
    assert evidence.decisions[~truth].mean() == pytest.approx(0.1, abs=0.03)
    assert auc(evidence.scores, truth).low > auc(ATTACKS.make("loss").run(view).scores, truth).high + 0.1
