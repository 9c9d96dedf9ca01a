"""DP-SGD as a defense: what it trains, what it promises, and who else goes through it."""

import numpy as np
import pytest
import torch
from torch import nn

from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.train import Design, Training, shadow_steps, train
from divulge.data import Dataset
from divulge.defenses import DEFENSES, Defense
from divulge.defenses.dp_sgd import DpSgd
from divulge.errors import BadInputError
from divulge.models.cnn import CNN
from divulge.models.mlp import MLP
from divulge.privacy import accounting
from divulge.privacy.ledger import Ledger
from divulge.runs.engines import LocalEngine
from divulge.runs.graph import execute
from divulge.runs.step import Step
from divulge.runs.store import Store
from divulge.training import Privacy, Recipe, fit_private
from divulge.training.private.noise import Secret
from divulge.training.private.sampling import poisson

RECIPE = Recipe(epochs=3, batch_size=10, precision="float32")
DEFENSE = DpSgd(epsilon=4.0, delta=1e-3, noise_seed=1)


def records(n=40, width=5):
    generator = torch.Generator().manual_seed(0)
    return Dataset(torch.rand(n, width, generator=generator), torch.arange(n) % 3)


def same(model, other):
    return all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_the_network_it_trains_mixes_no_records():
    model = CNN((4, 4), hidden=8).build((1, 8, 8), 3, seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    private = DpSgd().architecture(model)
    assert not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in private.modules())
    assert sum(isinstance(layer, nn.GroupNorm) for layer in private.modules()) == 2
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    images = Dataset(torch.rand(20, 1, 8, 8), torch.arange(20) % 3)
    with pytest.raises(BadInputError, match="BatchNorm2d"):
        DEFENSE.train(model, images, RECIPE, seed=0)
    assert DEFENSE.train(private, images, RECIPE, seed=0).ledger.steps == 6


def test_it_trains_by_the_private_loop_and_hands_its_ledger_over():
    ours, theirs = (MLP((8,)).build((5,), 3, seed=0) for _ in range(2))
    epochs = []
    trained = DEFENSE.train(ours, records(), RECIPE, seed=2, validation=records(9), watch=epochs.append)
    privacy = Privacy(epsilon=4.0, delta=1e-3, noise_seed=1)
    private = fit_private(theirs, records(), RECIPE, privacy, seed=2)
    assert same(ours, theirs)
    assert repr(trained.history) == repr(private.history)  # NaN is not equal to itself
    assert trained.ledger == private.ledger
    assert epochs == [1, 2, 3]
    assert 3.9 < accounting.epsilon(trained.ledger, delta=1e-3).epsilon <= 4.0
    assert not DEFENSE.needs_validation


def test_other_defenses_promise_nothing():
    assert Defense().train(MLP((8,)).build((5,), 3, seed=0), records(), RECIPE, seed=0).ledger is None


@pytest.fixture
def corpus():
    return Corpus(records(60), {"members": np.arange(40), "population": np.arange(40, 60)})


def training(defense, **more):
    return Training(MLP((8,)), RECIPE, ("members",), ("members", "population"), seed=3, defense=defense, **more)


def test_the_ledger_travels_with_what_was_trained(corpus, tmp_path):
    store = Store(tmp_path)
    data = keep(corpus, store)
    steps = {
        "target": Step(train, training(DEFENSE), {"data": data}),
        "plain": Step(train, training(None), {"data": data}),
        "shadows": Step(train, training(DEFENSE, design=Design(0, 3)), {"data": data}),
        **shadow_steps(training(DEFENSE), data, like=corpus.data, count=2),
    }
    done = execute(list(steps.values()), store, engine=LocalEngine(1))
    facts = {name: done[step.key].facts for name, step in steps.items()}
    assert "ledger" not in facts["plain"]
    (ledger,) = map(Ledger.from_dict, facts["target"]["ledger"])
    assert (ledger.records, ledger.steps) == (40, 12)
    assert ledger.fixed_noise_seed
    assert [Ledger.from_dict(one).records for one in facts["shadows"]["ledger"]] == [20, 20, 20]
    assert len(facts["shadows-000"]["ledger"]) == 1, "a shadow goes through the same defense"
    weights = done[steps["target"].key].arrays
    model = MLP((8,)).build((5,), 3, seed=3)
    DEFENSE.train(model, corpus.data[:40], RECIPE, seed=3)
    assert np.array_equal(weights["weight/1.weight"], model.state_dict()["1.weight"].numpy())


def test_a_last_epoch_that_drew_no_record_has_no_loss_and_is_stored(corpus, tmp_path):
    seed = next(seed for seed in range(100) if len(poisson(40, 1 / 40, Secret(seed).at(39))) == 0)
    defense = DpSgd(noise_multiplier=1.0, steps=40, noise_seed=seed)
    settings = Training(MLP((8,)), Recipe(epochs=40, batch_size=1), ("members",), ("members",), seed=0, defense=defense)
    store = Store(tmp_path)
    step = Step(train, settings, {"data": keep(corpus, store)})
    assert execute([step], store, engine=LocalEngine(1))[step.key].facts["loss"] == [None]


def test_what_it_says_of_itself():
    assert DEFENSES.make({"name": "dp-sgd", "epsilon": 2.0, "clipping": "automatic"}) == DpSgd(
        epsilon=2.0, clipping="automatic"
    )
    with pytest.raises(BadInputError, match="the nearest is 'noise_multiplier'"):
        DEFENSES.make({"name": "dp-sgd", "noise_multiplyer": 2.0})
    with pytest.raises(BadInputError, match=r"setting 'clipping'.*'flat', 'automatic' or 'adaptive'"):
        DEFENSES.make({"name": "dp-sgd", "clipping": "layer"})
