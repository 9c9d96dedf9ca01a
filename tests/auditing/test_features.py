"""Features computed once: a corpus of tables that every other step takes for any other."""

import numpy as np
import pytest
import torch

from divulge.auditing.corpus import Corpus, keep, opened
from divulge.auditing.features import featurize, on_features
from divulge.auditing.train import Training, train
from divulge.data import Dataset, load
from divulge.models import MODELS
from divulge.runs.engines import LocalEngine
from divulge.runs.graph import execute
from divulge.runs.step import Context, Step
from divulge.runs.store import Store
from divulge.training import Recipe

LINEAR = MODELS["scattering-linear"]()


@pytest.fixture(scope="module")
def corpus():
    digits = load("digits")
    rows = np.random.default_rng(0).permutation(len(digits))
    labelled = Dataset(
        digits.inputs, digits.targets, attributes={"odd": digits.targets % 2}, classes=digits.classes, name="digits"
    )
    return Corpus(labelled, {"train": rows[:900], "test": rows[900:1300]})


def test_the_corpus_of_features_has_the_same_parts_labels_and_attributes(corpus, tmp_path):
    store = Store(tmp_path)
    data = keep(corpus, store)
    _, step = on_features(LINEAR, data, shape=corpus.data.shape)
    heard = []
    done = featurize(step.settings, {"data": store.read(data.key)}, Context({}, heard.append))
    assert done.arrays["inputs"].dtype == np.float16
    assert heard == sorted(heard)
    assert heard[-1] == 1
    store.write(step, done, 0.0)
    records, features = opened(store.read(data.key), ["test", "train"]), opened(store.read(step.key), ["test", "train"])
    assert torch.equal(features.data.targets, records.data.targets)
    assert torch.equal(features.data.attributes["odd"], records.data.attributes["odd"])
    assert all(np.array_equal(features.parts[name], records.parts[name]) for name in records.parts)
    expected = LINEAR.features(corpus.data.shape)(records.data.inputs)
    assert features.data.inputs.dtype == torch.float32
    assert torch.allclose(features.data.inputs, expected, rtol=1e-3, atol=1e-4)


def test_a_head_trained_on_features_classifies_digits(corpus, tmp_path):
    store = Store(tmp_path)
    head, records = on_features(LINEAR, keep(corpus, store), shape=corpus.data.shape)
    recipe = Recipe(epochs=10, batch_size=64, lr=3e-3, precision="float32")
    step = Step(train, Training(head, recipe, ("train",), ("test",), seed=0), {"data": records})
    result = execute([step], store, engine=LocalEngine(1))[step.key]
    right = result.arrays["logits"][0].argmax(axis=1) == result.arrays["labels"]
    assert right.mean() > 0.93
    assert [kept.function for kept in store.steps()].count("divulge.auditing.features:featurize") == 1


def test_families_share_features_unless_their_features_differ(corpus, tmp_path):
    data = keep(corpus, Store(tmp_path))

    def key(name, **settings):
        return on_features(MODELS[name](**settings), data, shape=corpus.data.shape)[1].key

    assert key("scattering-linear") == key("scattering-cnn") == key("scattering-cnn", channels=(8,), hidden=())
    others = [{"scales": 1}, {"angles": 4}, {"norm_groups": None}, {"mirror": True}, {"pool": 2}]
    assert len({key("scattering-linear", **each) for each in [{}, *others]}) == 6


def test_a_family_all_of_which_learns_takes_the_records_themselves(corpus, tmp_path):
    data, family = keep(corpus, Store(tmp_path)), MODELS["mlp"]()
    assert on_features(family, data, shape=corpus.data.shape) == (family, data)
