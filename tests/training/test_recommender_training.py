import copy

import pytest
import torch

from divulge.errors import BadInputError
from divulge.models.multvae import MultVAE
from divulge.releases.baskets import BasketSharing, share_baskets
from divulge.training.recommender import (
    RecommenderFederation,
    fit_recommender,
    hold_out,
    recommendations,
    update,
)


def users(count: int = 40, items: int = 30) -> torch.Tensor:
    """Two kinds of users, who have items of one half or the other."""
    generator = torch.Generator().manual_seed(0)
    kind = torch.arange(count)[:, None] % 2 == torch.arange(items)[None] * 2 // items
    table = ((torch.rand(count, items, generator=generator) < 0.6) & kind).float()
    table[torch.arange(count), torch.arange(count) % 2 * items // 2] = 1
    return table


def recommender(**settings) -> torch.nn.Module:
    return MultVAE(hidden=16, code=4, **settings).build((30,), 30, seed=0)


@pytest.mark.parametrize("clip", [None, 1.0, 1e6])
def test_an_update_of_many_is_the_sum_of_what_each_would_share(clip):
    model, baskets = recommender(dropout=0.0, beta=0.3).double(), users(6).double()
    noise = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    own = BasketSharing(clip=clip)
    records = [
        own.clipped(share_baskets(model, one[None], noise={"5.noise": n[None]}))
        for one, n in zip(baskets, noise, strict=True)
    ]
    model[5].noise = noise
    total, losses = update(model, baskets, None, clip=clip)
    for name, found in total.items():
        torch.testing.assert_close(found, sum(record.gradients[name] for record in records))
    assert losses.shape == (6,)


def test_the_server_takes_a_step_of_adam_and_the_same_one_again():
    baskets = users(6)
    half, whole = recommender(), recommender()
    first = {name: value.clone() for name, value in half.named_parameters()}
    settings = RecommenderFederation(epochs=1, users=6)
    fit_recommender(half, baskets, settings, seed=0)
    moved = max(float((value.detach() - first[name]).abs().max()) for name, value in half.named_parameters())
    assert moved == pytest.approx(settings.lr, rel=1e-3)  # the first step of Adam, whatever the gradient's size
    fit_recommender(whole, baskets, settings, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(half.parameters(), whole.parameters(), strict=True))


def test_training_learns_who_likes_what_and_leaves_the_random_state():
    model, state = recommender(), torch.get_rng_state()
    baskets = users(80)
    seen: list[int] = []
    history = fit_recommender(model, baskets, RecommenderFederation(60, 20, 5e-3), seed=0, watch=seen.append)
    assert torch.equal(torch.get_rng_state(), state)
    assert seen == list(range(1, 61))
    assert history[-1] < 0.9 * history[0]
    given, hidden = hold_out(users(20), seed=1)
    with torch.no_grad():
        after, before = (one.eval()(given).numpy() for one in (model, recommender()))
    assert recommendations(after, given, hidden)["NDCG@100"].mean() > (
        recommendations(before, given, hidden)["NDCG@100"].mean() + 0.1
    )


@pytest.mark.parametrize(
    "sharing",
    [BasketSharing(clip=1.0, noise_multiplier=0.1), BasketSharing(fakes=1.0), BasketSharing(negatives=2)],
)
def test_users_may_defend_themselves_in_training(sharing):
    model, plain = recommender(), recommender()
    settings = RecommenderFederation(epochs=2, users=20)
    history = fit_recommender(model, users(), RecommenderFederation(epochs=2, users=20, sharing=sharing), seed=0)
    fit_recommender(plain, users(), settings, seed=0)
    assert all(value == value for value in history)
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))


def test_what_users_draw_is_what_they_say():
    baskets, generator = users(), torch.Generator().manual_seed(3)
    own, negatives = BasketSharing(fakes=0.5, negatives=1).prepared(baskets, generator=generator)
    assert ((own - baskets) >= 0).all()
    sizes = baskets.sum(dim=1)
    assert torch.equal(own.sum(dim=1), sizes + (0.5 * sizes).round())
    assert not (negatives & (own > 0)).any()
    assert torch.equal(negatives.sum(dim=1).float(), torch.minimum(own.sum(dim=1), 30 - own.sum(dim=1)))


