"""The verdict: how often it errs where nothing is to be found, and what it says."""

from dataclasses import replace

import numpy as np
import pytest
from audit_specimens import records

from divulge.attacks import ATTACKS
from divulge.auditing import words
from divulge.auditing.exposure import blocks, columns, grouped, histogram, threshold
from divulge.auditing.facts import Histogram, Point
from divulge.auditing.grid import _recommended
from divulge.auditing.telling import Evidence, Tried, headline
from divulge.metrics import Estimate, Finding, auc, tpr_at_fpr, tpr_metric

LOSS = ATTACKS["loss"]()


def scored(scores, truth):
    """The findings that a verdict looks at."""
    rate = words.headline_rate(int((~truth).sum()))
    caught = tpr_at_fpr(scores, truth, fpr=rate)
    return {
        "AUC": Finding("AUC", *auc(scores, truth), n=len(truth)),
        tpr_metric(rate): Finding(tpr_metric(rate), *caught, n=len(truth)),
    }


def evidence(scores, truth, *, nulls=None):
    """Evidence of as many attacks as there are rows of scores."""
    tried = []
    for index, row in enumerate(scores):
        null = None if nulls is None else nulls[index]
        controls = {} if null is None else scored(null, truth)
        findings = {name: replace(one, control=controls.get(name)) for name, one in scored(row, truth).items()}
        tried.append(Tried(LOSS, row, null, findings, 0.1))
    return Evidence(tuple(tried), {}, truth, {}, 4, "", posing=False, outside=None)


@pytest.mark.parametrize(
    ("members", "nonmembers", "controlled"), [(2000, 200, False), (60, 60, False), (150, 150, True)]
)
def test_where_nothing_is_to_be_found_nothing_is_in_95_of_100_audits(members, nonmembers, controlled):
    truth = np.arange(members + nonmembers) < members
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(60):
        scores = rng.normal(size=(3, len(truth)))
        nulls = rng.normal(size=scores.shape) if controlled else None
        wrong += headline(evidence(scores, truth, nulls=nulls)).band > 0
    assert wrong <= 7  # 3 expected at most; 8 or more have a chance of 1 in 100


@pytest.mark.parametrize(("shift", "band"), [(0.5, 2), (1.5, 3), (6.0, 4)])
def test_a_leak_is_found_and_graded(shift, band):
    truth = np.arange(2000) < 1000
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2, 2000)) + shift * truth
    head = headline(evidence(scores, truth, nulls=rng.normal(size=scores.shape)))
    assert head.band == band
    assert head.doubt == ""


def test_few_records_caught_surely_count_even_where_the_auc_says_nothing():
    truth = np.arange(4000) < 2000
    scores = np.random.default_rng(0).normal(size=(1, 4000))
    scores[0, :60] += 8  # 3 of every 100 members stand far out
    head = headline(evidence(scores, truth))
    assert head.rate == 0.01
    assert head.tpr.value >= 0.03
    assert head.band == 1


def test_what_a_model_that_never_saw_the_records_finds_as_well_is_not_held_against_the_target():
    truth = np.arange(1000) < 500
    rng = np.random.default_rng(0)
    kind = rng.normal(size=1000) + truth  # the records themselves differ
    scores = (kind + 0.3 * rng.normal(size=1000))[None]
    nulls = (kind + 0.3 * rng.normal(size=1000))[None]
    head = headline(evidence(scores, truth, nulls=nulls))
    assert (head.band, head.doubt) == (0, "kind")
    said = words.sentence(0, auc=head.auc, rate=head.rate, tpr=head.tpr, doubt=head.doubt)
    assert "differ in kind" in said
    assert "better than guessing" not in said
    # beyond that, what the target adds counts, difference or not
    assert headline(evidence(scores + truth, truth, nulls=nulls)).band == 3


