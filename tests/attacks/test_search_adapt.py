"""A search that knows the defense: what it changes, that the truth then matches, and that it finds more."""

import dataclasses
import math
from dataclasses import dataclass

import pytest
import torch
from sklearn.datasets import load_digits

from divulge.attacks.gradients.adapt import adapt, take_back
from divulge.attacks.gradients.believed import believed, step_sizes
from divulge.attacks.gradients.bias_anchored import BiasAnchored
from divulge.attacks.gradients.dlg import DLG
from divulge.attacks.gradients.idlg import IDLG
from divulge.attacks.gradients.inverting_gradients import InvertingGradients
from divulge.attacks.gradients.labels import label_by_bias, label_by_direction, label_counts
from divulge.attacks.gradients.rounds import Round
from divulge.attacks.gradients.search import Search
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.metrics.images import psnr
from divulge.models import MODELS
from divulge.releases import Tampering, share

NOISY = Tampering(noise="gaussian", std=0.02)
CLIPPED = Tampering(scaled=True, noise="laplace", std=0.1)
WORST = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Known:
    """A defense that says this of itself."""

    says: Tampering

    def tampering(self, model):
        return self.says


def seed(value=0):
    return torch.Generator().manual_seed(value)


def tampered(record, change):
    return dataclasses.replace(record, gradients={name: change(name, one) for name, one in record.gradients.items()})


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)


@pytest.fixture(scope="module")
def lenet():
    return MODELS.make("lenet").build((1, 8, 8), 10, seed=0)


@pytest.fixture(scope="module")
def record(digits, lenet):
    return share(lenet, digits[0][:1], digits[1][:1])


@pytest.mark.parametrize(
    ("search", "known", "changes", "words"),
    [
        (Search(), Tampering(), {}, ()),
        (Search(), Tampering(withheld=("7.weight",)), {"ignore": ("7.weight",)}, ("left out 7.weight",)),
        (Search(ignore=("0",)), Tampering(withheld=("7.weight",)), {"ignore": ("0", "7.weight")}, ("left out",)),
        (Search(), Tampering(zeros=True), {"zeros": "skip"}, ("skipped zeros",)),
        (Search(), Tampering(scaled=True), {}, ()),
        (DLG(), Tampering(scaled=True), {"scaled": True}, ("solved for the scale",)),
        (DLG(), NOISY, {"distance": "gaussian", "noise": 0.02}, ("gaussian noise of 0.02",)),
        (BiasAnchored(), NOISY, {"distance": "gaussian", "noise": 0.02, "tv": 640.0}, ("likelihood", "640 nats")),
        (Search(), NOISY, {"noise": 0.02}, ("matched by the angle",)),
        (Search(), CLIPPED, {"noise": 0.1}, ("matched by the angle, under laplace noise of 0.1",)),
        (BiasAnchored(tv=0.0), CLIPPED, {"distance": "laplace", "noise": 0.1, "scaled": True},
         ("laplace", "solved for the scale")),
        (IDLG(), CLIPPED, {"distance": "laplace", "noise": 0.1, "scaled": True}, ("laplace", "solved for the scale")),
        (Search(), Tampering(rounding="sign"), {"rounding": "sign"}, ("compared signs",)),
        (Search(), Tampering(rounding="steps"), {"rounding": "steps"}, ("half a step",)),
        (DLG(), Tampering(rounding="sign", noise="gaussian", std=1.0), {"rounding": "sign"},
         ("signs", "made no use of the gaussian noise")),
    ],
)  # fmt: skip
def test_what_a_defense_changes_in_a_search(search, known, changes, words, record, lenet):
    found, told = adapt(search, known, Round([record], lenet))
    assert found == dataclasses.replace(search, **changes)
    assert len(told) == len(words)
    assert all(part in one for part, one in zip(words, told, strict=True))


def test_under_gaussian_noise_an_angle_has_a_prior_in_nats_and_never_less_than_without(record, lenet):
    length = sum(float(one.square().sum()) for one in record.gradients.values())
    for std in (1e-6, 0.5):
        known = Tampering(noise="gaussian", std=std, scaled=True)
        found, words = adapt(InvertingGradients(), known, Round([record], lenet))
        assert found.distance == "cosine"
        assert found.noise == std
        assert found.tv == pytest.approx(max(1e-4, 640 * std**2 / length))
        assert len(words) == 2, "the scale cancels"


