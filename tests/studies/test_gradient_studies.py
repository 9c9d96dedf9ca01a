import base64
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.report.results import figure, reproduction_page
from divulge.runs.engines import LocalEngine
from divulge.runs.store import Store
from divulge.studies import Results, gradients, labels, listed, open_study, run_study
from divulge.studies.gradient_rows import METRICS
from divulge.studies.gradients import GradientStudy
from divulge.studies.labels import LabelStudy

TINY = """
kind = "gradients"
title = "Gradients of digits, tiny"
source = "made up for a test"
data = "digits"
part = "train"
records = 400
draws = 2
pictures = 4
sheet = ["GS, no defense, LeNet, untrained", "GS, Soteria, LeNet, untrained"]

[networks.LeNet]
model = { name = "lenet" }
recipe = { epochs = 20, batch_size = 32, optimizer = "sgd", lr = 0.1, momentum = 0.9 }

[attacks]
GS = { name = "inverting-gradients", steps = 60 }
peel = { name = "peel" }

[defenses]
Soteria = { name = "soteria", rate = 0.8 }
pruning = { name = "gradient-pruning", rate = 0.8 }
pruning-less = { name = "gradient-pruning", rate = 0.1 }

[[published]]
row = "GS, Soteria, LeNet, untrained"
metric = "MSE"
adversary = "blind"
value = 0.06

[[ratios]]
of = ["Soteria", "Soteria"]
over = ["pruning", "none"]
published = 160.0

[[tables]]
networks = ["LeNet"]
attacks = ["GS"]
defenses = ["none", "Soteria", "pruning"]
adversaries = ["blind", "adaptive"]

[[tables]]
networks = ["LeNet"]
attacks = ["peel"]
stages = [0.0, 0.01, 1.0]

[scale.quick]
victims = 4

[scale.uneven]
victims = 5
"""

LABELS = """
kind = "labels"
title = "Labels of digits, tiny"
source = "made up for a test"
search = { name = "dlg", steps = 4 }

[[cases]]
row = "sigmoid"
data = "digits"
part = "train"
model = { name = "lenet" }
published = { search = 89.9 }

[[cases]]
row = "tanh"
data = "digits"
part = "train"
model = { name = "lenet", activation = "tanh" }
searched = false

[scale.quick]
victims = 40
searched = 2
batches = [4]
"""

SHIPPED = [name for name in listed() if type(open_study(name, scale="quick")) is GradientStudy]


