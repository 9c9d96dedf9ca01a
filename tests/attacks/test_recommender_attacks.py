import copy
import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from divulge.attacks import ATTACKS
from divulge.attacks.knowledge import Knowledge
from divulge.attacks.recommenders import RecommenderAttack, search
from divulge.attacks.recommenders.closed_form import BasketClosedForm
from divulge.attacks.recommenders.rounds import BasketRounds
from divulge.attacks.recommenders.search import BasketInvertingGradients, BasketNoiseRestoring
from divulge.attacks.recommenders.separation import BasketSeparation
from divulge.attacks.recommenders.signs import EncoderColumns, OutputBias
from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.models.multvae import MultVAE
from divulge.models.stochastic import draw_noise
from divulge.releases import share
from divulge.releases.baskets import BasketSharing, share_baskets

ITEMS = 60


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def recommender(items: int = ITEMS, *, bias: float = 0.0, **settings) -> nn.Module:
    model = MultVAE(hidden=24, code=8, **settings).build((items,), items, seed=0)
    if bias:
        with torch.no_grad():
            model[-1].bias.normal_(std=bias, generator=seed(1))
    return model


def users(count: int, items: int = ITEMS, rate: float = 0.15) -> torch.Tensor:
    table = (torch.rand(count, items, generator=seed(2)) < rate).float()
    table[torch.arange(count), torch.arange(count) % items] = 1
    return table


def test_the_closed_form_is_the_only_basket_that_gives_the_gradient():
    model, noise = recommender(6, bias=2.0).double(), None
    every = torch.tensor([row for row in itertools.product((0.0, 1.0), repeat=6) if any(row)], dtype=torch.float64)
    for truth in every[[4, 20, 40, 61]]:
        noise = draw_noise(model, truth[None], generator=seed())
        record = share_baskets(model, truth[None], noise=noise)
        errors = []
        for guess in every:
            replayed = share_baskets(model, guess[None], noise=noise).gradients
            errors.append(sum((replayed[name] - one).norm() for name, one in record.gradients.items()))
        (brute,) = (torch.stack(errors) < 1e-9).nonzero()
        found = BasketClosedForm().run(record, model, generator=seed())
        assert torch.equal(found.items[0, 0], every[int(brute)] > 0)
        assert torch.equal(found.items[0, 0], truth > 0)


@pytest.mark.parametrize("bias", [0.0, 3.0], ids=["even", "skewed popularity"])
@pytest.mark.parametrize("sharing", [BasketSharing(), BasketSharing(clip=0.1), BasketSharing(negatives=2)])
@pytest.mark.parametrize("output_bias", [True, False])
def test_every_basket_is_read_whatever_was_drawn(bias, sharing, output_bias):
    if bias and not output_bias:
        bias = 0.0
    model, baskets = recommender(bias=bias, output_bias=output_bias), users(20)
    records = [sharing.share(model, one[None], generator=seed(n))[0] for n, one in enumerate(baskets)]
    found = BasketClosedForm().run(records, model, knowledge=Knowledge(defense=sharing), generator=seed())
    assert torch.equal(found.items[:, 0], baskets > 0)
    assert found.exact
    assert found.matching.max() < 1e-4
    assert found.facts["sizes"] == baskets.sum(dim=1).int().tolist()


def test_the_rules_of_thumb_miss_what_they_must():
    model, baskets = recommender(bias=3.0), users(20)
    records = [share_baskets(model, one[None], seed=n) for n, one in enumerate(baskets)]
    signs = OutputBias().run(records, model, generator=seed()).items[:, 0]
    columns = EncoderColumns().run(records, model, generator=seed()).items[:, 0]
    for found in (signs, columns):
        assert not (found & (baskets == 0)).any()
        assert 0.2 < (found & (baskets > 0)).sum() / baskets.sum() < 0.97
    plain = recommender()
    records = [share_baskets(plain, one[None], seed=n) for n, one in enumerate(baskets)]
    assert torch.equal(OutputBias().run(records, plain, generator=seed()).items[:, 0], baskets > 0)
    for n, one in enumerate(baskets):
        mask = draw_noise(plain, one[None], generator=seed(n))["1.noise"]
        assert torch.equal(columns[n], (one * mask[0]) > 0)


