"""What `divulge.audit` says of drawings of classes: planted ones, nothing to show, labels alone, why none ran."""

import numpy as np
import pytest
import torch
from torch import nn

import divulge
from divulge.auditing.corpus import Corpus
from divulge.auditing.inversion_grade import Grade
from divulge.auditing.inversion_steps import held_out, labels_alone
from divulge.data import Dataset
from divulge.metrics import Estimate, Finding
from divulge.releases import Posteriors
from divulge.runs.engines import LocalEngine

QUESTION = "What does the model show of each class?"
CLASSES = 8


def pictures(count, *, seed=0, shape=(1, 8, 8), classes=CLASSES, shown=None):
    """Pictures of each class are its pattern and a little noise."""
    patterns = torch.rand(classes, *shape, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % (shown or classes)
    inputs = patterns[targets] * 0.8 + 0.2 * torch.rand(count, *shape, generator=generator)
    return Dataset(inputs, targets, classes=tuple("abcdefghij"[:classes]))


def templates(data):
    """A network that holds the mean of each class against a record."""
    flat = data.inputs.flatten(1) - 0.5
    means = torch.stack([flat[data.targets == one].mean(dim=0) for one in range(data.num_classes)])
    layer = nn.Linear(flat.shape[1], data.num_classes)
    with torch.no_grad():
        layer.weight.copy_(means * 3)
        layer.bias.copy_(-1.5 * means.square().sum(dim=1) - 1.5 * means.sum(dim=1))
    return nn.Sequential(nn.Flatten(), layer)


MEMBERS, OTHERS = pictures(80), pictures(160, seed=1)


def audited(model, tmp_path, *, members=MEMBERS, nonmembers=OTHERS, **settings):
    settings = {"budget": "quick", "run_dir": tmp_path / "run", "engine": LocalEngine(1), **settings}
    return divulge.audit(model, members=members, nonmembers=nonmembers, **settings).facts


def card(facts):
    (found,) = (one for one in facts.cards if one.question == QUESTION)
    return found


def section(facts):
    (found,) = (one for one in facts.sections if one.title == "What the model shows of each class")
    return found


@pytest.mark.parametrize("access", ["posteriors", "weights"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 9)], ids=["gray", "color, wide"])
def test_planted_classes_are_recognized_and_what_could_be_guessed_anyway_is_told(access, shape, tmp_path):
    members, others = pictures(80, shape=shape), pictures(160, seed=1, shape=shape)
    facts = audited(templates(members), tmp_path, members=members, nonmembers=others, access=access)
    found = card(facts)
    assert found.band is not None
    assert found.band >= 1
    assert found.finding.n == CLASSES
    assert found.finding.low > found.finding.control.value >= 1 / CLASSES
    assert "recognized by pictures that it never saw" in found.sentence
    assert "can draw it without the model" in found.sentence
    gallery, table = section(facts).blocks[:2]
    assert len(gallery.tiles) == CLASSES
    assert all(len(tile.images) == 4 for tile in gallery.tiles)
    drawn = [row[0] for row in table.rows]
    assert ("mi-face" in drawn) is (access == "weights")
    assert drawn[-2:] == ["the mean training picture itself", "without the model: mean of outsiders"]


