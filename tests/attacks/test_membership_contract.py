import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from divulge.attacks import ATTACKS
from divulge.attacks.membership import MembershipAttack, Signals, View, assignment, scaled_confidence
from divulge.attacks.membership.lira import Lira
from divulge.attacks.membership.moments import Moments, masked_moments, pooled_variance
from divulge.attacks.membership.rmia import Rmia
from divulge.attacks.membership.shadow_training import ShadowTraining
from divulge.attacks.membership.shrinkage import Shrinkage
from divulge.errors import BadInputError

STEADY = settings(deadline=None, max_examples=50)


def test_scaled_confidence_is_log_odds_and_survives_extremes():
    logits = np.random.default_rng(0).normal(size=(3, 5, 4), scale=3)
    labels = np.array([0, 3, 1, 1, 2])
    p = np.take_along_axis(
        np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), np.broadcast_to(labels[:, None], (3, 5, 1)), -1
    )[..., 0]
    np.testing.assert_allclose(scaled_confidence(logits, labels), np.log(p / (1 - p)), rtol=1e-9)
    assert scaled_confidence(np.array([[900.0, 0.0]]), np.array([0]))[0] == 900
    assert scaled_confidence(np.array([[900.0, 0.0]]), np.array([1]))[0] == -900


@STEADY
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 6))
def test_masked_moments_are_those_of_each_row(seed, n, s):
    rng = np.random.default_rng(seed)
    values, mask = 1e3 + rng.normal(size=(n, s)), rng.random((n, s)) < 0.6
    moments = masked_moments(values, mask)
    more = rng.normal(size=n)
    extended = moments.plus(more)
    for i in range(n):
        row = values[i, mask[i]]
        assert moments.count[i] == len(row)
        if len(row):
            assert moments.mean[i] == pytest.approx(row.mean())
            assert moments.squares[i] == pytest.approx(((row - row.mean()) ** 2).sum(), abs=1e-6)
        longer = np.append(row, more[i])
        assert extended.mean[i] == pytest.approx(longer.mean())
        assert extended.squares[i] == pytest.approx(((longer - longer.mean()) ** 2).sum(), abs=1e-6)


def test_pooled_variance_falls_back_on_what_there_is():
    rng = np.random.default_rng(0)
    within = masked_moments(
        rng.normal(scale=2, size=(5000, 3)) + rng.normal(scale=9, size=(5000, 1)), np.full((5000, 3), 1)
    )
    assert pooled_variance(within) == pytest.approx(4, rel=0.05)
    between = masked_moments(rng.normal(scale=3, size=(5000, 1)), np.full((5000, 1), 1))
    assert pooled_variance(between) == pytest.approx(9, rel=0.05)
    assert pooled_variance(Moments.empty(3)) == 0