def test_luck_with_few_records_is_called_luck():
    truth = np.arange(80) < 40
    rng = np.random.default_rng(3)
    scores = (rng.normal(size=80) + 0.8 * truth)[None]
    nulls = (rng.normal(size=80) + 0.3 * truth)[None]
    head = headline(evidence(scores, truth, nulls=nulls))
    assert (head.band, head.doubt) == (0, "few")
    assert "may be luck" in words.sentence(0, auc=head.auc, rate=head.rate, tpr=head.tpr, doubt="few")
    assert "more members" in words.advice(0, "few", gap=0, shadows=4, trainable=True, budget="quick", alike=True)


def test_perfect_attacks_on_few_records_are_not_called_exact():
    truth = np.arange(24) < 12
    head = headline(evidence(truth.astype(float)[None], truth))
    assert head.band == 3, "24 records cannot show an AUC of 0.99"
    assert head.auc.value == 1


@pytest.mark.parametrize(
    ("nonmembers", "rate"), [(9, None), (10, 0.1), (99, 0.1), (999, 0.1), (1000, 0.01), (10_000, 0.001)]
)
def test_the_rate_of_the_headline_has_ten_outsiders_behind_it_where_that_can_be(nonmembers, rate):
    assert words.headline_rate(nonmembers) == rate


def test_chance_covers_where_the_outsiders_put_the_threshold():
    """The true false positive rate at the threshold that 10 of 1,000 outsiders exceed is Beta(11, 990)."""
    rng = np.random.default_rng(0)
    limit = words.chance(0.01, 1000, confidence=0.95)
    true_rates = np.sort(rng.random((4000, 1000)), axis=1)[:, 10]  # of uniform scores, lowest first
    assert 0.97 < (true_rates < limit).mean() < 0.98


ADVICE = {
    "quick finds nothing": ({"level": 0, "shadows": 0, "budget": "quick"}, "budget standard"),
    "answers alone, nothing": ({"level": 0, "shadows": 0, "trainable": False}, "Audit the model itself"),
    "standard finds nothing": ({"level": 0}, "budget thorough"),
    "thorough finds nothing": ({"level": 0, "budget": "thorough"}, "differential privacy"),
    "a gap": ({"level": 3, "gap": 0.3}, "30 points more accurate"),
    "no gap": ({"level": 2, "gap": 0.02}, "stopping earlier will not help"),
    "not alike": ({"level": 3, "gap": 0.3, "alike": False}, "drawn as the members were"),
    "in doubt": ({"level": 0, "doubt": "kind"}, "drawn as the members were"),
}


@pytest.mark.parametrize("case", ADVICE)
def test_advice_can_be_followed(case):
    settings, expected = ADVICE[case]
    plain = {"doubt": "", "gap": 0.0, "shadows": 4, "trainable": True, "budget": "standard", "alike": True}
    values = {**plain, **settings}
    said = words.advice(values.pop("level"), values.pop("doubt"), **values)
    assert expected in said
    assert "thorough" not in said or values["budget"] != "thorough"
    assert "--" not in said, "the same words are read by people who call Python"


def test_sentences_of_findings():
    area = Estimate(0.712, 0.65, 0.77)
    assert words.sentence(2, auc=area, rate=0.1, tpr=None, doubt="") == (
        "Shown one training record and one outsider, someone who can query this model picks the training record "
        "71 of every 100 times. A guess without the model would be right 50 times."
    )
    assert words.sentence(3, auc=area, rate=0.001, tpr=Estimate(0.31, 0.3, 0.32), doubt="") == (
        "Someone who can query this model can pick out about 31 of every 100 training records while wrongly accusing "
        "1 in 1,000 outsiders. A guess without the model would catch 1 of every 1,000."
    )