def test_an_untrained_model_shows_nothing_and_is_handed_back_as_it_was(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, CLASSES)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    facts = audited(model, tmp_path, access="weights")
    assert card(facts).band == 0
    assert "Drawings of what the model takes" in card(facts).sentence or "may be luck" in card(facts).sentence
    assert all(one.training for one in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_queries_are_counted_and_stay_within_the_budget(tmp_path):
    model, seen = templates(MEMBERS), []

    def answer(records):
        seen.append(len(records))
        with torch.no_grad():
            return model(torch.from_numpy(records)).softmax(1).numpy()

    facts = audited(answer, tmp_path, query_budget=3_000)
    told = int(card(facts).needed["queries"].replace(",", ""))
    assert 0 < told <= 3_000 - 240
    assert sum(seen) <= 3_000
    assert len(section(facts).blocks[0].tiles) == CLASSES


def test_somebody_elses_model_is_asked_no_more_than_twice_as_much_unless_told_so(tmp_path):
    model, seen = templates(MEMBERS), []

    def answer(records):
        seen.append(len(records))
        with torch.no_grad():
            return model(torch.from_numpy(records)).softmax(1).numpy()

    facts = audited(answer, tmp_path)
    assert card(facts).finding is None
    assert "--query-budget" in card(facts).sentence
    assert sum(seen) < 300


def test_a_model_that_answers_labels_alone_is_asked_along_the_border(tmp_path):
    model = templates(MEMBERS)

    def answer(records):
        with torch.no_grad():
            return np.eye(CLASSES, dtype=np.float32)[model(torch.from_numpy(records)).argmax(1).numpy()]

    facts = audited(answer, tmp_path, query_budget=6_000)
    assert card(facts).finding is not None
    assert any("labels alone" in getattr(block, "text", "") for block in section(facts).blocks)


def test_labels_alone_are_told_from_posteriors_by_blends():
    corpus = Corpus(OTHERS, {"members": np.arange(10), "nonmembers": np.arange(10, 160)})
    model = templates(MEMBERS)
    soft = Posteriors(lambda x: model(x).detach(), classes=CLASSES, logits=True)
    hard = Posteriors(lambda x: nn.functional.one_hot(model(x).argmax(1), CLASSES).double(), classes=CLASSES)
    assert not labels_alone(soft, corpus, seed=0)
    assert labels_alone(hard, corpus, seed=0)


def test_what_the_adversary_has_and_what_names_the_drawings_are_disjoint():
    for parts in (
        {"members": np.arange(10), "nonmembers": np.arange(10, 100)},
        {"members": np.arange(10), "nonmembers": np.arange(10, 100), "population": np.arange(100, 160)},
    ):
        public, photographs = held_out(Corpus(OTHERS, parts), seed=0)
        assert len(public) >= 20
        assert not set(public.hashes()) & set(photographs.hashes())
        assert not set(photographs.hashes()) & set(OTHERS[:10].hashes())


def test_a_class_that_was_never_trained_or_never_held_out_is_not_drawn(tmp_path):
    facts = audited(templates(MEMBERS), tmp_path, nonmembers=pictures(120, seed=1, shown=5))
    assert card(facts).finding.n == 5
    assert any("3 of 8 classes were not drawn" in getattr(one, "text", "") for one in section(facts).blocks)


def test_a_model_that_breaks_on_drawings_keeps_the_rest_of_the_audit(tmp_path):
    model = templates(MEMBERS)

    def answer(records):
        with torch.no_grad():
            told = model(torch.from_numpy(records)).softmax(1).numpy()
        told[records.reshape(len(records), -1).min(axis=1) <= 0] = np.nan
        return told

    facts = audited(answer, tmp_path, query_budget=6_000)
    assert card(facts).finding is None
    assert "NaN" in card(facts).sentence
    assert facts.verdict.sentence


TABLE = Dataset(torch.rand(200, 6), torch.arange(200) % 2)
REASONS = {
    "a table": ({"members": TABLE[:60], "nonmembers": TABLE[60:]}, 6, "no pictures"),
    "one class held out": ({"nonmembers": pictures(60, seed=1, shown=1)}, 64, "show 1 of the classes"),
}


@pytest.mark.parametrize("case", REASONS)
def test_why_none_was_drawn(case, tmp_path):
    given, width, reason = REASONS[case]
    classes = given.get("members", MEMBERS).num_classes
    facts = audited(nn.Sequential(nn.Flatten(), nn.Linear(width, classes)), tmp_path, **given)
    assert card(facts).finding is None
    assert reason in card(facts).sentence


def share(value, low, high, *, control=None):
    return Finding("classes named", value, low, high, n=20, control=control)


GUESS, MEANS = share(0.1, 0.0, 0.3), share(0.6, 0.4, 0.8)
BANDS = {
    "no better than the control": (share(0.2, 0.05, 0.4, control=GUESS), MEANS, 0.9, 0),
    "as good as without the model": (share(0.7, 0.5, 0.9, control=GUESS), MEANS, 0.2, 1),
    "better than without the model": (share(0.9, 0.7, 0.99, control=GUESS), MEANS, 0.2, 2),
    "training pictures, as good as without the model": (share(0.7, 0.5, 0.9, control=GUESS), MEANS, 0.7, 2),
    "training pictures, better than without the model": (share(0.9, 0.7, 0.99, control=GUESS), MEANS, 0.7, 3),
    "nobody could draw them otherwise": (share(0.7, 0.5, 0.9, control=GUESS), None, 0.2, 2),
}


@pytest.mark.parametrize("case", BANDS)
def test_a_band_counts_what_exceeds_the_control_and_what_could_be_drawn_anyway(case):
    named, anyway, nearer, band = BANDS[case]
    beyond = Estimate(0.5, 0.3, 0.7)
    assert Grade((0,) * 20, named, beyond, 1.0, Estimate(nearer, nearer, nearer), anyway).band == band
