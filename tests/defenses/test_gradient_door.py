"""Every defense at the gradient door: the contract as one table, and each against what was worked out by hand."""

import math

import pytest
import torch
from torch import nn

from divulge.attacks import ATTACKS
from divulge.attacks.gradients.base import GradientAttack
from divulge.attacks.gradients.detection import noise_floor, traces
from divulge.auditing.gradient_adversaries import TABLE, gradient_adversaries
from divulge.auditing.grid import free
from divulge.defenses import DEFENSES, Defense
from divulge.defenses.client_dp import ClientDp
from divulge.defenses.gradient_clipping import GradientClipping
from divulge.defenses.gradient_noise import GradientNoise
from divulge.defenses.gradient_pruning import GradientPruning, pruned_number
from divulge.defenses.gradient_rounding import GradientQuantization, GradientSign
from divulge.defenses.soteria import Soteria
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.releases import GradientRecord, Tampering, share

DOOR = {
    "noise": GradientNoise(0.01),
    "Laplace noise": GradientNoise(0.01, "laplace"),
    "clipping": GradientClipping(0.1),
    "pruning": GradientPruning(0.7),
    "pruning over all": GradientPruning(0.7, "model"),
    "sign": GradientSign(),
    "bare sign": GradientSign("one"),
    "levels": GradientQuantization(bits=4),
    "stochastic levels": GradientQuantization(bits=4, stochastic=True),
    "float16": GradientQuantization("float16"),
    "bfloat16": GradientQuantization("bfloat16"),
    "client-dp": ClientDp(0.5, clip=0.2, batch_size=3),
    "soteria": Soteria(0.4),
    "exact soteria": Soteria(0.4, "exact"),
    "soteria together": Soteria(0.4, batch="together"),
}
IDENTITY = {
    "no noise": GradientNoise(0.0),
    "no Laplace noise": GradientNoise(0.0, "laplace"),
    "no clipping": GradientClipping(math.inf),
    "no pruning": GradientPruning(0.0),
    "no pruning over all": GradientPruning(0.0, "model"),
    "soteria of nothing": Soteria(0.0),
    "exact soteria of nothing": Soteria(0.0, "exact"),
}


def network():
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.GroupNorm(1, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(48, 4)
        )


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(3, 2, 8, 8, generator=generator), torch.tensor([0, 2, 2])


def sent(defense, batch, *, model=None, training=False, seed=5, **more):
    model = network().eval() if model is None else model
    record = share(model, *batch, training=training, **more)
    generator = torch.Generator().manual_seed(seed)
    shared = defense.share(record, model=model, inputs=batch[0], targets=batch[1], generator=generator)
    return record, shared


def flat(record):
    return torch.cat([one.flatten() for one in record.gradients.values()])


