import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn import metrics as oracle

from divulge.errors import BadInputError
from divulge.metrics import auc, auc_difference, balanced_accuracy, clopper_pearson, roc_curve, thinned, tpr_at_fpr
from divulge.metrics.roc import best_threshold

STEADY = settings(deadline=None, max_examples=50)


def binormal(rng, shift, inside, outside):
    scores = np.concatenate([rng.normal(shift, size=inside), rng.normal(size=outside)])
    return scores, np.arange(inside + outside) < inside


@st.composite
def evidence(draw):
    """Scores with many ties, and a truth with both values."""
    n = draw(st.integers(4, 40))
    scores = np.array(draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n)), dtype=float)
    members = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    members[:4] = [True, True, False, False]
    return scores, members


@STEADY
@given(evidence())
def test_roc_and_auc_agree_with_scikit_learn(given_evidence):
    scores, members = given_evidence
    fpr, tpr, thresholds = oracle.roc_curve(members, scores, drop_intermediate=False)
    roc = roc_curve(scores, members)
    np.testing.assert_allclose(roc.fpr, fpr)
    np.testing.assert_allclose(roc.tpr, tpr)
    np.testing.assert_allclose(roc.thresholds, thresholds)
    estimate = auc(scores, members)
    assert estimate.value == pytest.approx(oracle.roc_auc_score(members, scores))
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def components(scores, members):
    inside, outside = scores[members], scores[~members]
    wins = np.array([[(a > b) + (a == b) / 2 for b in outside] for a in inside])
    return wins.mean(axis=1), wins.mean(axis=0)


@STEADY
@given(evidence())
def test_auc_interval_is_delongs(given_evidence):
    scores, members = given_evidence
    by_member, by_nonmember = components(scores, members)
    area = by_member.mean()
    error = np.sqrt(by_member.var(ddof=1) / len(by_member) + by_nonmember.var(ddof=1) / len(by_nonmember))
    estimate = auc(scores, members)
    if error > 0 and 0 < area < 1:
        odds = np.log(area / (1 - area)) + np.array([-1, 1]) * norm.ppf(0.975) * error / (area * (1 - area))
        np.testing.assert_allclose(estimate[1:], 1 / (1 + np.exp(-odds)), rtol=1e-9)
    else:
        pairs = min(members.sum(), (~members).sum())
        np.testing.assert_allclose(estimate[1:], clopper_pearson(area * pairs, pairs))


@pytest.mark.parametrize(("shift", "inside", "outside"), [(0.0, 40, 60), (1.0, 60, 60), (2.5, 80, 40)])
def test_auc_interval_covers_in_95_percent(shift, inside, outside):
    rng = np.random.default_rng(0)
    truth = norm.cdf(shift / np.sqrt(2))
    hits = 0
    for _ in range(800):
        estimate = auc(*binormal(rng, shift, inside, outside))
        hits += estimate.low <= truth <= estimate.high
    assert 0.93 <= hits / 800 <= 0.98


def test_auc_at_its_ends_stays_unsure():
    members = np.arange(40) < 20
    for area in (auc(np.where(members, 1.0, 0.0), members), auc(np.where(members, 0.0, 1.0), members)):
        assert area.value in (0, 1)
        assert 0.1 < area.high - area.low < 0.2
    same = auc(np.zeros(40), members)
    assert same.value == 0.5
    assert same.low < 0.35
    assert same.high > 0.65


@STEADY
@given(evidence(), st.integers(0, 10**6))
def test_auc_difference_is_delongs(given_evidence, seed):
    first, members = given_evidence
    second = np.random.default_rng(seed).integers(-2, 3, size=len(first)).astype(float)
    gaps = [one - two for one, two in zip(components(first, members), components(second, members), strict=True)]
    error = np.sqrt(sum(gap.var(ddof=1) / len(gap) for gap in gaps))
    difference = auc_difference(first, second, members)
    assert difference.value == pytest.approx(auc(first, members).value - auc(second, members).value)
    assert difference.high - difference.low == pytest.approx(2 * norm.ppf(0.975) * error)


def test_auc_difference_of_equally_good_scores_covers_zero():
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(500):
        shared, members = binormal(rng, 1.0, 60, 60)
        first, second = (shared + rng.normal(size=120) for _ in range(2))
        low, high = auc_difference(first, second, members)[1:]
        hits += low <= 0 <= high
    assert 0.93 <= hits / 500 <= 0.98