def test_nothing_is_found_in_what_depends_on_no_basket():
    model, baskets = recommender(), users(30)
    records = [share_baskets(model, one[None]) for one in baskets.roll(1, dims=0)]
    found = BasketClosedForm().run(records, model, generator=seed()).items[:, 0]
    overlap = (found & (baskets > 0)).sum(dim=1) / found.sum(dim=1)
    assert overlap.mean() < 0.35  # what two users share anyway
    noise = {name: torch.randn(one.shape, generator=seed()) for name, one in records[0].gradients.items()}
    silent = replace(records[0], gradients=noise)
    guess = BasketClosedForm().run(silent, model, generator=seed())
    assert guess.matching > 0.5


def test_an_adaptive_adversary_reads_through_noise_better_than_a_blind_one():
    sharing = BasketSharing(clip=1.0, noise_multiplier=0.02)
    model, baskets = recommender(200), users(20, 200, rate=0.05)
    records = [sharing.share(model, one[None], generator=seed(n))[0] for n, one in enumerate(baskets)]
    scores = {}
    for adversary, knowledge in (("blind", Knowledge()), ("adaptive", Knowledge(defense=sharing))):
        found = BasketClosedForm().run(records, model, knowledge=knowledge, generator=seed())
        common = (found.items[:, 0] & (baskets > 0)).sum(dim=1)
        scores[adversary] = float((2 * common / (found.items[:, 0].sum(dim=1) + baskets.sum(dim=1))).mean())
        assert not found.exact
    assert scores["adaptive"] > scores["blind"] + 0.1


def test_a_gradient_of_noise_claims_nothing_and_one_that_is_known_is_taken_back():
    sharing = BasketSharing(clip=1.0, noise_multiplier=1.0, fakes=0.5)
    model, baskets = recommender(200), users(6, 200, rate=0.05)
    shared = [sharing.share(model, one[None], generator=seed(n)) for n, one in enumerate(baskets)]
    records, drawn = [record for record, _ in shared], [one for _, one in shared]
    blind = BasketClosedForm().run(records, model, generator=seed())
    assert not blind.exact
    oracle = Knowledge(defense=sharing, randomness=drawn)
    found = BasketClosedForm().run(records, model, knowledge=oracle, generator=seed())
    assert torch.equal(found.items[:, 0], baskets > 0)
    for wrong in (Knowledge(defense=sharing, randomness=drawn[:2]), Knowledge(randomness=drawn)):
        with pytest.raises(BadInputError, match="expected the defense and what it drew for each of 6 records"):
            BasketClosedForm().run(records, model, knowledge=wrong, generator=seed())


@pytest.mark.parametrize("output_bias", [True, False])
def test_rounds_average_the_noise_down(output_bias):
    sharing = BasketSharing(clip=1.0, noise_multiplier=0.1)
    model, baskets = recommender(200, output_bias=output_bias), users(10, 200, rate=0.05)
    score = {}
    for attack in (BasketClosedForm(), BasketRounds(6)):
        records = [
            sharing.share(model, one[None], generator=seed(100 * n + turn))[0]
            for n, one in enumerate(baskets)
            for turn in range(attack.each)
        ]
        found = attack.run(records, model, knowledge=Knowledge(defense=sharing), generator=seed())
        assert not found.exact
        common = (found.items[:, 0] & (baskets > 0)).sum(dim=1)
        score[attack.name] = float((2 * common / (found.items[:, 0].sum(dim=1) + baskets.sum(dim=1))).mean())
    assert score["basket-rounds"] > score["basket-closed-form"] + 0.1


def test_searches_find_what_they_look_for():
    model, baskets = recommender(40), users(4, 40)
    exact = [
        share_baskets(model, one[None], noise={"1.noise": torch.full((1, 40), 0.5), "5.noise": torch.zeros(1, 8)})
        for one in baskets
    ]
    ignores = BasketInvertingGradients(steps=150, lr=0.05)
    found = ignores.run(exact, model, generator=seed())
    assert torch.equal(found.items[:, 0], baskets > 0)
    assert found.matching.max() < 0.1
    assert not found.exact
    drawn = [share_baskets(model, one[None], seed=n) for n, one in enumerate(baskets)]
    ignoring = ignores.run(drawn, model, generator=seed())
    restoring = BasketNoiseRestoring(steps=150, lr=0.05).run(drawn, model, generator=seed())
    assert restoring.matching.mean() < ignoring.matching.mean()


