import numpy as np
import pytest

from divulge.errors import BadInputError
from divulge.metrics import (
    benjamini_hochberg,
    conformal_p_values,
    positive_predictive_value,
    score_membership,
    tpr_at_fpr,
)


def evidence(seed, n, shift):
    rng = np.random.default_rng(seed)
    members = np.arange(n) < n // 2
    return rng.normal(size=n) + shift * members, members


def test_rates_that_too_few_nonmembers_cannot_show_are_left_out():
    assert [name for name in score_membership(*evidence(0, 4000, 1.0)) if name.startswith("TPR")] == [
        "TPR at 10% FPR",
        "TPR at 1% FPR",
        "TPR at 0.1% FPR",
    ]
    assert "TPR at 0.01% FPR" in score_membership(*evidence(0, 20000, 1.0))


def test_findings_carry_interval_count_and_control():
    scores, members = evidence(0, 400, 1.5)
    null, truth = evidence(1, 300, 0.0)
    found = score_membership(
        scores, members, decisions=scores > 0.7, control=(null, truth, null > 0.7), adversary="blind"
    )
    assert list(found) == [
        "AUC",
        "balanced accuracy",
        "TPR at 10% FPR",
        "TPR at 1% FPR",
        "accuracy",
        "macro precision",
        "macro recall",
        "macro F1",
    ]
    for name, finding in found.items():
        assert finding.metric == name
        assert finding.low <= finding.value <= finding.high
        assert (finding.n, finding.control.n, finding.adversary) == (400, 300, "blind")
        assert finding.control.control is None
    assert found["AUC"].low > 0.8
    assert found["AUC"].control.low < 0.5 < found["AUC"].control.high
    estimate = tpr_at_fpr(scores, members, fpr=0.01)
    assert (found["TPR at 1% FPR"].value, found["TPR at 1% FPR"].high) == (estimate.value, estimate.high)


def test_without_control_or_decisions():
    found = score_membership(*evidence(0, 100, 1.0))
    assert "accuracy" not in found
    assert all(finding.control is None for finding in found.values())


def test_conformal_p_values_are_valid():
    rng = np.random.default_rng(0)
    p_values = np.concatenate([conformal_p_values(rng.normal(size=50), rng.normal(size=99)) for _ in range(200)])
    for level in (0.01, 0.05, 0.1, 0.5):
        assert (p_values <= level).mean() == pytest.approx(level, abs=0.01)


def test_flagged_records_keep_the_false_discovery_rate():
    rng = np.random.default_rng(0)
    shares, found = [], 0
    for _ in range(200):
        scores, members = rng.normal(size=200), np.arange(200) < 60
        scores[members] += 3
        flagged = benjamini_hochberg(conformal_p_values(scores, rng.normal(size=500)), rate=0.1)
        shares.append((flagged & ~members).sum() / max(flagged.sum(), 1))
        found += (flagged & members).sum()
    assert np.mean(shares) < 0.1
    assert found / 200 > 30


def test_benjamini_hochberg_agrees_with_scipy():
    from scipy.stats import false_discovery_control

    rng = np.random.default_rng(0)
    for _ in range(20):
        p_values = rng.random(40) ** rng.integers(1, 5)
        assert (benjamini_hochberg(p_values, rate=0.1) == (false_discovery_control(p_values) <= 0.1)).all()


def test_predictive_value_is_the_share_in_a_simulation():
    rng = np.random.default_rng(0)
    members = rng.random(200_000) < 0.1
    flagged = rng.random(200_000) < np.where(members, 0.6, 0.02)
    assert positive_predictive_value(0.6, 0.02, prior=0.1) == pytest.approx(members[flagged].mean(), abs=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: positive_predictive_value(0.0, 0.0, prior=0.5), "some record flagged"),
        (lambda: positive_predictive_value(0.5, 0.1, prior=1.0), "prior in"),
        (lambda: benjamini_hochberg(np.array([0.5, 1.5])), "0 to 1"),
        (lambda: score_membership(np.zeros(3), np.ones(3, dtype=bool)), "3 members of 3"),
        (lambda: score_membership(np.zeros(4), np.arange(4) < 2, decisions=np.zeros(3)), "one shape"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BadInputError, match=message):
        call()