@STEADY
@given(evidence(), st.floats(0, 1))
def test_tpr_at_fpr_is_the_best_threshold_that_keeps_the_rate(given_evidence, fpr):
    scores, members = given_evidence
    estimate = tpr_at_fpr(scores, members, fpr=fpr)
    nonmembers = (~members).sum()
    if fpr * nonmembers < 1 - 1e-9:
        assert estimate is None
        return
    allowed = [(scores[members] >= t).mean() for t in [*scores, np.inf] if (scores[~members] >= t).mean() <= fpr + 1e-9]
    assert estimate.value == max(allowed)
    np.testing.assert_allclose(estimate[1:], clopper_pearson(max(allowed) * members.sum(), members.sum()))


def test_tpr_is_refused_where_the_nonmembers_are_too_few():
    scores, members = binormal(np.random.default_rng(0), 1.0, 50, 1000)
    assert tpr_at_fpr(scores, members, fpr=0.001) is not None
    assert tpr_at_fpr(scores[:-1], members[:-1], fpr=0.001) is None


def test_thinned_curve_lies_on_the_curve():
    roc = roc_curve(*binormal(np.random.default_rng(0), 1.0, 3000, 3000))
    band = thinned(roc, points=50)
    assert len(band.fpr) <= 50
    assert band.fpr[0] == 1 / 3000
    assert band.fpr[-1] == band.tpr[-1] == 1
    for fpr, tpr in zip(band.fpr, band.tpr, strict=True):
        assert tpr == roc.tpr[roc.fpr <= fpr + 1e-12].max()
    assert (band.low <= band.tpr).all()
    assert (band.tpr <= band.high).all()


def test_balanced_accuracy_without_signal_is_not_optimistic():
    rng = np.random.default_rng(0)
    values, hits = [], 0
    for trial in range(300):
        estimate = balanced_accuracy(*binormal(rng, 0.0, 60, 60), seed=trial)
        values.append(estimate.value)
        hits += estimate.low <= 0.5 <= estimate.high
    assert np.mean(values) == pytest.approx(0.5, abs=0.015)
    assert hits / 300 > 0.9


def test_balanced_accuracy_finds_the_optimum_of_a_strong_score_and_repeats():
    scores, members = binormal(np.random.default_rng(0), 2.0, 4000, 4000)
    one = balanced_accuracy(scores, members, seed=5)
    assert one == balanced_accuracy(scores, members, seed=5)
    flagged = scores >= 1.0  # the true optimum, halfway between the two means
    assert one.low < (flagged[members].mean() + (~flagged)[~members].mean()) / 2 < one.high


@STEADY
@given(evidence())
def test_best_threshold_beats_all_others(given_evidence):
    scores, members = given_evidence

    def gain(threshold):
        return (scores[members] >= threshold).mean() - (scores[~members] >= threshold).mean()

    best = best_threshold(scores, members)
    assert np.isfinite(best)
    assert gain(best) == pytest.approx(max(gain(t) for t in [*scores, np.inf]))


@pytest.mark.parametrize(
    ("scores", "members", "message"),
    [
        ([1.0, 2.0], [True], "one shape"),
        ([[1.0, 2.0]], [[True, False]], "one shape"),
        ([1.0, np.nan], [True, False], "1 NaN"),
        ([1.0, np.inf], [True, False], "finite"),
        ([1.0, 2.0], [True, True], "2 members of 2"),
        ([1.0, 2.0], [False, False], "0 members of 2"),
        ([1.0, 2.0], [1, 2], "true or false"),
        ([], [], "0 members of 0"),
    ],
)
def test_bad_input(scores, members, message):
    for metric in (roc_curve, auc, best_threshold, balanced_accuracy):
        with pytest.raises(BadInputError, match=message):
            metric(np.array(scores), np.array(members))


def test_more_bad_input():
    members = np.array([True, False])
    with pytest.raises(BadInputError, match="rate from 0 to 1"):
        tpr_at_fpr(np.zeros(2), members, fpr=1.5)
    with pytest.raises(BadInputError, match="two members"):
        balanced_accuracy(np.zeros(2), members)
    assert roc_curve(np.array([1.0, 2.0]), np.array([0, 1])).members == 1
