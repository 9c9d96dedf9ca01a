"""Factories and weights for the command line: what fits is loaded, what could run code never is."""

import pickle
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from divulge.auditing.targets import as_target, load_model, load_module
from divulge.errors import BadInputError

FILE = """
from __future__ import annotations
from dataclasses import dataclass
import torch
from torch import nn
from helpers import WIDTH
import parts.head

@dataclass
class Settings:
    width: int = WIDTH

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, Settings().width)
        self.head = parts.head.head(WIDTH)

    def forward(self, x):
        return self.head(self.body(x).relu())

def build():
    from late import NAME
    model = Net()
    model.label = NAME
    return model

def broken():
    return {}["nowhere"]

def greedy(width):
    return Net()

def number():
    return 3

def classifier():
    from sklearn.linear_model import LogisticRegression
    return LogisticRegression().fit([[0.0] * 4, [1.0] * 4], [0, 1])

def function():
    return lambda x: [[0.25, 0.75] for _ in x]

constant = 3
"""


HEAD = """from torch import nn

def head(width):
    layer = nn.Linear(width, 3)
    nn.init.constant_(layer.bias, -3.0)  # answers that nobody takes for probabilities
    return layer
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model.py").write_text(FILE)
    (tmp_path / "helpers.py").write_text("WIDTH = 5\n")
    (tmp_path / "late.py").write_text("NAME = 'late'\n")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "head.py").write_text(HEAD)
    return tmp_path


def spec(folder, factory="build"):
    return f"{folder / 'model.py'}:{factory}"


def test_a_factory_is_imported_with_its_neighbors_and_leaves_no_trace(folder, monkeypatch):
    other = type(sys)("helpers")
    monkeypatch.setitem(sys.modules, "helpers", other)
    modules, path = set(sys.modules), list(sys.path)
    model = load_module(spec(folder))
    assert model.body.out_features == 5
    assert model.label == "late"
    assert sys.path == path
    assert sys.modules["helpers"] is other
    assert not {name for name in set(sys.modules) - modules if name.split(".")[0] in ("late", "parts", "model")}
    assert not [name for name in sys.modules if "_divulge_model" in name]


def test_two_folders_with_neighbors_of_one_name(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for name in ("model.py", "late.py"):
        (other / name).write_text((folder / name).read_text())
    (other / "helpers.py").write_text("WIDTH = 9\n")
    (other / "parts").mkdir()
    (other / "parts" / "head.py").write_text((folder / "parts" / "head.py").read_text())
    assert [load_module(spec(place)).body.out_features for place in (folder, other)] == [5, 9]


def test_a_loaded_modules_architecture_can_be_sent_to_another_process(folder):
    target = as_target(load_module(spec(folder)), classes=3, probe=torch.rand(8, 4))
    make = pickle.loads(pickle.dumps(target.architecture()))
    assert make()(torch.rand(2, 4)).shape == (2, 3)


@pytest.mark.parametrize("factory", ["classifier", "function"])
def test_a_factory_may_return_other_forms(factory, folder):
    target = as_target(load_model(spec(folder, factory)), classes=2, probe=torch.rand(8, 4))
    assert target.release.logits(torch.rand(3, 4)).shape == (3, 2)
    with pytest.raises(BadInputError, match=r"returns a torch\.nn\.Module"):
        load_module(spec(folder, factory))
    with pytest.raises(BadInputError, match="weights belong to a torch module"):
        load_model(spec(folder, factory), folder / "w.safetensors")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("model.py:broken", "factory .*broken, called without arguments, raised KeyError: 'nowhere'"),
        ("model.py:greedy", r"raised TypeError: .*missing 1 required positional argument"),
        (
            "model.py:number",
            "a scikit-learn classifier or a callable, got int|fitted scikit-learn classifier or a callable, got int",
        ),
        ("model.py:missing", "has no function 'missing'. It has: Settings, Net, build"),
        ("model.py:constant", "has no function 'constant'"),
        ("model.py", r"expected path/to/file\.py:factory"),
        ("model.py:two words", r"expected path/to/file\.py:factory"),
        ("other.py:build", "there is no file"),
        ("model.joblib", "is a pickle, which can run any code"),
        ("model.pkl:build", "is a pickle, which can run any code"),
        ("syntax.py:build", r"syntax\.py could not be imported: SyntaxError"),
        ("raising.py:build", r"raising\.py could not be imported: RuntimeError: no luck"),
    ],
)
def test_a_bad_spec_is_explained(written, message, folder):
    (folder / "syntax.py").write_text("def build(:\n")
    (folder / "raising.py").write_text("raise RuntimeError('no luck')\n")
    path = list(sys.path)
    with pytest.raises(BadInputError, match=message):
        load_model(str(folder / written))
    assert sys.path == path
    assert not [name for name in sys.modules if "_divulge_model" in name]


@pytest.mark.parametrize("form", ["safetensors", "torch", "state_dict", "model", "parallel", "compiled"])
def test_weights_in_every_form(form, folder):
    trained = load_module(spec(folder))
    state = {key: value.detach().clone() for key, value in trained.state_dict().items()}
    path = folder / ("w.safetensors" if form == "safetensors" else "w.pt")
    if form == "safetensors":
        save_file(state, path)
    else:
        prefix = {"parallel": "module.", "compiled": "_orig_mod."}.get(form, "")
        written = {prefix + key: value for key, value in state.items()}
        torch.save({form: written, "epoch": 3} if form in ("state_dict", "model") else written, path)
    loaded = load_module(spec(folder), path)
    x = torch.rand(5, 4)
    assert torch.equal(loaded(x), trained(x))


class Evil:
    def __reduce__(self):
        return (exec, ("import sys; sys.divulged = True",))


def _misfit(path, form):
    good = {"body.weight": torch.zeros(5, 4), "body.bias": torch.zeros(5), "head.weight": torch.zeros(3, 5)}
    full = good | {"head.bias": torch.zeros(3)}
    states = {
        "missing": good,
        "unknown": full | {f"extra.{number}": torch.zeros(2) for number in range(7)},
        "shape": full | {"head.weight": torch.zeros(10, 5)},
    }
    if form in states:
        save_file(states[form], path)
    elif form == "truncated":
        save_file(full, path)
        path.write_bytes(path.read_bytes()[:-20])
    elif form == "garbage":
        path.write_bytes(b"\xff" * 64)
    elif form == "empty":
        path.write_bytes(b"")
    elif form == "pickled module":
        torch.save(nn.Linear(4, 3), path)
    elif form == "evil":
        path.write_bytes(pickle.dumps(Evil(), protocol=2))
    elif form == "evil torch":
        torch.save({"body.weight": Evil()}, path)
    elif form == "no tensors":
        torch.save({"epoch": 3, "loss": 0.1}, path)
    elif form == "list":
        torch.save([torch.zeros(3)], path)


MISFITS = {
    "missing": ("w.safetensors", r"it lacks 1: head\.bias \(3,\)"),
    "unknown": ("w.safetensors", r"it has unknown 7: extra\.0 \(2,\), .*extra\.4 \(2,\) and 2 more"),
    "shape": ("w.safetensors", r"another shape of 1: head\.weight \(10, 5\) instead of \(3, 5\)"),
    "truncated": ("w.safetensors", "no safetensors file, or a damaged one"),
    "garbage": ("w.safetensors", "no safetensors file, or a damaged one"),
    "empty": ("w.pt", "cannot be read as weights"),
    "pickled module": ("w.pt", r"safetensors\.torch\.save_file"),
    "evil": ("w.pkl", "never loaded"),
    "evil torch": ("w.pt", "never loaded"),
    "no tensors": ("w.pt", "expected a state dict, names to tensors.*keys epoch, loss"),
    "list": ("w.pt", "got a list"),
    "absent": ("w.pt", "there is no file"),
}


@pytest.mark.parametrize("form", MISFITS)
def test_bad_weights_are_explained_and_run_nothing(form, folder):
    name, message = MISFITS[form]
    _misfit(folder / name, form)
    with pytest.raises(BadInputError, match=message):
        load_module(spec(folder), folder / name)
    assert not hasattr(sys, "divulged")


@pytest.mark.parametrize("form", ["garbage", "truncated zip"])
def test_damaged_torch_files(form, folder):
    path = folder / "w.pt"
    if form == "garbage":
        path.write_bytes(b"\x00\x01garbage" * 20)
    else:
        torch.save(load_module(spec(folder)).state_dict(), path)
        path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BadInputError, match="cannot be read as weights"):
        load_module(spec(folder), path)


def test_a_prefix_that_belongs_to_the_model_stays(folder):
    (folder / "model.py").write_text(
        "from torch import nn\ndef build():\n    return nn.ModuleDict({'module': nn.Linear(2, 2)})\n"
    )
    weights = {"module.weight": torch.ones(2, 2), "module.bias": torch.ones(2)}
    save_file(weights, folder / "w.safetensors")
    assert torch.equal(load_module(spec(folder), folder / "w.safetensors")["module"].weight, torch.ones(2, 2))
