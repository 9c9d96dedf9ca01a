import re

import numpy as np
import pytest
import torch
from torch import nn

import divulge
from divulge.auditing.recommenders import exchange as rooms
from divulge.auditing.recommenders.door import basket_defenses
from divulge.auditing.recommenders.evidence import gather
from divulge.auditing.recommenders.exchange import UserExchange, prepare
from divulge.auditing.recommenders.grading import grade
from divulge.auditing.recommenders.telling import audit
from divulge.data.interactions import as_interactions
from divulge.defenses.recommenders.base import BasketDefense
from divulge.errors import BadInputError
from divulge.models.multvae import MultVAE

ITEMS, USERS = 120, 40


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Attack as few users as still surely make half of all."""
    monkeypatch.setitem(rooms.PLANS, "quick", rooms.Plan("quick", users=8, tried=8, searched=0, steps=0))


def table(count: int = USERS, *, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    popular = torch.linspace(0.4, 0.01, ITEMS)
    owned = (torch.rand(count, ITEMS, generator=generator) < popular).float()
    owned[:, 0] = 1
    names = np.array([f"person {row}" for row in range(count)])
    return as_interactions(owned, users=names, items=np.arange(ITEMS))


def recommender() -> nn.Module:
    return MultVAE(hidden=16, code=4).build((ITEMS,), ITEMS, seed=0)


def exchange(*defenses: object, model: nn.Module | None = None, **settings) -> UserExchange:
    return prepare(model or recommender(), table(), budget="quick", defenses=basket_defenses(defenses), **settings)


def test_every_user_is_read_and_each_defense_has_its_adversaries():
    tried = exchange("fake-items", {"name": "user-dp", "noise_multiplier": 5.0}, {"name": "secure-sum", "users": 2})
    cases = {(case.defense.name, case.adversary): case for case in gather(tried)}
    every = ("blind", "adaptive", "oracle")
    assert set(cases) == {
        ("none", None),
        *(("fake-items", who) for who in every),
        *(("user-dp", who) for who in every),
        *(("secure-sum", who) for who in every[:2]),
    }
    bands = {key: grade(case, seed=0).band for key, case in cases.items()}
    assert bands["none", None] == 4
    assert bands["fake-items", "blind"] < 3 <= bands["fake-items", "adaptive"] <= bands["fake-items", "oracle"] == 4
    assert bands["user-dp", "blind"] == bands["user-dp", "adaptive"] == 0
    assert bands["user-dp", "oracle"] == 4
    assert cases["none", None].cosine == pytest.approx(1, abs=1e-4)
    assert 0.3 < cases["fake-items", "blind"].cosine.mean() < 0.99
    assert cases["user-dp", "blind"].cosine.mean() < 0.1
    controls = cases["none", None].best
    assert controls.metric("F1").mean() == 1
    assert 0.15 < controls.control("F1").mean() < 0.6
    assert controls.others[:, 2].mean() < 0.6


def test_a_report_says_who_breaks_what_and_what_noise_promises():
    facts = audit(exchange("fake-items", {"name": "user-dp", "noise_multiplier": 5.0}), command="x")
    assert facts.verdict.band == 4
    assert "those of all 8 users came out without an error" in facts.verdict.sentence
    assert "user-dp (noise_multiplier=5.0) left no more than the popularity" in facts.verdict.advice
    text = " ".join(block.text for section in facts.sections for block in section.blocks if block.kind == "text")
    assert "fake-items is broken by the adaptive adversary, who reaches an F1 of" in text
    assert "user-dp (noise_multiplier=5.0) was broken by none of the adversaries tried on 8 users" in text
    (promise,) = (section for section in facts.sections if section.title == "What epsilon promises")
    (ledger,) = promise.blocks
    assert [row[2] for row in ledger.rows] == [1, 10, 100]
    assert 0 < ledger.rows[0][4] < ledger.rows[2][4]
    assert facts.cards[0].finding.value == 1
    assert facts.cards[0].finding.control.value < 0.2
    assert len(facts.records["record"]) == 8
    assert facts.records["record"][0].startswith("person ")
    assert all(facts.records["whole basket"])


def test_a_declared_defense_is_what_the_verdict_is_about():
    broken = audit(exchange(defense=basket_defenses("fake-items")[0]), command="x")
    assert "under fake-items" in broken.verdict.sentence
    assert "(basket-rounds, by the adaptive adversary, who knows of it)" in broken.verdict.sentence
    assert broken.cards[0].finding.adversary == "adaptive"
    noisy = basket_defenses({"name": "user-dp", "noise_multiplier": 20.0})[0]
    held = audit(exchange(defense=noisy), command="x")
    assert held.verdict.band == 0
    assert "No attack tried here reads items" in held.verdict.sentence
    silent = [line for line in held.settings.values() if "user-dp" in line]
    assert silent == ["user-dp (noise_multiplier=20.0)"]


class Own(nn.Module):
    """A recommender as people write them: its own draw, and several answers."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Dropout(0.5), nn.Linear(ITEMS, 20), nn.Tanh())
        self.mean, self.spread = nn.Linear(20, 5), nn.Linear(20, 5)
        self.decode = nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, ITEMS))

    def forward(self, baskets):
        hidden = self.encode(nn.functional.normalize(baskets))
        mean, spread = self.mean(hidden), self.spread(hidden)
        code = mean + torch.randn_like(mean) * (spread / 2).exp() if self.training else mean
        return self.decode(code), mean, spread


