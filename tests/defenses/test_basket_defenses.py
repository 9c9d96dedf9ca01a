import pytest
import torch
from torch import nn

from divulge.attacks.knowledge import Knowledge
from divulge.attacks.recommenders.closed_form import BasketClosedForm
from divulge.auditing.recommenders.adversaries import TABLE
from divulge.defenses.recommenders import BASKET_DEFENSES
from divulge.defenses.recommenders.base import Undefended
from divulge.defenses.recommenders.bottleneck import BasketBottleneck
from divulge.defenses.recommenders.fake_items import FakeItems
from divulge.defenses.recommenders.sampled_negatives import SampledNegatives
from divulge.defenses.recommenders.secure_sum import SecureSum
from divulge.defenses.recommenders.user_dp import UserDp
from divulge.errors import BadInputError
from divulge.models.multvae import MultVAE
from divulge.models.stochastic import stochastic_layers
from divulge.privacy.accounting import epsilon
from divulge.releases.baskets import BasketSharing

ITEMS = 50


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def recommender() -> nn.Module:
    return MultVAE(hidden=20, code=6).build((ITEMS,), ITEMS, seed=0)


def basket() -> torch.Tensor:
    return (torch.rand(1, ITEMS, generator=seed(3)) < 0.2).float()


def test_every_defense_has_words_a_row_and_settings_of_its_own():
    assert set(TABLE) == set(BASKET_DEFENSES.classes)
    for name, cls in BASKET_DEFENSES.classes.items():
        assert BASKET_DEFENSES.make(name) == cls()
        assert BASKET_DEFENSES.summaries()[name].endswith(".")
        assert cls.adaptive
        assert cls.source or cls is Undefended
        assert cls().label == name
    assert UserDp(clip=2.0).label == "user-dp (clip=2.0)"
    changing = {name for name, cls in BASKET_DEFENSES.classes.items() if cls().in_training}
    assert changing == {"basket-bottleneck", "fake-items", "sampled-negatives", "user-dp"}
    with pytest.raises(BadInputError, match="nearest is 'user-dp'"):
        BASKET_DEFENSES.make("user-pd")


@pytest.mark.parametrize("name", BASKET_DEFENSES.classes)
def test_a_defense_leaves_the_model_as_it_was_and_its_users_can_share(name):
    defense, model = BASKET_DEFENSES.make(name), recommender()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    inside = defense.architecture(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert inside.training == model.training
    record, drawn = defense.sharing.share(inside, basket(), generator=seed())
    record.require(inside)
    assert drawn.fakes.shape == (ITEMS,)
    assert bool(drawn.noise) == (defense.sharing.std > 0)
    found = BasketClosedForm().run(
        record, inside, knowledge=Knowledge(defense=defense.sharing, randomness=[drawn]), generator=seed()
    )
    assert torch.equal(found.items[0, 0], basket()[0] > 0)  # an oracle undoes every one of them


def test_a_bottleneck_is_put_before_the_last_layer_beside_the_one_there_is():
    inside = BasketBottleneck(width=4).architecture(recommender())
    assert list(stochastic_layers(inside)) == ["1.noise", "5.noise", "8.1.noise"]
    assert inside[8][0].out_features == 8
    alone = BasketBottleneck(width=4).architecture(nn.Linear(ITEMS, ITEMS))
    assert len(alone) == 4
    with pytest.raises(BadInputError, match="from 1 to the 20 inputs"):
        BasketBottleneck(width=21).architecture(recommender())


def test_negatives_leave_most_items_without_a_gradient_and_the_layer_without_a_bias():
    defense = SampledNegatives(1)
    inside = defense.architecture(recommender())
    record, _ = defense.sharing.share(inside, basket(), generator=seed())
    touched = record.gradients["8.weight"].any(dim=1)
    assert "8.bias" not in record.gradients
    assert touched.sum() == 2 * basket().sum()
    assert touched[basket()[0] > 0].all()


def test_only_noise_promises_and_sums_of_users_drawn_by_coins_promise_more():
    none = (Undefended(), FakeItems(), SampledNegatives(), SecureSum(), BasketBottleneck(), UserDp(noise_multiplier=0))
    assert all(one.ledger(users=100, rounds=3) is None for one in none)
    alone, summed = UserDp(), UserDp(users=25)
    assert alone.sharing == BasketSharing(clip=1.0, noise_multiplier=1.0)
    assert summed.sharing.std == pytest.approx(0.2)  # 25 of them make 1
    assert (alone.summed, summed.summed) == (1, 25)

    def spent(one: UserDp, rounds: int, rate: float = 1.0) -> float:
        return epsilon(one.ledger(users=1000, rounds=rounds, sampling_rate=rate), delta=1e-5).epsilon

    assert spent(alone, 1) == pytest.approx(4.377, abs=0.01)  # the Gaussian mechanism at sensitivity over noise 1
    assert spent(alone, 1) < spent(alone, 10)
    assert spent(summed, 10, 0.025) < spent(summed, 10)
    assert summed.ledger(users=1000, rounds=1).fixed_noise_seed


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FakeItems(0.0), "positive, finite share"),
        (lambda: FakeItems(float("nan")), "positive, finite share"),
        (lambda: SampledNegatives(0), "negatives of 1 or more"),
        (lambda: SecureSum(1), "users of 2 or more"),
        (lambda: UserDp(noise_multiplier=-1.0), "finite noise_multiplier of 0 or more"),
        (lambda: UserDp(clip=0.0), "positive, finite clip"),
        (lambda: UserDp(users=0), "users of 1 or more"),
        (lambda: UserDp().ledger(users=10, rounds=1, sampling_rate=0.5), "sampling_rate of 1 where each update"),
        (lambda: SampledNegatives().architecture(nn.Tanh()), "a recommender with a linear layer"),
        (lambda: BasketBottleneck().architecture(nn.Tanh()), "a recommender with a linear layer"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(BadInputError, match=message):
        make()