def _file(folder, text) -> str:
    path = folder / "tiny.toml"
    path.write_text(text)
    return str(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gradients")
    return run_study(_file(folder, TINY), scale="quick", store=Store(folder / "runs"), engine=LocalEngine(1))


@pytest.fixture(scope="module")
def rows(finished):
    return {(row.row, row.metric, row.adversary): row for row in finished.rows}


def test_published_numbers_stand_beside_ours_with_interval_control_and_adversary(rows):
    row = rows["GS, Soteria, LeNet, untrained", "MSE", "blind"]
    assert row.published == 0.06
    assert row.low <= row.value <= row.high
    assert row.n == 4
    assert row.control is not None
    assert rows["GS, no defense, LeNet, untrained", "MSE", None].published is None
    for metric, score, *_ in METRICS:
        if score != "noise mse":  # of attacks on stochastic networks alone
            assert rows["GS, pruning, LeNet, untrained", metric, "adaptive"].control is not None


def test_an_exact_attack_meets_its_victim_and_no_other_record_of_the_class(rows):
    row = rows["peel, no defense, LeNet, untrained", "median PSNR", None]
    assert row.value > 80
    assert row.control < 30
    assert rows["peel, no defense, LeNet, untrained", "label accuracy", None].value == 100


def test_what_is_blind_to_a_defense_fails_where_knowing_it_does_not(rows):
    plain = rows["GS, no defense, LeNet, untrained", "PSNR", None].value
    blind = rows["GS, Soteria, LeNet, untrained", "PSNR", "blind"]
    adaptive = rows["GS, Soteria, LeNet, untrained", "PSNR", "adaptive"]
    assert blind.value < plain
    assert adaptive.value > blind.value
    gain = rows["GS, Soteria, LeNet, untrained", "PSNR beyond blind", "adaptive"]
    assert gain.value == pytest.approx(adaptive.value - blind.value)
    assert gain.low <= gain.value <= gain.high


def test_defenses_are_compared_on_the_same_victims_and_the_largest_ratio_beside_the_published_one(rows):
    soteria, pruning = (rows[f"GS, {name}, LeNet, untrained", "MSE", "blind"].value for name in ("Soteria", "pruning"))
    ratio = rows["GS, Soteria over pruning, LeNet, untrained", "MSE ratio", "blind"]
    assert ratio.value == pytest.approx(soteria / pruning)
    assert ratio.unit == "x"
    largest = [row for (_, metric, adversary), row in rows.items() if metric == "largest MSE ratio" and adversary]
    assert {row.adversary: row.published for row in largest} == {"blind": 160.0, "adaptive": None}


def test_a_trained_network_tells_its_accuracy_and_stages_differ(rows):
    early = rows["LeNet, after 1 % of training", "test accuracy", None]
    late = rows["LeNet, trained", "test accuracy", None]
    assert early.n == late.n == 80
    assert late.value > early.value
    assert rows["peel, no defense, LeNet, trained", "MSE", None].value >= 0


def test_how_far_a_defense_moves_the_gradient_is_told_once(rows):
    moved = [row for (_, metric, _), row in rows.items() if metric == "change of the gradient"]
    assert {row.row for row in moved} == {"Soteria, LeNet, untrained", "pruning, LeNet, untrained"}
    assert all(0 < row.value < 100 for row in moved)


def test_samples_travel_with_the_results_and_become_a_figure(finished, tmp_path):
    assert [(one.row, one.adversary) for one in finished.samples] == [
        ("originals", None),
        ("GS, no defense, LeNet, untrained", None),
        ("GS, Soteria, LeNet, untrained", "blind"),
        ("GS, Soteria, LeNet, untrained", "adaptive"),
    ]
    sizes = {Image.open(io.BytesIO(base64.b64decode(one.png))).size for one in finished.samples}
    assert sizes == {(4 * 8 + 3 * 2, 8)}
    assert Results.read(finished.write(tmp_path)) == finished
    # the name of a shipped study of the kind stands for the file of this test, which is gone when results are read
    shown = replace(finished, study=SHIPPED[0])
    drawn = figure(shown)
    assert drawn.svg.count("<image") == 4
    assert "adaptive, median" in drawn.alternative
    assert f"figures/{SHIPPED[0]}.quick.svg" in reproduction_page([shown])
    assert figure(replace(shown, samples=[])) is None


def test_labels_are_read_by_rules_and_searched_for(tmp_path):
    results = run_study(_file(tmp_path, LABELS), scale="quick", store=Store(tmp_path / "runs"), engine=LocalEngine(1))
    rows = {row.row: row for row in results.rows}
    assert rows["sign of the bias gradient, sigmoid"].value == 100
    assert rows["sign of the bias gradient, tanh"].value == 100
    assert rows["row sums of the weight gradient (iDLG), sigmoid"].value == 100
    assert rows["row sums of the weight gradient (iDLG), tanh"].value < 100
    assert rows["counts by the bias gradient, batches of 4, sigmoid"].value > 90
    searched = rows["dlg, label searched for with the image, sigmoid"]
    assert (searched.published, searched.n) == (89.9, 2)
    assert all(row.control < 60 for row in results.rows if row.n >= 10)


def _fake(name, **options):
    """Records of a data set's shape and classes, without its files."""
    shape = (3, 32, 32) if name.startswith("cifar") else (1, 28, 28)
    classes = 100 if name == "cifar100" else 10
    generator = torch.Generator().manual_seed(len(str(options)))
    inputs = torch.randint(256, (1500, *shape), generator=generator) / 255
    return Dataset(inputs, torch.arange(1500) % classes, classes=tuple(map(str, range(classes))), name=name)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_studies_of_gradients_are_whole(name, monkeypatch, tmp_path):
    monkeypatch.setattr(gradients, "load", _fake)
    study = open_study(name, scale="full")
    steps = study.steps(Store(tmp_path / "runs"), data_dir=None)
    cells = study.cells()
    assert len(steps) >= len(cells) * study.draws
    assert len({step.key for step in steps.values()}) == len(steps)
    known = {(cell.row, cell.adversary) for cell in cells}
    assert {(one.row, one.adversary) for one in study.published} <= known
    assert {one.metric for one in study.published} <= {metric for metric, *_ in METRICS}
    assert set(study.sheet) <= {cell.row for cell in cells}
    assert study.victims >= 32
    named = {name for ratio in study.ratios for name in (*ratio.of, *ratio.over)}
    assert named <= {cell.defense for cell in cells}


@pytest.mark.parametrize("name", SHIPPED)
def test_quick_scales_of_gradient_studies_build_their_graph(name, monkeypatch, tmp_path):
    monkeypatch.setattr(gradients, "load", _fake)
    study = open_study(name, scale="quick")
    study = replace(study, records=min(study.records or 1000, 1000))
    assert study.steps(Store(tmp_path / "runs"), data_dir=None)
    assert set(study.sheet) <= {cell.row for cell in study.cells()}


def test_the_shipped_study_of_labels_builds_its_graph(monkeypatch, tmp_path):
    monkeypatch.setattr(labels, "load", _fake)
    study = open_study("idlg-labels", scale="full")
    assert isinstance(study, LabelStudy)
    assert study.steps(Store(tmp_path / "runs"), data_dir=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('defenses = ["none", "Soteria", "pruning"]', 'defenses = ["Sotera"]'), "no defense 'Sotera'"),
        (('attacks = ["peel"]', 'attacks = ["peal"]'), "no attack 'peal'"),
        (('networks = ["LeNet"]', 'networks = ["VGG"]'), "no network 'VGG'"),
        (("stages = [0.0, 0.01, 1.0]", "stages = [0.0, 2.0]"), "stages from 0 to 1"),
        (("recipe = {", "# recipe = {"), "no recipe"),
        (("steps = 60", "stepz = 60"), "nearest is 'steps'"),
        (('{ name = "peel" }', '{ name = "lira" }'), "expected gradient attacks"),
        (("victims = 4", "victims = 5"), "share evenly"),
    ],
)
def test_wrong_studies_are_refused_in_words(change, message, tmp_path):
    path = _file(tmp_path, TINY.replace(*change))
    with pytest.raises(BadInputError, match=message):
        open_study(path, scale="quick").steps(Store(tmp_path / "runs"), data_dir=None)


def test_pictures_beside_each_other_keep_their_pixels():
    images = np.stack([np.full((3, 5, 4), value) for value in (0.0, 0.2)])
    picture = Image.open(io.BytesIO(base64.b64decode(gradients.strip(images)))).convert("RGB")
    assert picture.size == (10, 5)
    assert [picture.getpixel((x, 2)) for x in (0, 4, 9)] == [(0, 0, 0), (255, 255, 255), (51, 51, 51)]
