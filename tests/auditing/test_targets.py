"""Torch modules and callables as targets: what is accepted, what is refused, and that all is left as it was."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from divulge.auditing.targets import Target, as_target
from divulge.auditing.targets.answers import examine, looks_like_logits
from divulge.errors import BadInputError
from divulge.models import seeded


@pytest.fixture
def records():
    return torch.rand(12, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def images():
    return torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def network(classes=3, *, tail=None):
    with seeded(0):
        layers = [nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, classes)]
    return nn.Sequential(*layers, *([tail] if tail else []))


def expected(model, x):
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        return model(x).double()


class Function(nn.Module):
    """A module that does what it is told to the logits of a linear layer."""

    def __init__(self, change, width=6, classes=3):
        super().__init__()
        with seeded(1):
            self.linear = nn.Linear(width, classes)
        self.change = change

    def forward(self, x):
        return self.change(self.linear(x))


class Vision(nn.Module):
    """Takes its records by keyword only and answers as vision models of transformers do."""

    def __init__(self):
        super().__init__()
        with seeded(1):
            self.linear = nn.Linear(6, 3)

    def forward(self, *, pixel_values, labels=None):
        return SimpleNamespace(loss=None, logits=self.linear(pixel_values), hidden=torch.zeros(len(pixel_values), 3))


FORMS = {
    "logits": lambda z: z,
    "log-probabilities": lambda z: z.log_softmax(1),
    "probabilities": lambda z: z.softmax(1),
    "tuple": lambda z: (z, z.softmax(1)),
    "list with an embedding first": lambda z: [torch.zeros(len(z), 7), z],
    "mapping": lambda z: {"hidden": torch.zeros(len(z), 3), "logits": z},
    "object": lambda z: SimpleNamespace(logits=z),
    "double": lambda z: z.double(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_reply_gives_the_same_posteriors(form, records):
    model = Function(FORMS[form])
    target = as_target(model, classes=3, probe=records)
    wanted = model.linear(records).detach().double().log_softmax(1)
    answered = torch.from_numpy(target.release.logits(records)).log_softmax(1)
    assert torch.allclose(answered, wanted, atol=1e-5)
    assert target.release.gives_logits == (form != "probabilities")
    assert torch.allclose(target.module(records).log_softmax(1).double(), wanted, atol=1e-5)


def test_a_vision_model_is_asked_by_keyword(records):
    model = Vision()
    target = as_target(model, classes=3, probe=records)
    assert np.allclose(target.release.logits(records), model.linear(records).detach(), atol=1e-6)
    assert any("'logits'" in note for note in target.notes)
    fresh = target.architecture()()
    assert fresh(records).shape == (12, 3)


@pytest.mark.parametrize("compiled", [torch.jit.script, lambda model: torch.jit.trace(model, torch.rand(2, 6))])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_modules_can_be_asked_and_told_apart(compiled, records):
    model = network().eval()
    target = as_target(compiled(model), classes=3, probe=records)
    assert np.allclose(target.release.logits(records), expected(model, records), atol=1e-6)
    other = as_target(compiled(nn.Sequential(*model[:2], nn.Tanh(), *model[3:]).eval()), classes=3, probe=records)
    assert other.fingerprint != target.fingerprint
    with pytest.raises(BadInputError, match="nothing gives new initial values to"):
        target.architecture()


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("squash", [False, True])
def test_one_number_a_record_is_about_class_1_of_two(shape, squash, records):
    model = Function(lambda z: (z.sigmoid() if squash else z).reshape(shape), classes=1)
    target = as_target(model, classes=2, probe=records)
    z = model.linear(records).detach().double().reshape(-1)
    if not squash and float(z.min()) >= 0:
        pytest.fail("the probe must hold a negative logit")
    posteriors = torch.from_numpy(target.release.logits(records)).softmax(1)
    assert torch.allclose(posteriors[:, 1], z.sigmoid(), atol=1e-6)
    assert torch.allclose(target.module(records).softmax(1)[:, 1].double(), z.sigmoid(), atol=1e-6)
    assert any("one number a record" in note for note in target.notes)


def test_name_kind_parameters_and_plain_module(records):
    model = network()
    target = as_target(model, classes=3, probe=records, name="credit")
    assert (target.name, target.kind, target.parameters) == ("credit", "torch module", 6 * 16 + 16 + 32 + 16 * 3 + 3)
    assert target.module is model
    assert target.has_inputs
    assert as_target(model, classes=["a", "b", "c"], probe=records).name == "Sequential"


def test_a_target_is_taken_as_it_is(records):
    target = as_target(network(), classes=3, probe=records)
    assert as_target(target, classes=3, probe=records) is target
    with pytest.raises(BadInputError, match="answers for 3 classes, the data has 4"):
        as_target(target, classes=4, probe=records)
    with pytest.raises(BadInputError, match="made already"):
        as_target(target, classes=3, probe=records, budget=10)


@pytest.mark.parametrize("training", [True, False])
def test_a_module_is_handed_back_as_it_was(training, records):
    model = network()
    model.train(training)
    model[1].train(not training)
    model[0].weight.requires_grad_(False)
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    hooks = dict(model._forward_hooks)
    state, given = torch.random.get_rng_state(), records.clone()

    target = as_target(model, classes=3, probe=records)
    target.architecture()
    answers = target.release.logits(records)

    assert np.allclose(answers, expected(model, records), atol=1e-6), "asked in evaluation mode"
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not model[0].weight.requires_grad
    assert model[4].weight.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert dict(model._forward_hooks) == hooks
    assert torch.equal(records, given)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert any("training mode" in note for note in target.notes)


def test_trying_a_random_module_leaves_the_global_generator_alone(records):
    model = Function(lambda z: z + torch.randn_like(z))
    state = torch.random.get_rng_state()
    target = as_target(model, classes=3, probe=records)
    target.architecture()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert any("answers are random" in note for note in target.notes)


def test_a_first_operation_in_place_does_not_reach_the_records(records):
    for model in (nn.Sequential(nn.Dropout(0.0), nn.Threshold(0.5, 9.0, inplace=True), nn.Linear(6, 3)),):
        given = records.clone()
        as_target(model, classes=3, probe=records).release.logits(records)
        assert torch.equal(records, given)

    def spoil(x):
        x[:] = 0.5
        return np.tile([0.1, 0.2, 0.7], (len(x), 1))

    as_target(spoil, classes=3, probe=records).release.logits(records)
    assert torch.equal(records, given)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_module_of_another_precision(dtype, records):
    model = network().to(dtype).eval()
    target = as_target(model, classes=3, probe=records)
    assert np.allclose(target.release.logits(records), model(records.to(dtype)).detach().double())
    fresh = target.architecture()()
    assert {parameter.dtype for parameter in fresh.parameters()} == {torch.float32}
    assert fresh.eval()(records).dtype == torch.float32


REFUSED = {
    "nan": (Function(lambda z: z * torch.nan), "NaN or infinity for 8 of 8 records"),
    "infinity": (Function(lambda z: z.masked_fill(z > -9, torch.inf)), "NaN or infinity"),
    "unnormalized": (Function(lambda z: z.sigmoid()), "expected rows of 0 or more that sum to 1"),
    "one row unnormalized": (
        Function(lambda z: z.softmax(1) * torch.ones(len(z), 1).index_fill(0, torch.tensor(0), 2)),
        "1 of 8 rows do not",
    ),
    "too many classes": (Function(lambda z: z, classes=5), "tells 5 classes apart and the data has 3"),
    "class numbers": (Function(lambda z: z.argmax(1)), "one number a record, where the data has 3 classes"),
    "one number": (Function(lambda z: z[:, :1]), "one number a record"),
    "feature map": (Function(lambda z: z[:, :, None]), r"expected an answer of shape \(8, 3\), got \(8, 3, 1\)"),
    "no tensor": (Function(lambda z: "cat"), "got str"),
    "tuple without answers": (Function(lambda z: (z[:, :2], None)), "none of its parts has shape"),
    "squeezed": (Function(lambda z: z.squeeze()), r"one record alone with shape \(3,\) instead of \(1, 3\)"),
    "mixes records": (Function(lambda z: z - z.mean(0)), "depends on the records asked with it"),
    "batch statistics": (
        nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3)),
        r"(?s)not one record alone: .*Batch norm '1' keeps no running statistics",
    ),
    "raises": (Function(lambda z: 1 / 0), "ZeroDivisionError: division by zero"),
    "lazy": (nn.Sequential(nn.LazyLinear(3)), "0.weight has no weights yet"),
    "a class": (nn.Linear, "got the class Linear. Make an instance"),
    "nothing": (None, "got NoneType"),
    "labels only": (SimpleNamespace(predict=len), "neither predict_proba nor decision_function"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_audited_is_refused(case, records):
    model, message = REFUSED[case]
    with pytest.raises(BadInputError, match=message):
        as_target(model, classes=3, probe=records)


def test_a_module_survives_its_own_error_in_its_mode(records):
    model = Function(lambda z: 1 / 0).train()
    with pytest.raises(BadInputError):
        as_target(model, classes=3, probe=records)
    assert model.training


def test_batch_statistics_of_a_network_for_images_are_found(images):
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten(), nn.Linear(144, 3)
    )
    with pytest.raises(BadInputError, match=r"depends on the records .*Batch norm '1' keeps no running statistics"):
        as_target(model, classes=3, probe=images)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(64, 3), r"8 records of shape \(1, 8, 8\).*expects 64 features.*nn.Flatten\(\) first"),
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 3)), "first layer 1 expects 784 features, the records have 64"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), "first layer 0 expects 3 channels, the records have shape"),
    ],
)
def test_a_wrong_input_shape_says_both_shapes_and_the_original_message(model, message, images):
    with pytest.raises(BadInputError, match=rf"(?s)RuntimeError: .*{message}|{message}"):
        as_target(model, classes=3, probe=images)


@pytest.mark.parametrize(
    ("form", "told", "message"),
    [("probabilities", True, "expected logits, as was said"), ("logits", False, "expected probabilities")],
)
def test_what_the_person_said_is_checked(form, told, message, records):
    with pytest.raises(BadInputError, match=message):
        as_target(Function(FORMS[form]), classes=3, probe=records, logits=told).release.logits(records)


def test_probabilities_stay_checked_after_the_probe(records):
    model = Function(lambda z: z.softmax(1) * (2 if len(z) == 12 else 1))
    target = as_target(model, classes=3, probe=records[:8])
    with pytest.raises(BadInputError, match=r"a row \d+ that sums to 2"):
        target.release.logits(records)


def test_an_empty_probe_and_a_budget_below_trying_are_refused(records):
    with pytest.raises(BadInputError, match="got none"):
        as_target(network(), classes=3, probe=records[:0])
    with pytest.raises(BadInputError, match="takes up to 12 queries, and the budget is 11"):
        as_target(network(), classes=3, probe=records, budget=11)
    assert as_target(network(), classes=3, probe=records[:1]).release.queries == 0


@pytest.mark.parametrize(
    ("table", "told", "logits"),
    [
        ([[0.0, 1.0], [1.0, 0.0]], None, False),
        ([[0.9995, 0.0], [0.5, 0.5]], None, False),
        ([[-3.0, 4.0], [0.5, 0.5], [2.0, 1.0]], None, True),
        ([[3.0, 4.0], [1.0, 2.0]], True, True),
        ([[-0.1, -2.3], [-0.7, -0.7]], None, True),
    ],
)
def test_logits_are_told_from_probabilities(table, told, logits):
    assert looks_like_logits(np.array(table), told) is logits


def test_logits_by_chance_like_probabilities_in_a_few_rows_are_logits():
    table = np.random.default_rng(0).normal(size=(200_000, 2))
    fits = (table.min(1) >= 0) & (np.abs(table.sum(1) - 1) < 1e-3)
    assert fits.any(), "the case must occur to be tested"
    assert looks_like_logits(table)


def test_examine_asks_no_more_than_it_says(records):
    asked = []

    def ask(x):
        asked.append(len(x))
        return torch.randn(len(x), 3)

    with seeded(0):
        examined = examine(ask, records, classes=3, logits=True)
    assert examined.asked == sum(asked) == 12
    assert isinstance(as_target(network(), classes=3, probe=records), Target)