def test_a_recommender_of_ones_own_is_audited_and_left_as_it_was():
    torch.manual_seed(0)
    model = Own().train()
    before, state = {key: value.clone() for key, value in model.state_dict().items()}, torch.get_rng_state()
    report = divulge.audit(model, members=table(), nonmembers=table(30, seed=1), access="gradients", budget="quick")
    assert report.facts.verdict.band == 4
    assert "Own" in report.facts.released
    assert any("30 other users" in line for line in report.facts.assumptions)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    page = report.html()
    assert "person " in page
    assert "Three baskets" in page


def test_searches_run_where_no_closed_form_claims_everything(monkeypatch):
    short = rooms.Plan("standard", users=3, tried=3, searched=2, steps=5)
    monkeypatch.setitem(rooms.PLANS, "standard", short)
    noisy = basket_defenses({"name": "user-dp", "noise_multiplier": 0.01})[0]
    tried = prepare(recommender(), table(), budget="standard", defense=noisy)
    plain, *under = gather(tried)
    assert not set(plain.tried) & {"basket-noise-restoring", "basket-inverting-gradients"}
    for case in under[:2]:
        assert len(case.tried["basket-inverting-gradients"].scores) == 2
        assert len(case.tried["basket-closed-form"].scores) == 3


class Strange(BasketDefense):
    name = "strange"

    def architecture(self, model):
        raise RuntimeError("out of paint")


def poisoned() -> nn.Module:
    model = recommender()
    with torch.no_grad():
        model[2].weight[0, 0] = torch.nan
    return model


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prepare(recommender(), table(), budget="huge"), "budget: expected one of quick"),
        (lambda: prepare(recommender(), table(), budget="quick", seed=-1), "seed: expected 0 or more"),
        (lambda: prepare("model", table(), budget="quick"), "a user shares the gradient of a torch module"),
        (lambda: prepare(nn.Tanh(), table(), budget="quick"), "a recommender with linear layers"),
        (lambda: exchange(model=nn.Linear(ITEMS, 3)), "expected a logit for each of 120 items"),
        (lambda: exchange(model=nn.Linear(ITEMS - 1, ITEMS - 1)), "numbered from 0 to 119"),
        (lambda: exchange(model=poisoned()), "holds NaN or infinity"),
        (lambda: exchange({"name": "secure-sum", "users": 50}), "adds up the updates of 50 users, and there are 8"),
        (lambda: exchange(Strange()), "raised RuntimeError under strange: out of paint"),
        (
            lambda: exchange(public=divulge.Dataset(torch.rand(4, ITEMS), torch.arange(4) % 2)),
            "a table of interactions",
        ),
        (lambda: basket_defenses("soteria"), "no basket-defenses called 'soteria'"),
        (lambda: basket_defenses(3), "those of a recommender's users"),
        (lambda: divulge.audit(recommender(), members=table()), "audited by the updates that users share"),
        (
            lambda: divulge.audit(recommender(), members=table(), access="gradients", training=True, logits=True),
            "logits, training: not used in the audit of a recommender",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(BadInputError, match=re.escape(message)):
        call()