@STEADY
@given(st.integers(2, 41), st.integers(0, 6), st.integers(0, 5), st.booleans())
def test_assignment_is_balanced_and_prefix_stable(n, pairs, seed, stratified):
    labels = np.arange(n) % 3 if stratified else None
    design = assignment(n, 2 * pairs, seed=seed, stratify=labels)
    assert design.shape == (2 * pairs, n)
    assert (design.sum(axis=0) == pairs).all()
    assert np.isin(design.sum(axis=1), (n // 2, (n + 1) // 2)).all()
    if stratified:
        for label in range(3):
            own = labels == label
            assert (np.abs(design[:, own].sum(axis=1) - own.sum() / 2) <= 0.5).all()
    longer = assignment(n, 2 * pairs + 4, seed=seed, stratify=labels)
    np.testing.assert_array_equal(longer[: 2 * pairs], design)


def test_assignment_differs_between_pairs_and_seeds_and_is_fair():
    design = assignment(101, 2000, seed=0)
    assert not (design[0] == design[2]).all()
    assert not (design == assignment(101, 2000, seed=1)).all()
    firsts = design[::2].mean(axis=0)
    assert np.abs(firsts - 0.5).max() < 0.07
    together = (design[::2, 0] & design[::2, 1]).mean()
    assert together == pytest.approx(0.25, abs=0.04)


def bare(n=4, classes=3, **more):
    return Signals(np.zeros(n, dtype=np.int64), np.zeros((n, classes)), **more)


SHADOWED = {
    "shadows": np.zeros((2, 4, 3)),
    "members": np.array([[True, True, False, False], [False, False, True, True]]),
}


@pytest.mark.parametrize(
    ("attack", "view", "reason"),
    [
        ("lira", View(bare()), "shadow models that were asked"),
        (
            {"name": "lira", "mode": "online"},
            View(bare(**SHADOWED | {"members": np.zeros((2, 4), bool)})),
            "every candidate",
        ),
        ({"name": "entropy", "per_class": True}, View(bare()), "inside and outside its training set"),
        (
            "ml-leaks",
            View(bare(**SHADOWED | {"members": np.ones((2, 4), bool)})),
            "inside and outside its training set",
        ),
        ("attack-p", View(bare()), "known not to be members"),
        ("attack-p", View(bare(), bare(0)), "known not to be members"),
        ("rmia", View(bare(**SHADOWED), bare()), "asked about the population"),
        ("quantile-regression", View(bare(), bare()), "records themselves"),
        ("loss", View(dataclasses.replace(bare(), target=None)), "never asked"),
        ("confidence", View(dataclasses.replace(bare(), target=None)), "never asked"),
    ],
)
def test_what_a_view_lacks_is_said(attack, view, reason):
    made = ATTACKS.make(attack)
    with pytest.raises(BadInputError, match=reason):
        made.run(view)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: assignment(10, 3, seed=0), "even count"),
        (lambda: assignment(10, -2, seed=0), "even count"),
        (lambda: assignment(1, 2, seed=0), "two records"),
        (lambda: assignment(5, 2, seed=0, stratify=np.zeros(4)), "one label"),
        (lambda: Rmia(a=0.0), "0 < a <= 1"),
        (lambda: Rmia(gamma=0.0), "gamma > 0"),
        (lambda: Shrinkage(kappa=0.1), "both above 0"),
        (lambda: Shrinkage(kappa=-1.0, nu=4.0), "both above 0"),
        (lambda: ATTACKS.make({"name": "base", "temperature": 0.0}), "positive temperature"),
        (lambda: ATTACKS.make({"name": "attack-p", "fpr": 1.0}), r"fpr in \(0, 1\)"),
        (lambda: ATTACKS.make({"name": "ml-leaks", "posteriors": 0}), "1 or more"),
        (lambda: ATTACKS.make({"name": "shokri", "epochs": 0}), "epochs of 1 or more"),
        (lambda: ATTACKS.make({"name": "quantile-regression", "components": 0}), "positive sizes"),
        (lambda: ATTACKS.make({"name": "lira", "mode": "sideways"}), "mode"),
        (lambda: bare(**SHADOWED | {"members": np.zeros((3, 4), bool)}), "one for each shadow and record"),
        (lambda: bare(shadows=np.zeros((2, 4, 3))), "come together"),
        (lambda: Signals(np.zeros(3), np.zeros((4, 2))), r"target logits \(3, classes\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BadInputError, match=message):
        call()


def test_scores_that_are_not_numbers_are_refused():
    @dataclasses.dataclass(frozen=True)
    class Broken(MembershipAttack):
        name = "broken"

        def score(self, view, *, seed):
            return np.array([0.0, np.nan, 1.0, np.inf])

    with pytest.raises(BadInputError, match="2 not finite"):
        Broken().run(View(bare()))


def test_the_first_shadows_must_show_both_sides(make_view):
    view, _ = make_view(leak=1.0)
    members = view.candidates.members.copy()
    members[:1] = False
    one_sided = View(dataclasses.replace(view.candidates, members=members))
    with pytest.raises(BadInputError, match="got one side only"):
        ATTACKS.make({"name": "ml-leaks", "shadows": 1}).run(one_sided)


def test_every_attack_names_its_source_and_its_settings():
    for name, cls in ATTACKS.kind_of(MembershipAttack).items():
        assert cls.name == name
        assert "arXiv" in cls.source
        assert cls().label == name
    assert Lira(mode="offline", variance="global").label == "lira (mode=offline, variance=global)"
    assert not ShadowTraining.name