@pytest.mark.parametrize("name", DOOR)
def test_model_record_batch_and_random_state_are_untouched_and_the_record_stays_one_of_the_model(name, batch):
    model = network().train()
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    model[0].eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    held = [parameter.grad.clone() for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    record = share(model, *batch)
    before = {key: value.clone() for key, value in record.gradients.items()}
    copies = [one.clone() for one in batch]
    random = torch.get_rng_state()
    shared = DOOR[name].share(
        record, model=model, inputs=batch[0], targets=batch[1], generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(one, other) for one, other in zip(batch, copies, strict=True))
    assert not batch[0].requires_grad
    assert all(torch.equal(value, before[key]) for key, value in record.gradients.items())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(torch.equal(p.grad, grad) for p, grad in zip(model.parameters(), held, strict=True))
    assert all(p.requires_grad for p in model.parameters())
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    shared.record.require(model)
    assert shared.record.facts == record.facts
    assert not torch.equal(flat(shared.record), flat(record))
    assert not any(one.requires_grad for one in shared.record.gradients.values())


@pytest.mark.parametrize("name", DOOR)
def test_the_generator_alone_decides(name, batch):
    one, again, other = (flat(sent(DOOR[name], batch, seed=seed)[1].record) for seed in (3, 3, 4))
    draws = isinstance(DOOR[name], GradientNoise | ClientDp) or name == "stochastic levels"
    assert torch.equal(one, again)
    assert torch.equal(one, other) != draws


@pytest.mark.parametrize("name", IDENTITY)
def test_the_setting_that_does_nothing_does_nothing(name, batch):
    record, shared = sent(IDENTITY[name], batch)
    assert torch.equal(flat(shared.record), flat(record))
    expected = Tampering(scaled=True) if name == "no clipping" else Tampering()
    assert IDENTITY[name].tampering(network()) == expected


@pytest.mark.parametrize("name", ["noise", "Laplace noise"])
def test_the_noise_is_what_an_oracle_is_told_and_of_the_size_and_law_that_are_public(name):
    model, batch = nn.Linear(400, 50), (torch.rand(1, 400), torch.tensor([7]))
    record, shared = sent(DOOR[name], batch, model=model)
    for key, honest in record.gradients.items():
        assert torch.equal(honest + shared.randomness[key], shared.record.gradients[key])
    noise = shared.randomness["weight"]
    known = DOOR[name].tampering(model)
    assert float(noise.std()) == pytest.approx(known.std, rel=0.03)
    assert abs(float(noise.mean())) < 4 * known.std / math.sqrt(noise.numel())
    kurtosis = float((noise**4).mean() / (noise**2).mean() ** 2)
    assert kurtosis == pytest.approx({"gaussian": 3, "laplace": 6}[known.noise], rel=0.15)
    seen = noise_floor(shared.record, model)[""]
    assert (seen.law, round(seen.std, 3)) == (known.noise, known.std)


def test_clipping_scales_only_what_is_too_long(batch):
    record, shared = sent(GradientClipping(0.1), batch)
    length = float(flat(record).norm())
    assert float(flat(shared.record).norm()) == pytest.approx(0.1, rel=1e-6)
    assert torch.allclose(flat(shared.record), flat(record) * (0.1 / length), rtol=1e-6)
    assert shared.randomness is None
    assert GradientClipping(0.1).tampering(network()) == Tampering(scaled=True)
    record, shared = sent(GradientClipping(length * 1.001), batch)
    assert torch.equal(flat(shared.record), flat(record))


@pytest.mark.parametrize("rate", [0.01, 0.4, 0.8, 1.0])
def test_pruning_keeps_the_largest_of_each_tensor_and_zeros_are_what_was_withheld(rate, batch):
    record, shared = sent(GradientPruning(rate), batch)
    for key, honest in record.gradients.items():
        left = shared.record.gradients[key]
        assert int((left == 0).sum()) == math.ceil(round(rate * honest.numel(), 9))
        assert torch.equal(left[left != 0], honest[left != 0])
        if 0 < int((left != 0).sum()) < left.numel():
            assert honest[left == 0].abs().max() <= left[left != 0].abs().min()
    assert GradientPruning(rate).tampering(network()).zeros


def test_pruning_over_all_tensors_has_one_threshold_and_is_seen_by_who_knows_of_nothing(batch):
    record, shared = sent(GradientPruning(0.7, "model"), batch)
    honest, left = flat(record), flat(shared.record)
    assert int((left == 0).sum()) == math.ceil(0.7 * honest.numel())
    assert honest[left == 0].abs().max() <= left[left != 0].abs().min()
    alone = GradientPruning(0.7).share(record, model=None, inputs=None, targets=None, generator=None)
    assert traces(alone.record.gradients["4.weight"]).pruned_below is not None


def test_among_equal_magnitudes_the_first_are_pruned():
    record = GradientRecord({"w": torch.tensor([1.0, -1, 1, -1, 2])}, 1, 1, (1,))
    for scope in ("tensor", "model"):
        shared = GradientPruning(0.4, scope).share(record, model=None, inputs=None, targets=None, generator=None)
        assert shared.record.gradients["w"].tolist() == [0, 0, 1, -1, 2]
    assert [pruned_number(100, rate / 100) for rate in range(101)] == list(range(101))


def test_signs_with_one_magnitude_each(batch):
    record, shared = sent(GradientSign(), batch)
    _, bare = sent(GradientSign("one"), batch)
    for key, honest in record.gradients.items():
        left = shared.record.gradients[key]
        assert torch.allclose(left, honest.abs().mean() * honest.sign(), rtol=1e-6)
        assert torch.equal(bare.record.gradients[key], honest.sign())
    assert GradientSign().tampering(network()).rounding == "sign"


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_levels_are_few_evenly_spaced_and_the_nearest(bits, batch):
    record, shared = sent(GradientQuantization(bits=bits), batch)
    most = 2 ** (bits - 1) - 1
    for key, honest in record.gradients.items():
        left, step = shared.record.gradients[key], honest.abs().max() / most
        whole = left / step
        assert torch.allclose(whole, whole.round(), atol=1e-4)
        assert float(whole.abs().max()) == pytest.approx(most)
        assert float((left - honest).abs().max()) <= 0.5001 * float(step)
    assert shared.randomness is None
    assert GradientQuantization(bits=bits).tampering(network()) == Tampering(rounding="steps")


def test_stochastic_levels_have_the_right_mean_and_an_oracle_is_told_the_shift(batch):
    defense = GradientQuantization(bits=2, stochastic=True)
    record, shared = sent(defense, batch)
    plain = GradientQuantization(bits=2)
    shifted = {key: one + shared.randomness[key] for key, one in record.gradients.items()}
    for key, one in shifted.items():
        step = record.gradients[key].abs().max()
        assert torch.allclose(shared.record.gradients[key], (one / step).round() * step)
    generator = torch.Generator().manual_seed(0)
    again = [
        defense.share(record, model=None, inputs=None, targets=None, generator=generator).record for _ in range(400)
    ]
    repeated = torch.stack([flat(one) for one in again])
    honest = flat(record)
    steps = torch.cat([one.abs().max().expand(one.numel()) for one in record.gradients.values()])
    assert (((repeated.mean(dim=0) - honest) / steps).abs() < 5 * 0.5 / math.sqrt(400)).all()
    nearest = flat(plain.share(record, model=None, inputs=None, targets=None, generator=None).record)
    assert ((nearest - honest) / steps).abs().max() > 0.2, "control: without chance the mean is off"


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_floats_are_what_they_say_and_are_seen(name, batch):
    record, shared = sent(DOOR[name], batch)
    honest, left = record.gradients["4.weight"], shared.record.gradients["4.weight"]
    assert left.dtype == honest.dtype
    assert traces(left).precision == name
    assert torch.equal(left, honest.to(getattr(torch, name)).float())


def test_a_gradient_of_zeros_stays_one():
    record = GradientRecord({"w": torch.zeros(4), "b": torch.zeros(1)}, 1, 2, (4,))
    for defense in (GradientClipping(), GradientPruning(), GradientSign(), GradientQuantization()):
        shared = defense.share(record, model=None, inputs=None, targets=None, generator=None)
        assert not flat(shared.record).any()
        assert flat(shared.record).isfinite().all()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "gradient-noise", "std": -0.1}, "finite std of 0 or more, got -0.1"),
        ({"name": "gradient-noise", "std": math.nan}, "finite std"),
        ({"name": "gradient-noise", "law": "cauchy"}, "setting 'law'"),
        ({"name": "gradient-clipping", "norm": 0.0}, "positive norm, got 0.0"),
        ({"name": "gradient-clipping", "norm": math.nan}, "positive norm"),
        ({"name": "gradient-pruning", "rate": 1.5}, "rate from 0 to 1, got 1.5"),
        ({"name": "gradient-pruning", "rate": -0.1}, "rate from 0 to 1"),
        ({"name": "gradient-pruning", "scope": "layer"}, "setting 'scope'"),
        ({"name": "gradient-quantization", "bits": 1}, "For one bit use gradient-sign"),
        ({"name": "gradient-quantization", "to": "float16", "stochastic": True}, "never stochastic"),
        ({"name": "client-dp", "noise_multiplier": -1.0}, "noise_multiplier of 0 or more"),
        ({"name": "client-dp", "clip": 0.0}, "positive, finite clip"),
        ({"name": "client-dp", "batch_size": 0}, "batch_size >= 1"),
        ({"name": "soteria", "rate": 40.0}, "got 40.0; it is no percentage"),
        ({"name": "soteria", "rate": math.nan}, "rate from 0 to 1"),
        ({"name": "soteria", "offset": -0.1}, "offset of 0 or more"),
        ({"name": "soteria", "percent": 40}, "no setting 'percent'"),
    ],
)
def test_bad_settings_are_refused(spec, message):
    with pytest.raises(BadInputError, match=message):
        DEFENSES.make(spec)


def test_every_defense_at_this_door_alone_is_registered_described_and_kept_from_the_others():
    made = {defense.name for defense in DOOR.values()}
    alone = {
        name
        for name, cls in DEFENSES.classes.items()
        if cls().in_sharing and not cls().in_training and not cls().in_response
    }
    assert made <= alone
    assert not made & {one.name for one in free()}, "a membership audit would try it on answers"
    for name in made:
        assert DEFENSES.summaries()[name].endswith(".")
        assert DEFENSES[name].source
        assert DEFENSES[name].share is not Defense.share


def test_every_defense_at_this_door_has_a_row_of_adversaries_with_attacks_that_exist():
    attacks = set(ATTACKS.kind_of(GradientAttack))
    own = {defense.name for defense in DOOR.values()}
    assert own <= set(TABLE) <= set(DEFENSES.classes)
    for name in (*TABLE, "a defense without a row"):
        row = gradient_adversaries(name)
        assert row.attacks
        assert set(row.attacks) <= attacks
        assert row.adaptive
    assert {name for name in own if TABLE[name].oracle} == {name for name in own if DEFENSES[name].randomness != "none"}