def test_the_angle_of_a_search_is_that_of_the_whole_gradients():
    model, baskets = recommender(30), users(3, 30)
    quiet = {"1.noise": torch.full((1, 30), 0.5), "5.noise": torch.zeros(1, 8)}
    records = [share_baskets(model, one[None], seed=n) for n, one in enumerate(baskets)]
    known = search._leading("search", records, model)
    guess = baskets.roll(1, dims=0)
    noise = {name: one.expand(3, -1) for name, one in quiet.items()}
    apart = search._angle(model, guess, noise, known)
    for n, record in enumerate(records):
        own = share_baskets(model, guess[n : n + 1], noise=quiet).gradients
        one, two = (torch.cat([each.flatten() for each in side.values()]) for side in (own, record.gradients))
        assert float(apart[n].detach()) == pytest.approx(1 - float(torch.cosine_similarity(one, two, dim=0)), abs=1e-4)


def test_popular_items_are_told_from_fake_ones():
    rate = torch.cat([torch.full((20,), 0.4), torch.full((180,), 0.005)])
    drawn = (torch.rand(220, 200, generator=seed(5)) < rate).float()
    drawn[:, 0] = 1
    public, baskets = drawn[:200], drawn[200:]
    sharing, model = BasketSharing(fakes=1.0), recommender(200)
    records = [sharing.share(model, one[None], generator=seed(n))[0] for n, one in enumerate(baskets)]
    data = Dataset(public, torch.zeros(200, dtype=torch.int64))
    precision = []
    for knowledge in (Knowledge(), Knowledge(defense=sharing, data=data)):
        found = BasketClosedForm().run(records, model, knowledge=knowledge, generator=seed()).items[:, 0]
        precision.append(float(((found & (baskets > 0)).sum(dim=1) / found.sum(dim=1)).mean()))
    assert 0.4 < precision[0] < 0.6
    assert precision[1] > 0.8


def test_what_is_known_and_not_used_is_said_and_a_basket_with_fakes_is_not_claimed():
    sharing = BasketSharing(fakes=0.5)
    model, baskets = recommender(400).double(), users(1, 400, rate=0.08).double()
    record, drawn = sharing.share(model, baskets, generator=seed(3))
    assert drawn.fakes.any()
    blind, adaptive = (
        BasketSeparation().run(record, model, knowledge=knowledge, generator=seed())
        for knowledge in (Knowledge(), Knowledge(defense=sharing))
    )
    assert torch.equal(blind.items, adaptive.items)
    assert blind.exact
    assert not adaptive.exact
    assert "not used" in adaptive.facts
    assert "not used" not in blind.facts


@pytest.mark.parametrize("count", [1, 2, 4, 6])
def test_a_sum_of_users_is_taken_apart(count):
    model, baskets = recommender(400).double(), users(count, 400, rate=0.08).double()
    record = share_baskets(model, baskets, seed=3)
    found = BasketSeparation().run(record, model, generator=seed())
    assert found.exact
    rows = {tuple(own) for own in (baskets > 0).tolist()}
    assert {tuple(own) for own in found.items[0].tolist()} == rows
    assert EncoderColumns().run(record, model, generator=seed()).items[0, 0].sum() <= (baskets.sum(dim=0) > 0).sum()


def test_users_with_the_same_items_are_not_told_apart():
    model = recommender().double()
    record = share_baskets(
        model, users(1).double().repeat(2, 1), seed=3, noise={"1.noise": torch.ones(2, ITEMS).double()}
    )
    found = BasketSeparation().run(record, model, generator=seed())
    assert not found.exact
    assert not found.items.any()
    assert found.matching == 1


QUICK = {"basket-inverting-gradients": {"steps": 3}, "basket-noise-restoring": {"steps": 3}}


