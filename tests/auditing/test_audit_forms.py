"""`divulge.audit` on every form of a model and of records; what it hands back, and what it does not do twice."""

import json
import random

import numpy as np
import pytest
import torch
from audit_specimens import CLASSES, network, overfitted, records
from torch import nn

import divulge
from divulge.data import Dataset
from divulge.errors import BadInputError, DivulgeError
from divulge.runs.engines import LocalEngine
from divulge.runs.store import Store
from divulge.training import Recipe

BRIEF = Recipe(epochs=4, batch_size=16, lr=0.01)
MEMBERS, OTHERS = records(40), records(60, seed=1)
TRAINING = ("divulge.auditing.train:train", "divulge.auditing.ask:refit")


def run(model, tmp_path, *, members=MEMBERS, nonmembers=OTHERS, **settings):
    settings = {"budget": "quick", "recipe": BRIEF, "run_dir": tmp_path / "run", "engine": LocalEngine(1), **settings}
    return divulge.audit(model, members=members, nonmembers=nonmembers, **settings)


def computed(tmp_path):
    return [(step.function, step.key) for step in Store(tmp_path / "run").steps()]


def estimator():
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(random_state=0).fit(MEMBERS.inputs.numpy(), MEMBERS.targets.numpy())


def answering():
    model = network().eval()

    def answer(rows):
        with torch.no_grad():
            return model(torch.from_numpy(rows)).softmax(1).numpy()

    return answer