class TestExposure:
    def test_at_most_the_rate_of_the_outsiders_is_flagged_whatever_the_ties(self):
        members = np.arange(60) < 30
        for scores in (np.arange(60.0), np.zeros(60), np.repeat([0.0, 1.0], 30), np.repeat([1.0, 0.0], 30)):
            for rate in (0.001, 0.1, 0.5, 1.0):
                flagged = scores > threshold(scores, members, rate=rate)
                assert flagged[~members].mean() <= rate

    @pytest.mark.parametrize("scale", [0.0, 1e-300, 1e-12, 1.0, 1e12, 1e17, -1e17])
    @pytest.mark.parametrize("spread", [0.0, 1e-13, 1.0])
    def test_a_histogram_can_be_drawn_of_any_scores(self, scale, spread):
        scores = scale + spread * np.arange(40.0)
        drawn = histogram(scores, np.arange(40) < 20)
        assert isinstance(drawn, Histogram)
        assert [sum(counts) for counts in drawn.groups.values()] == [20, 20]

    def test_groups_have_their_names_and_many_values_fall_into_ranges(self):
        names, groups = grouped(np.array([2, 0, 2]), ("no", "yes", "unknown"))
        assert (names, groups.tolist()) == (["no", "yes", "unknown"], [2, 0, 2])
        names, groups = grouped(np.array([1.5, 0.0, 1.5]), ())
        assert (names, groups.tolist()) == (["0", "1.5"], [1, 0, 1])
        ages = np.random.default_rng(0).integers(1, 90, size=500)
        names, groups = grouped(ages, ())
        assert len(names) == 5
        for group, name in enumerate(names):
            low, high = (float(edge) for edge in name.split(" to "))
            assert (ages[groups == group].min(), ages[groups == group].max()) == (low, high)
        skewed = np.array([0.0] * 400 + list(range(1, 101)))
        names, groups = grouped(skewed, ())
        assert len(names) == np.bincount(groups).size
        assert np.bincount(groups).min() > 0

    def test_attributes_are_shown_by_name_and_hostile_names_stay_text(self):
        import torch

        data = records(
            40,
            attributes={"sex": torch.arange(40) % 2, "age": torch.rand(40), "one": torch.zeros(40)},
            attribute_classes={"sex": ("f", "<b>m</b>")},
            ids=tuple(f"=cmd()|{row}\n<script>" for row in range(40)),
        )
        members = np.arange(40) < 20
        told = blocks(data, np.random.default_rng(0).normal(size=40), members, rate=0.1, pictures=True)
        titles = {block.title: block for block in told}
        assert set(titles["By sex"].labels) == {"f", "<b>m</b>"}
        assert len(titles["By age"].labels) == 5
        assert "By one" not in titles
        assert columns(data, np.zeros(40), members)["record"][0] == "=cmd()|0\n<script>"


def point(name, label, x, y):
    return Point(name, label, x, x, x, y, y - 0.05, y + 0.05)


@pytest.mark.parametrize(
    ("defended", "chosen"),
    [
        ([("a", "blind", 0.9, 0.5), ("a", "adaptive", 0.9, 0.6)], "a"),
        ([("a", "blind", 0.9, 0.5), ("a", "adaptive", 0.9, 0.7)], ""),  # only fools who does not know it
        ([("a", "blind", 0.5, 0.5), ("a", "adaptive", 0.5, 0.5)], ""),  # costs too much
        ([("a", "blind", 0.9, 0.695), ("a", "adaptive", 0.9, 0.695)], ""),  # buys nothing to speak of
        ([("a", "adaptive", 0.9, 0.6), ("b", "adaptive", 0.895, 0.55)], "b"),
        ([("anew", "none", 0.9, 0.6), ("trained", "adaptive", 0.9, 0.6)], ""),  # the recipe's doing, not the defense's
        ([("anew", "none", 0.9, 0.6), ("trained", "adaptive", 0.9, 0.55)], "trained"),
    ],
)
def test_a_defense_is_recommended_by_its_worst_adversary_and_only_if_it_buys_something(defended, chosen):
    points = [point("none", "none", 0.9, 0.7), *(point(*row) for row in defended)]
    baselines = {"none": "none", "a": "none", "b": "none", "anew": "anew", "trained": "anew"}
    assert _recommended(points, baselines) == chosen