@pytest.mark.parametrize("name", ATTACKS.kind_of(RecommenderAttack))
def test_an_attack_leaves_everything_as_it_was(name):
    model = recommender().train()
    attack = ATTACKS.make({"name": name, **QUICK.get(name, {})})
    records = [share_baskets(model, users(1), seed=number) for number in range(attack.each)]
    before, gradients = copy.deepcopy(model.state_dict()), copy.deepcopy([one.gradients for one in records])
    state = torch.get_rng_state()
    attack.run(records, model, generator=seed())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    for record, own in zip(records, gradients, strict=True):
        assert all(torch.equal(value, own[key]) for key, value in record.gradients.items())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_several_users_claimed_as_one_are_noticed():
    model = recommender()
    record = share_baskets(model, users(3))
    with pytest.raises(BadInputError, match="expected the gradient of one user, got one that is the sum of several"):
        BasketClosedForm().run(replace(record, batch_size=1), model, generator=seed())
    with pytest.raises(BadInputError, match="expected the record of one user, got one of 3"):
        BasketClosedForm().run(record, model, generator=seed())


def test_bad_input_is_refused():
    model, baskets = recommender(), users(2)
    images = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    of_image = share(images, torch.rand(1, 1, 2, 2), torch.tensor([1]))
    record = share_baskets(model, baskets[:1])
    mean = share_baskets(model, baskets, reduction="mean")
    several = share_baskets(model, baskets)
    norm, plain = nn.Sequential(nn.LayerNorm(ITEMS), nn.Linear(ITEMS, ITEMS)), nn.Sequential(nn.Linear(ITEMS, ITEMS))
    of_norm, of_plain = (share_baskets(one, baskets[:1]) for one in (norm, plain))
    wild = {name: one / 0 for name, one in record.gradients.items()}
    cases = [
        (lambda: OutputBias().run(of_image, images, generator=seed()), "expected the gradient of a recommender"),
        (lambda: OutputBias().run(record, recommender(30), generator=seed()), "of another architecture"),
        (lambda: OutputBias().run(replace(record, gradients=wild), model, generator=seed()), "NaN or infinity"),
        (lambda: OutputBias().run([], model, generator=seed()), "expected one record or more"),
        (lambda: BasketSeparation().run(mean, model, generator=seed()), "expected the sum"),
        (lambda: BasketClosedForm(tolerance=0.0), r"tolerance in \(0, 1\)"),
        (lambda: BasketRounds(1), "rounds of 2 or more"),
        (lambda: BasketRounds(2).run(record, model, generator=seed()), "2 records of each victim"),
        (lambda: BasketInvertingGradients(steps=0), "steps and at_once of 1 or more"),
        (lambda: BasketInvertingGradients().run(several, model, generator=seed()), "the record of one user"),
        (lambda: BasketInvertingGradients().run(of_norm, norm, generator=seed()), "learns in linear layers alone"),
        (lambda: BasketNoiseRestoring().run(of_plain, plain, generator=seed()), "expected a model that draws"),
        (lambda: share_baskets(model, baskets[:, :50]), "knows 60 items and the table has 50"),
        (lambda: share_baskets(model, torch.zeros(1, ITEMS)), "have no item"),
        (lambda: share_baskets(model, baskets * 5), "expected 1 for an item"),
        (lambda: share_baskets(model, baskets, negatives=torch.ones(1, 3).bool()), "expected negatives of shape"),
        (lambda: BasketSharing(clip=-1.0), "positive, finite clip"),
        (lambda: BasketSharing(noise_multiplier=1.0), "with a clip"),
        (lambda: BasketSharing(fakes=-1.0), "fakes of 0 or more"),
        (lambda: BasketSharing().share(model, baskets, generator=seed()), "the basket of one user, got 2"),
    ]
    bare = recommender(output_bias=False)
    without = share_baskets(bare, baskets[:1])
    cases.append((lambda: OutputBias().run(without, bare, generator=seed()), "expected a last layer with a bias"))
    cases.append((lambda: BasketSeparation().run(without, bare, generator=seed()), "a MultVAE with biases"))
    for call, message in cases:
        with pytest.raises(BadInputError, match=message):
            call()