MODELS = {
    "torch module": (network, {}, "untrained copy"),
    "scikit-learn classifier": (estimator, {}, "No control was possible"),
    "Python callable": (answering, {}, "No control was possible"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_every_form_of_a_model_is_audited_and_its_report_says_what_was_not_tested(kind, tmp_path):
    make, settings, control = MODELS[kind]
    report = run(make(), tmp_path, **settings)
    assert kind in report.facts.released
    assert control in report.verdict.confidence
    assert any(line.startswith("Attacks with shadow models") for line in report.facts.not_tested)
    assert report.facts.settings["records"] == "40 members, 60 nonmembers"
    page = report.save(tmp_path / "out")
    assert sorted(path.name for path in page.parent.iterdir()) == ["records.csv", "report.html", "report.json"]
    assert divulge.Report.read(tmp_path / "out").facts == report.facts
    assert len((tmp_path / "out" / "records.csv").read_text().splitlines()) == 101
    assert len(str(report).splitlines()) <= 10


class Pairs(torch.utils.data.Dataset):
    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, row):
        return self.data.inputs[row], int(self.data.targets[row])


FORMS = {
    "torch dataset": Pairs,
    "tensors": lambda data: (data.inputs, data.targets),
    "arrays": lambda data: (data.inputs.numpy(), data.targets.numpy()),
    "lists": lambda data: (data.inputs.tolist(), data.targets.tolist()),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_records_gives_the_same_numbers(form, tmp_path):
    plain = run(network(), tmp_path)
    told = run(network(), tmp_path, members=FORMS[form](MEMBERS), nonmembers=FORMS[form](OTHERS), classes=CLASSES)
    assert told.facts.records["score"] == plain.facts.records["score"]
    assert told.facts.records["class"] == plain.facts.records["class"]


class Grumpy(nn.Module):
    """Answers `patience` calls, then fails."""

    def __init__(self, patience):
        super().__init__()
        self.inner = nn.Sequential(nn.Dropout(0.5), network())
        self.patience = patience
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls > self.patience:
            raise RuntimeError("no more")
        return self.inner(x)


@pytest.mark.parametrize(("patience", "budget"), [(10**6, "quick"), (10**6, "standard"), (4, "quick"), (0, "quick")])
def test_the_model_the_generators_and_the_records_are_as_they_were(patience, budget, tmp_path):
    model = Grumpy(patience)
    model.train()
    model.inner[1].eval()
    model.inner[1][1].weight.requires_grad_(False)
    model.inner[1][3].bias.grad = torch.ones(len(CLASSES))
    fired = []
    handle = model.inner[1].register_forward_hook(lambda *_: fired.append(1))
    modes = [layer.training for layer in model.modules()]
    values = {name: value.clone() for name, value in model.state_dict().items()}
    needed = {name: value.requires_grad for name, value in model.named_parameters()}
    hooks = {name: len(layer._forward_hooks) for name, layer in model.named_modules()}
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    inputs = MEMBERS.inputs.clone()

    if patience <= 4:
        with pytest.raises(DivulgeError, match="no more"):
            run(model, tmp_path, budget=budget)
    else:
        report = run(model, tmp_path, budget=budget)
        assert "training mode" in " ".join(report.facts.assumptions)

    assert [layer.training for layer in model.modules()] == modes
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
    assert {name: value.requires_grad for name, value in model.named_parameters()} == needed
    assert torch.equal(model.inner[1][3].bias.grad, torch.ones(len(CLASSES)))
    assert {name: len(layer._forward_hooks) for name, layer in model.named_modules()} == hooks
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (threads, grad)
    assert torch.equal(MEMBERS.inputs, inputs)
    handle.remove()


@pytest.mark.parametrize("make", [network, estimator])
def test_quick_trains_nothing(make, tmp_path):
    report = run(make(), tmp_path)
    assert not any(function in TRAINING for function, _ in computed(tmp_path))
    assert "the quick budget trains nothing" in " ".join(report.facts.not_tested)


@pytest.mark.parametrize("make", [lambda: overfitted(MEMBERS), estimator])
def test_the_same_call_again_computes_nothing_and_says_the_same(make, tmp_path):
    first = run(make(), tmp_path, budget="standard")
    done = computed(tmp_path)
    assert any(function in TRAINING for function, _ in done)
    second = run(make(), tmp_path, budget="standard")
    assert computed(tmp_path) == done
    assert second.facts.records == first.facts.records
    assert second.verdict == first.verdict


def test_a_larger_budget_keeps_what_a_smaller_one_computed_and_another_seed_does_not(tmp_path):
    model = overfitted(MEMBERS)
    run(model, tmp_path)
    quick = {key for _, key in computed(tmp_path)}
    run(model, tmp_path, budget="standard")
    standard = [key for _, key in computed(tmp_path)]
    assert quick <= set(standard)
    assert len(standard) == len(set(standard))
    run(model, tmp_path, seed=1)
    assert len(computed(tmp_path)) > len(standard)


class Own(nn.Module):
    """A parameter that nothing knows how to reset."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(32, 16) - 0.5)

    def forward(self, x):
        return x @ self.weight


class Frozen(nn.Module):
    """Answers that no gradient reaches."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(32, 16)

    def forward(self, x):
        with torch.no_grad():
            return self.linear(x)


@pytest.mark.parametrize(
    ("make", "reason", "posing"),
    [(Own, "nothing gives new initial values to weight", False), (Frozen, "raised RuntimeError", True)],
)
@pytest.mark.parametrize("budget", ["quick", "standard"])
def test_a_model_whose_shadows_cannot_be_trained_is_audited_without(make, reason, posing, budget, tmp_path):
    report = run(make(), tmp_path, budget=budget)
    (line,) = (line for line in report.facts.not_tested if line.startswith("Attacks with shadow models"))
    assert reason in line or (budget == "quick" and posing)
    assert ("untrained copy" in report.verdict.confidence) == posing
    assert report.facts.settings["shadow models"] == "0"
    assert "budget standard" not in report.verdict.advice or (budget == "quick" and posing)


def test_tiny_sets_are_audited_without_a_population(tmp_path):
    report = run(overfitted(MEMBERS[:10]), tmp_path, members=MEMBERS[:10], nonmembers=OTHERS[:10], budget="standard")
    assert "10 members, 10 nonmembers" in report.facts.settings["records"]
    assert any(line.startswith("rmia: needs records known not to be members") for line in report.facts.not_tested)
    low, high = report.facts.cards[0].finding.low, report.facts.cards[0].finding.high
    assert high - low > 0.2, "so few records cannot be sure of much"


def test_one_class_seen_of_several_named_is_audited(tmp_path):
    one = Dataset(MEMBERS.inputs, torch.zeros(40, dtype=torch.int64), classes=CLASSES)
    other = Dataset(OTHERS.inputs, torch.ones(60, dtype=torch.int64), classes=CLASSES)
    report = run(network(), tmp_path, members=one, nonmembers=other, budget="standard")
    assert report.facts.settings["classes"] == "16"
    assert "differ in kind" in report.verdict.confidence, "the label alone tells them apart"


def test_class_names_come_from_whichever_side_has_them(tmp_path):
    plain = (OTHERS.inputs, OTHERS.targets)
    report = run(network(), tmp_path, nonmembers=plain)
    assert set(report.facts.records["class"]) <= set(CLASSES)
    swapped = run(network(), tmp_path, members=(MEMBERS.inputs, MEMBERS.targets), nonmembers=OTHERS)
    assert swapped.facts.records["class"] == report.facts.records["class"]


def test_attributes_names_and_columns_reach_the_report_unharmed(tmp_path):
    hostile = "=HYPERLINK(1)<script>alert(1)</script>\n\u202e\ud800"
    columns = tuple(f"column {number}" for number in range(32))

    def side(data, offset):
        sex = torch.arange(len(data)) % 2
        only = {"here": sex} if offset else {}
        return Dataset(
            data.inputs,
            data.targets,
            attributes={"sex": sex, **only},
            attribute_classes={"sex": ("f", "<i>m</i>")},
            classes=(*CLASSES[:-1], "<b>p</b>"),
            ids=tuple(f"{hostile}{offset + row}" for row in range(len(data))),
            features=columns,
            name="things",
        )

    report = run(network(), tmp_path, members=side(MEMBERS, 0), nonmembers=side(OTHERS, 40))
    (bars,) = (b for s in report.facts.sections for b in s.blocks if getattr(b, "title", "") == "By sex")
    assert set(bars.labels) == {"f", "<i>m</i>"}
    assert report.facts.records["record"][0] == f"{hostile}0"
    gallery = next(b for s in report.facts.sections for b in s.blocks if b.kind == "gallery")
    assert gallery.tiles[0].text.startswith("column 0 0.")
    page = report.save(tmp_path / "out").read_text()
    assert "<script>alert(1)" not in page
    assert "<b>p</b>" not in page
    table = (tmp_path / "out" / "records.csv").read_text()
    assert "\n=HYPER" not in table
    assert json.loads((tmp_path / "out" / "report.json").read_text(), strict=True)
    assert hostile[:5] in str(report) or len(str(report).splitlines()) <= 10


def test_a_query_budget_is_kept_and_the_records_are_chosen_by_it(tmp_path):
    from divulge.auditing.audit import Means, audit, comparable, prepare
    from divulge.auditing.targets import as_target

    inside, outside = comparable(MEMBERS, OTHERS)
    asked = []
    answer = answering()
    target = as_target(
        lambda rows: asked.append(len(rows)) or answer(rows), classes=CLASSES, probe=inside.inputs[:8], budget=60
    )
    subject = prepare(target, inside, outside, Means("quick"), store=Store(tmp_path), engine=LocalEngine(1))
    facts = audit(subject, command="")
    assert sum(asked) == target.release.queries <= 60
    assert facts.settings["records"] == "20 members, 30 nonmembers, of 100 given"
    with pytest.raises(BadInputError, match=r"10 went into trying the model, and the rest pays for 8 and 12. Raise it"):
        prepare(
            as_target(answer, classes=CLASSES, probe=inside.inputs[:8], budget=30),
            inside,
            outside,
            Means("quick"),
            store=Store(tmp_path),
            engine=LocalEngine(1),
        )
