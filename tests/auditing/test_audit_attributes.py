"""What `divulge.audit` says of attributes: planted ones, none to find, those that cannot be guessed, and the export."""

import numpy as np
import pytest
import torch
from torch import nn

import divulge
from divulge.auditing.attribute_steps import categories
from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.runs.engines import LocalEngine

QUESTION = "What does the model tell of a record's attributes?"
N = 260


def pictures(**attributes):
    """Noise; the first pixel says what the attribute `hair` is."""
    generator = torch.Generator().manual_seed(0)
    hair = torch.randint(2, (N,), generator=generator)
    inputs = torch.rand(N, 1, 4, 4, generator=generator)
    inputs[:, 0, 0, 0] = hair.float()
    columns = {"hair": hair, **attributes}
    names = {"hair": ("dark", "fair")}
    targets = torch.randint(2, (N,), generator=generator)
    return Dataset(inputs, targets, attributes=columns, attribute_classes=names)


def audited(model, data, tmp_path, **settings):
    settings = {"budget": "quick", "run_dir": tmp_path / "run", "engine": LocalEngine(1), **settings}
    return divulge.audit(model, members=data[:120], nonmembers=data[120:], **settings)


def card(facts):
    (found,) = (one for one in facts.cards if one.question == QUESTION)
    return found


class Telling(nn.Module):
    """Its class depends on nothing but the first pixel, and less the more noise."""

    def __init__(self, gain):
        super().__init__()
        self.rest = nn.Linear(16, 2)
        self.gain = gain

    def forward(self, x):
        own = self.gain * x[:, 0, 0, :1]
        return 0.1 * self.rest(x.flatten(1)) + torch.cat([own, -own], dim=1)


def test_a_planted_attribute_is_told_by_answers_alone_and_exported(tmp_path):
    report = audited(Telling(1.0), pictures(), tmp_path)
    found = card(report.facts)
    assert found.band == 3
    assert found.release == "posteriors"
    assert found.finding.value > 0.95
    assert found.finding.control.value < 0.7
    assert "From the model's answer about a record" in found.sentence
    assert "could be guessed anyway" in found.sentence
    assert report.verdict.band == 3
    assert "hair" in report.verdict.sentence
    told = report.facts.records
    assert set(told["hair as guessed"][:120]) <= {"dark", "fair"}
    assert told["hair guessed right"][120:] == [""] * len(told["record"][120:])
    report.save(tmp_path / "out")
    assert "hair as guessed" in (tmp_path / "out" / "records.csv").read_text().splitlines()[0]
    assert divulge.Report.read(tmp_path / "out").facts == report.facts


def test_an_attribute_that_no_answer_depends_on_is_not_told(tmp_path):
    generator = torch.Generator().manual_seed(3)
    data = pictures(luck=torch.randint(3, (N,), generator=generator))
    found = card(audited(Telling(0.0), data, tmp_path).facts)
    assert found.band == 0
    assert "no sure difference" in found.sentence


def test_with_the_weights_every_layer_is_read_beside_an_untrained_copy(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
    facts = audited(model, pictures(), tmp_path, access="weights").facts
    (section,) = (one for one in facts.sections if one.title == "Attributes")
    table = next(one for one in section.blocks if one.kind == "table")
    assert [row[0] for row in table.rows][:3] == ["1", "2", "3"]
    assert [row[0] for row in table.rows][3:] == [
        f"without the model: {one}" for one in ("the most frequent value", "the class alone", "the record itself")
    ]
    assert all(row[4].endswith("%") for row in table.rows[:3])
    assert card(facts).band == 0, "a network with its first weights has learned nothing"


def test_what_cannot_be_guessed_is_left_out_with_a_reason(tmp_path):
    generator = torch.Generator().manual_seed(0)
    rare = torch.zeros(N, dtype=torch.long)
    rare[:3] = 1
    data = pictures(same=torch.ones(N, dtype=torch.long), rare=rare, age=80 * torch.rand(N, generator=generator))
    facts = audited(Telling(1.0), data, tmp_path).facts
    reasons = [line for line in facts.not_tested if line.startswith("Attribute ")]
    assert [line.split(":")[0] for line in reasons] == ["Attribute same", "Attribute rare"]
    assert set(facts.settings) >= {"attribute hair", "attribute age"}
    assert card(facts).finding is not None


def test_rare_values_go_with_their_records_and_numbers_become_ranges():
    hair = torch.arange(N) % 2
    hair[0] = 2
    data = Dataset(
        torch.rand(N, 1, 4, 4), torch.zeros(N, dtype=torch.long), classes=("a", "b"),
        attributes={"hair": hair, "age": torch.linspace(0, 80, N)}, attribute_classes={"hair": ("x", "y", "z")},
    )  # fmt: skip
    known, test, left = categories(data[120:], data[:120], "hair")
    assert (len(known), len(test), left) == (N - 120, 119, 1)
    assert known.attribute_classes["hair"] == ("x", "y")
    known, _, _ = categories(data[::2], data[1::2], "age")
    assert len(known.attribute_classes["age"]) == 5
    with pytest.raises(BadInputError, match="two values or more that 10"):
        categories(data[:10], data[10:], "hair")


def test_records_without_attributes_are_told_so(tmp_path):
    data = Dataset(pictures().inputs, pictures().targets)
    facts = audited(Telling(1.0), data, tmp_path).facts
    assert all(one.question != QUESTION for one in facts.cards)
    assert any("--attributes" in line for line in facts.not_tested)


def table(*, planted):
    """The class is the column `ill`, or has nothing to do with it; no other column tells it."""
    rng = np.random.default_rng(0)
    ill = rng.integers(2, size=N)
    inputs = np.column_stack([rng.random((N, 3)), ill == 0, ill == 1]).astype(np.float32)
    targets = ill if planted else rng.integers(2, size=N)
    return Dataset(
        torch.from_numpy(inputs), torch.from_numpy(targets), classes=("no", "yes"),
        features=("a", "b", "c", "ill=no", "ill=yes"), attributes={"ill": torch.from_numpy(ill)},
        attribute_classes={"ill": ("no", "yes")},
    )  # fmt: skip


def test_a_column_of_a_table_is_tried_on_the_model_beside_imputation(tmp_path):
    from sklearn.linear_model import LogisticRegression

    data = table(planted=False)
    model = LogisticRegression().fit(data.inputs.numpy()[:120], data.targets.numpy()[:120])
    facts = audited(model, data, tmp_path).facts
    found = card(facts)
    assert found.finding.metric.startswith("ill, precision at top")
    assert found.finding.control is not None
    assert found.band == 0
    assert "Without the model" in found.sentence
    (section,) = (one for one in facts.sections if one.title == "Attributes")
    shown = next(one for one in section.blocks if one.kind == "table")
    assert "imputation, without the model" in {row[0] for row in shown.rows}
    assert {row[1] for row in shown.rows} == {"members", "non-members"}