@pytest.mark.parametrize(
    ("hidden", "labels"), [(("7",), "joint"), (("7.bias",), "weight"), (("7.weight",), "bias"), (("4.",), "bias")]
)
def test_labels_are_read_from_what_came_of_the_last_layer(hidden, labels, record, lenet):
    holes = tampered(record, lambda name, one: one * (not name.startswith(hidden)))
    assert adapt(Search(), Tampering(withheld=hidden), Round([holes], lenet))[0].labels == labels


def told(attack, images):
    """The attack, started at the true batch and left there."""

    class Told(type(attack)):
        def _begin(self, record, *, joint, generator):
            return images.flatten()[None]

    settings = {field.name: getattr(attack, field.name) for field in dataclasses.fields(attack)}
    return Told(**settings | {"steps": 1, "lr": 1e-12, "restarts": 1, "tv": 0.0})


MECHANISMS = {
    "pruning": (Tampering(zeros=True), lambda name, one: one * (one.abs() >= one.abs().median())),
    "withholding": (Tampering(withheld=("2.",)), lambda name, one: one * (not name.startswith("2."))),
    "clipping": (Tampering(scaled=True), lambda name, one: one / 7),
    "signs": (Tampering(rounding="sign"), lambda name, one: one.sign() * one.abs().mean()),
    "levels": (
        Tampering(rounding="steps"),
        lambda name, one: (one / one.abs().max() * 7).round() * one.abs().max() / 7,
    ),
}
BLIND = {"clipping": Search(distance="l2"), "signs": Search(), "levels": Search()}


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_truth_matches_once_the_mechanism_is_known(mechanism, record, lenet, digits):
    known, change = MECHANISMS[mechanism]
    shared, attack = tampered(record, change), told(BLIND.get(mechanism, Search()), digits[0][:1])
    blind = attack.run(shared, lenet, generator=seed())
    adaptive = attack.run(shared, lenet, knowledge=Knowledge(defense=Known(known)), generator=seed())
    assert float(adaptive.matching) < 1e-9 * float(record.gradients["7.weight"].norm()) ** 2
    assert float(blind.matching) > 1e-3
    assert "adapted" not in blind.facts
    assert len(adaptive.facts["adapted"]) == 1
    another = told(BLIND.get(mechanism, Search()), digits[0][1:2])
    wrong = another.run(shared, lenet, knowledge=Knowledge(defense=Known(known)), generator=seed())
    assert float(wrong.matching) > 100 * max(float(adaptive.matching), WORST)


@pytest.mark.parametrize("law", ["gaussian", "laplace"])
def test_the_truth_is_as_likely_as_noise_has_it(law, record, lenet, digits):
    spread = {
        "gaussian": torch.distributions.Normal(0.0, 0.05),
        "laplace": torch.distributions.Laplace(0.0, 0.05 / 2**0.5),
    }
    torch.manual_seed(1)
    shared = tampered(record, lambda name, one: one + spread[law].sample(one.shape))
    entries = sum(one.numel() for one in record.gradients.values())
    knowledge = Knowledge(defense=Known(Tampering(noise=law, std=0.05)))
    found = told(Search(distance="l2"), digits[0][:1]).run(shared, lenet, knowledge=knowledge, generator=seed())
    nats = {"gaussian": entries / 2, "laplace": entries}[law]
    assert float(found.matching) == pytest.approx(nats, abs=4 * math.sqrt(entries))
    assert found.targets.tolist() == [[0]]


def test_an_oracle_takes_the_noise_back_and_knows_the_masks(record, lenet, digits):
    noise = {name: 0.1 * torch.randn(one.shape, generator=seed(1)) for name, one in record.gradients.items()}
    shared = tampered(record, lambda name, one: one + noise[name])
    for randomness in (noise, (noise,), [{"noise": noise}]):
        knowledge = Knowledge(defense=Known(NOISY), randomness=randomness)
        found = told(Search(), digits[0][:1]).run(shared, lenet, knowledge=knowledge, generator=seed())
        assert float(found.matching) < 1e-6
        assert found.facts["adapted"] == ("took the noise back",)
    mask = {name: torch.rand(one.shape, generator=seed(2)) < 0.5 for name, one in record.gradients.items()}
    masked = tampered(record, lambda name, one: one * mask[name])
    one, known, words = take_back(Round([masked], lenet, mask), Tampering(zeros=True))
    assert torch.equal(Search(zeros="skip").kept(one, ["7.weight"])["7.weight"][0], mask["7.weight"])
    assert known == Tampering(zeros=True)
    assert words == ("knew the masks",)
    with pytest.raises(BadInputError, match="for each of 1 records, got 2"):
        take_back(Round([masked], lenet, [mask, mask]), known)


