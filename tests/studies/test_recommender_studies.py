import numpy as np
import pytest
import torch

from divulge.attacks.recommenders.closed_form import BasketClosedForm
from divulge.attacks.recommenders.rounds import BasketRounds
from divulge.attacks.recommenders.search import BasketInvertingGradients
from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.recommender import (
    METRICS,
    BasketAttempt,
    Fitting,
    attack_baskets,
    fit,
    guesses,
    scored,
)
from divulge.data.interactions import as_interactions
from divulge.defenses.recommenders.base import Undefended
from divulge.defenses.recommenders.bottleneck import BasketBottleneck
from divulge.defenses.recommenders.fake_items import FakeItems
from divulge.defenses.recommenders.sampled_negatives import SampledNegatives
from divulge.errors import BadInputError
from divulge.models.multvae import MultVAE
from divulge.runs.engines import LocalEngine
from divulge.runs.graph import execute
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store
from divulge.studies import listed, open_study
from divulge.studies.recommender import Case, RecommenderStudy, Tried, apart
from divulge.training.recommender import RecommenderFederation

SMALL = MultVAE(hidden=12, code=4)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def corpus() -> Corpus:
    generator = torch.Generator().manual_seed(0)
    table = (torch.rand(50, 40, generator=generator) < 0.25).float()
    table[:, 0] = 1
    parts = {"train": np.arange(30), "validation": np.arange(30, 40), "test": np.arange(40, 50)}
    return Corpus(as_interactions(table, users=np.arange(50), items=np.arange(40)), parts)


@pytest.mark.parametrize("defense", [Undefended(), BasketBottleneck(width=3), SampledNegatives()])
def test_a_recommender_is_trained_and_its_users_read(store, defense):
    data = keep(corpus(), store)
    target = Step(fit, Fitting(SMALL, defense, RecommenderFederation(epochs=2, users=10), 0), {"data": data})
    steps = [data, target]
    for trained in (False, True):
        attempt = BasketAttempt(SMALL, defense, BasketClosedForm(), 8, "adaptive", 0, trained)
        inputs = {"data": data, "target": target} if trained else {"data": data}
        steps.append(Step(attack_baskets, attempt, inputs))
    done = execute(steps, store, engine=LocalEngine(workers=1))
    fitted = done[target.key]
    assert len(fitted.facts["loss"]) == 2
    assert len(fitted.arrays["NDCG@100"]) == len(fitted.arrays["control/NDCG@100"])
    for step in steps[2:]:
        found = done[step.key]
        for metric in METRICS:
            np.testing.assert_allclose(found.arrays[f"truth/{metric}"], np.ones(8))
            assert np.asarray(found.arrays[f"control/{metric}"]).mean() < 0.7
        assert found.facts["exact"] == 8


@pytest.mark.parametrize("adversary", ["blind", "adaptive", "oracle"])
def test_who_knows_the_fakes_leaves_them_out_and_who_knows_of_them_sees_them_change(store, adversary):
    data = keep(corpus(), store)
    once, twice = (
        Step(attack_baskets, BasketAttempt(SMALL, FakeItems(), attack, 8, adversary, 0, False), {"data": data})
        for attack in (BasketClosedForm(), BasketRounds(6))
    )
    done = execute([once, twice], store, engine=LocalEngine(workers=1))
    single, several = (float(np.mean(done[step.key].arrays["truth/precision"])) for step in (once, twice))
    if adversary == "oracle":
        assert (single, several) == (1, 1)
    else:
        assert single < 0.7
        assert several > 0.9
    assert done[once.key].facts["exact"] == (0 if adversary == "adaptive" else 8)


def test_guesses_name_as_many_items_as_there_are():
    truth = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 1]]).bool()
    public = torch.tensor([[1.0, 1, 0, 0], [1, 0, 1, 0]])
    told = guesses(truth, public, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(told["popular"][:, 0], [1, 0])  # of two equally popular items the first is taken
    np.testing.assert_allclose(told["random"][:, 0], told["random"][:, 1])


def test_a_search_is_scored_user_by_user_where_nothing_is_drawn(store):
    data = keep(corpus(), store)
    attack = BasketInvertingGradients(steps=150, lr=0.05, at_once=3)
    step = Step(
        attack_baskets, BasketAttempt(SMALL, Undefended(), attack, 4, None, 0, False, drawn=False), {"data": data}
    )
    found = execute([step], store, engine=LocalEngine(workers=1))[step.key]
    np.testing.assert_allclose(found.arrays["truth/F1"], np.ones(4))
    assert found.facts["exact"] == 0


def test_sets_are_matched_to_users_and_a_single_one_to_their_union():
    truth = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 0]]).bool()
    swapped = scored(truth.flip(0), truth.flip(0).float(), truth)
    np.testing.assert_allclose(swapped, np.ones((2, 6)))
    union = torch.tensor([[1, 1, 0, 1]]).bool()
    (row,) = scored(union, union.float(), truth)
    assert dict(zip(METRICS, row, strict=True)) == pytest.approx(
        {
            "precision": 2 / 3,
            "recall": 2 / 3,
            "F1": 2 / 3,
            "R-precision": 2 / 3,
            "average precision": (2 / 3 + 2 / 3 + 3 / 4) / 3,
            "whole baskets": 0,
        }
    )
    nothing = scored(torch.zeros(2, 4).bool(), torch.zeros(2, 4), truth)
    assert (nothing[:, :3] == 0).all()


@pytest.mark.parametrize("name", [name for name in listed() if name.startswith("fedvae-")])
@pytest.mark.parametrize("scale", ["quick", "standard", "full"])
def test_shipped_studies_open(name, scale):
    study = open_study(name, scale=scale)
    assert isinstance(study, RecommenderStudy)
    assert scale == "quick" or study.victims >= 100


def test_victims_that_do_not_go_into_groups_are_refused():
    case = Case("sum", (Tried("basket-separation"),), {"name": "secure-sum", "users": 8})
    with pytest.raises(BadInputError, match="groups of 8, got 12"):
        RecommenderStudy("title", "source", data="steam", cases=(case,), victims=12)


def test_users_of_one_sum_count_as_one_record():
    summed = Artifact({"precision": np.array([1.0, 1.0, 0.0, 1.0]), "union": np.array([1.0, 0.0])}, {"records": 2})
    assert apart(summed, "precision", 2).tolist() == [1.0, 0.5]
    assert apart(summed, "union", 2).tolist() == [1.0, 0.0]


def test_as_many_users_take_part_in_a_noisy_sum_as_share_its_noise():
    case = Case("noisy sum", (), {"name": "user-dp", "noise_multiplier": 1.0, "users": 256})
    study = RecommenderStudy("title", "source", data="steam", cases=(case,), victims=256)
    federation = study._federation(study._defense(case))
    assert (federation.users, federation.sampling) == (256, "poisson")
    assert federation.sharing.std * 256**0.5 == pytest.approx(1.0)