def test_noise_is_of_the_size_told_and_its_promise_is_that_of_a_user():
    model, basket = recommender(), users(1)
    sharing = BasketSharing(clip=2.0, noise_multiplier=3.0)
    noisy, drawn = sharing.share(model, basket, generator=torch.Generator().manual_seed(0))
    added = torch.cat([one.flatten() for one in drawn.noise.values()])
    assert float(added.std()) == pytest.approx(6.0, rel=0.05)
    assert sharing.tampering(model).std == 6.0
    clipped = torch.cat([(one - drawn.noise[name]).flatten() for name, one in noisy.gradients.items()])
    assert float(clipped.norm()) == pytest.approx(2.0, rel=1e-4)


def test_users_are_drawn_by_coins_or_dealt():
    generator = torch.Generator().manual_seed(0)
    dealt = RecommenderFederation(users=30).drawn(100, generator)
    assert [len(rows) for rows in dealt] == [30, 30, 30, 10]
    assert torch.equal(torch.cat(list(dealt)).sort().values, torch.arange(100))
    coins = RecommenderFederation(users=250, sampling="poisson").drawn(1000, generator)
    assert len(coins) == 4
    assert len({len(rows) for rows in coins}) > 1
    assert all(abs(len(rows) - 250) < 5 * (1000 * 0.25 * 0.75) ** 0.5 for rows in coins)


def test_a_round_by_coins_has_the_noise_and_the_mean_of_as_many_as_were_meant():
    model, sharing = recommender(), BasketSharing(clip=1e-9, noise_multiplier=1e9)
    before = {name: value.clone() for name, value in model.named_parameters()}
    seen = []
    step = torch.optim.Adam.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", lambda self: (seen.append(torch.cat([p.grad.flatten() for p in
                      self.param_groups[0]["params"]])), step(self)))  # fmt: skip
        settings = RecommenderFederation(epochs=1, users=10, sharing=sharing, sampling="poisson")
        fit_recommender(model, users(), settings, seed=0)
    assert len(seen) == 4
    assert float(torch.stack(seen).std()) == pytest.approx(10**-0.5, rel=0.05)
    assert any(not torch.equal(value, before[name]) for name, value in model.named_parameters())


def test_a_round_to_which_nobody_came_is_one_of_noise():
    generator = torch.Generator().manual_seed(0)
    settings = RecommenderFederation(epochs=1, users=1, sharing=BasketSharing(clip=1.0), sampling="poisson")
    assert min(len(rows) for rows in settings.drawn(len(users()), generator)) == 0
    assert all(loss >= 0 for loss in fit_recommender(recommender(), users(), settings, seed=0))
    total, losses = update(recommender(), users()[:0], None, clip=1.0)
    assert len(losses) == 0
    assert not any(one.any() for one in total.values())


def test_a_fifth_is_hidden():
    baskets = copy.deepcopy(users())
    baskets[0] = 0
    baskets[0, :4] = 1
    given, hidden = hold_out(baskets, seed=0)
    assert len(given) == int((baskets.sum(dim=1) >= 5).sum())
    assert not (given * hidden).any()
    whole = given + hidden
    assert torch.equal(whole, baskets[baskets.sum(dim=1) >= 5])
    assert torch.equal(hidden.sum(dim=1), (whole.sum(dim=1) / 5 + 1e-6).floor())


def test_bad_input_is_refused():
    with pytest.raises(BadInputError, match="epochs and users of 1 or more"):
        RecommenderFederation(epochs=0)
    with pytest.raises(BadInputError, match="have no item"):
        fit_recommender(recommender(), torch.zeros(2, 30), RecommenderFederation(), seed=0)
    mixing = torch.nn.Sequential(recommender(), torch.nn.LayerNorm(30))
    with pytest.raises(BadInputError, match="learns in linear layers alone"):
        update(mixing, users(2), None, clip=1.0)