def test_dither_that_is_known_leaves_half_a_step(record, lenet, digits):
    sizes = {name: one.abs().max() / 7 for name, one in record.gradients.items()}
    shift = {
        name: (torch.rand(one.shape, generator=seed(1)) - 0.5) * sizes[name] for name, one in record.gradients.items()
    }
    shared = tampered(record, lambda name, one: ((one + shift[name]) / sizes[name]).round() * sizes[name])
    attack = told(Search(), digits[0][:1])
    adaptive, oracle = (
        attack.run(
            shared,
            lenet,
            knowledge=Knowledge(defense=Known(Tampering(rounding="steps")), randomness=drawn),
            generator=seed(),
        )
        for drawn in (None, [shift])
    )
    assert float(oracle.matching) < 1e-9 < float(adaptive.matching)


def test_only_contradictions_count():
    shared = {"w": torch.tensor([0.0, 1.0, -2.0])}
    found = {"w": torch.tensor([5.0, 2.0, -4.0])}
    assert believed(found, shared, kept={"w": shared["w"] != 0}, scaled=True)["w"].tolist() == [0, 1, -2]
    assert believed(found, shared, rounding="sign")["w"].tolist() == [0, 1, -2]
    wrong = believed({"w": -found["w"]}, shared, rounding="sign")["w"]
    assert (wrong - shared["w"]).abs().tolist() == pytest.approx([0, 4 / 15**0.5, 8 / 15**0.5])
    near = {"w": torch.tensor([0.4, 1.6, -2.0])}
    half = believed(near, shared, rounding="steps", steps=step_sizes(shared))["w"]
    torch.testing.assert_close(half, torch.tensor([0.0, 1.1, -2.0]))
    longer = {"w": shared["w"] / 3}
    assert torch.equal(believed(longer, shared, scaled=True)["w"], longer["w"]), "a shared gradient was never stretched"
    assert step_sizes({"w": torch.full((4,), 2.0)})["w"] == math.inf


def test_the_whole_last_layer_tells_a_label_that_noise_hides_in_its_bias(digits, lenet):
    right = {label_by_bias: 0, label_by_direction: 0}
    for number in range(30):
        clean, generator = share(lenet, digits[0][number : number + 1], digits[1][number : number + 1]), seed(number)
        size = 0.5 * float(clean.gradients["7.bias"].norm())
        noise = {name: size * torch.randn(one.shape, generator=generator) for name, one in clean.gradients.items()}
        noisy = dataclasses.replace(clean, gradients={name: clean.gradients[name] + noise[name] for name in noise})
        for rule in right:
            right[rule] += int(rule(noisy, lenet) == digits[1][number])
    assert right[label_by_direction] >= 29
    assert right[label_by_bias] < 25


def test_hidden_columns_of_the_last_layer_are_no_anchor(digits, lenet):
    record = share(lenet, digits[0][2:3], digits[1][2:3])
    columns = torch.rand(lenet[-1].in_features, generator=seed()) < 0.6
    shared = tampered(record, lambda name, one: one * ~columns if name == "7.weight" else one)
    knowledge = Knowledge(defense=Known(Tampering(zeros=True)))
    attack = BiasAnchored(steps=60)
    blind = attack.run(shared, lenet, generator=seed())
    adaptive = attack.run(shared, lenet, knowledge=knowledge, generator=seed())
    assert psnr(adaptive.inputs[0], digits[0][2:3]) > psnr(blind.inputs[0], digits[0][2:3]) + 3
    truth = told(BiasAnchored(zeros="skip"), digits[0][2:3])
    for known in (
        Tampering(zeros=True),
        Tampering(withheld=("7.weight",)),
        Tampering(zeros=True, noise="gaussian", std=1.0),
    ):
        assert (
            float(truth.run(shared, lenet, knowledge=Knowledge(defense=Known(known)), generator=seed()).matching) < 1e-8
        )
    with pytest.raises(BadInputError, match="whose bias gradient is shared"):
        attack.run(shared, lenet, knowledge=Knowledge(defense=Known(Tampering(withheld=("7",)))), generator=seed())


def test_counts_of_an_update_are_those_of_its_steps(digits, lenet):
    record = share(lenet, digits[0][:4], digits[1][:4])
    update = dataclasses.replace(tampered(record, lambda name, one: 5 * one), kind="update", local_steps=5, lr=1e-6)
    public = digits[0][100:200]
    assert torch.equal(label_counts(update, lenet, public), label_counts(record, lenet, public))
