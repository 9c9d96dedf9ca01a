"""Bad input as one table, through Python and through the command line: a clear word, and nothing half-made."""

import io
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import divulge
from divulge.errors import DivulgeError
from divulge.models import seeded
from divulge.runs.engines import LocalEngine

RNG = np.random.default_rng(0)
INPUTS, LABELS = RNG.random((40, 1, 4, 4), dtype=np.float32), RNG.integers(3, size=40)
OTHERS = RNG.random((40, 1, 4, 4), dtype=np.float32)


def network(classes=3):
    with seeded(0):  # some weights give only positive logits, which are taken for posteriors
        return nn.Sequential(nn.Flatten(), nn.Linear(16, classes))


def posteriors(change):
    def answer(rows):
        table = np.full((len(rows), 3), 1 / 3)
        change(table)
        return table

    return answer


def api(**changes):
    """Arguments of an audit, some of them changed."""
    plain = {"model": network(), "members": (INPUTS, LABELS), "nonmembers": (OTHERS, LABELS), "budget": "quick"}
    return plain | changes


def named(inputs, names):
    return divulge.Dataset(torch.from_numpy(inputs), torch.from_numpy(LABELS), classes=tuple(names))


MODEL_5 = "from torch import nn\ndef build(): return nn.Linear(5, 3)\n"
MODEL_NAN = "import torch\ndef build(): return lambda x: torch.full((len(x), 3), torch.nan)\n"


def npz(files, name, **arrays):
    np.savez(files[f"{name}.npz"], **{"inputs": INPUTS, "targets": LABELS, **arrays})
    return files[f"{name}.npz"]


def written(files, name, content):
    path = files.root / name
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)
    return str(path)


def table(files, rows, header="a,b,c,label"):
    return written(files, "bad.csv", "\n".join([header, *rows]))


def tables(files, rows, **more):
    bad = table(files, rows)
    return {"model": None, "weights": None, "members": bad, "nonmembers": files["nonmembers_table.csv"], **more}


def torched(values):
    buffer = io.BytesIO()
    torch.save(values, buffer)
    return buffer.getvalue()


def bad_store(files):
    files.root.joinpath("run").mkdir(exist_ok=True)
    written(files, "run/store.json", json.dumps({"schema": 999}))
    return {}


SHORT = INPUTS[:3], LABELS[:3]
GOOD_ROWS = ["0.2,0.3,0.5,a"] * 12
SECRET = [f"0.{row},{row % 3},{row % 2},{row % 2 + row // 6}" for row in range(12)]
# what is wrong: (arguments for Python, arguments for the command line made from its files, what both must say)
CASES = {
    "pixels of 255": (
        api(members=(INPUTS * 255, LABELS)),
        lambda f: {"members": npz(f, "bad", inputs=INPUTS * 255)},
        r"expected pixels in \[0, 1\].*Divide by 255",
    ),
    "NaN in a record": (
        api(members=(INPUTS * np.nan, LABELS)),
        lambda f: {"members": npz(f, "bad", inputs=INPUTS * np.nan)},
        "NaN or infinity",
    ),
    "labels below zero": (
        api(members=(INPUTS, LABELS - 1)),
        lambda f: {"members": npz(f, "bad", targets=LABELS - 1)},
        "class numbers from 0, got -1",
    ),
    "labels beyond the model's classes": (
        api(members=(INPUTS, LABELS + 5)),
        lambda f: {"members": npz(f, "bad", targets=LABELS + 5), "nonmembers": npz(f, "other", inputs=OTHERS)},
        r"tells 3 classes apart and the data has 8",
    ),
    "fewer labels than records": (
        api(members=(INPUTS, LABELS[:-1])),
        lambda f: {"members": npz(f, "bad", targets=LABELS[:-1])},
        r"one class number a record|targets|40",
    ),
    "records of another shape": (
        api(nonmembers=(OTHERS[..., :3], LABELS)),
        lambda f: {"nonmembers": npz(f, "bad", inputs=OTHERS[..., :3])},
        r"shape \(1, 4, 3\).*same way",
    ),
    "records of a shape that the model does not take": (
        api(model=nn.Linear(5, 3)),
        lambda f: {"model": f"{written(f, 'm5.py', MODEL_5)}:build", "weights": None},
        "could not answer 8 records of shape",
    ),
    "texts for records": (
        api(members=(np.array([["a"]] * 40), LABELS)),
        lambda f: {"members": written(f, "bad.npz", b"PK\x03\x04 no archive")},
        "expected|bad.npz",
    ),
    "no records": (
        api(members=(INPUTS[:0], LABELS[:0])),
        lambda f: {"members": npz(f, "bad", inputs=INPUTS[:0], targets=LABELS[:0])},
        "members: expected 10 records or more, got 0|no records|empty",
    ),
    "three records": (
        api(nonmembers=SHORT),
        lambda f: {"nonmembers": npz(f, "bad", inputs=INPUTS[:3], targets=LABELS[:3])},
        "non-members: expected 10 records or more, got 3",
    ),
    "one class": (
        api(members=(INPUTS, 0 * LABELS), nonmembers=(OTHERS, 0 * LABELS)),
        lambda f: {
            "members": npz(f, "bad", targets=0 * LABELS),
            "nonmembers": npz(f, "other", inputs=OTHERS, targets=0 * LABELS),
        },
        "two classes or more, got one",
    ),
    "members equal to the non-members": (
        api(nonmembers=(INPUTS, LABELS)),
        lambda f: {"nonmembers": f["members.npz"]},
        r"overlap: all of 40 non-members|are both .*members.npz.* Give each side records of its own",
    ),
    "seven members among the non-members": (
        api(nonmembers=(np.concatenate([OTHERS[:33], INPUTS[:7]]), LABELS)),
        lambda f: {
            "members": npz(f, "bad"),
            "nonmembers": npz(f, "o", inputs=np.concatenate([OTHERS[:33], INPUTS[:7]])),
        },
        "overlap: 7 of 40 non-members",
    ),
    "a model that answers NaN": (
        api(model=posteriors(lambda t: t.fill(np.nan))),
        lambda f: {"model": f"{written(f, 'nan.py', MODEL_NAN)}:build", "weights": None},
        "NaN or infinity",
    ),
    "posteriors that sum to two": (
        api(model=posteriors(lambda t: t.fill(2 / 3))),
        lambda f: tables(f, ["0.4,0.6,1.0,a"] * 12),
        "sum to 1",
    ),
    "NaN in a table": (
        None,
        lambda f: tables(f, ["0.2,0.3,0.5,a", "nan,0.5,0.5,b", *GOOD_ROWS]),
        "NaN or infinity in 1",
    ),
    "a label without a column": (None, lambda f: tables(f, ["0.2,0.3,0.5,z", *GOOD_ROWS]), "z"),
    "a table with words": (None, lambda f: tables(f, ["0.2,0.3,many,a", *GOOD_ROWS]), "expected a number, got 'many'"),
    "tables and weights": (
        None,
        lambda f: tables(f, GOOD_ROWS, weights=f["weights.safetensors"]),
        "--weights needs --model",
    ),
    "a factory that raises": (
        None,
        lambda f: {"model": f"{f['model.py']}:broken", "weights": None},
        "raised RuntimeError: no GPU here",
    ),
    "no such factory": (None, lambda f: {"model": f"{f['model.py']}:make"}, "no function 'make'. It has: build"),
    "a pickled model": (None, lambda f: {"model": f"{written(f, 'm.pkl', b'x')}:build"}, "is never loaded"),
    "no weights file": (None, lambda f: {"weights": f["nothing.pt"]}, "there is no file"),
    "corrupt safetensors": (
        None,
        lambda f: {"weights": written(f, "bad.safetensors", b"\x08" * 40)},
        "no safetensors file, or a damaged one",
    ),
    "half a state dict": (
        None,
        lambda f: {"weights": written(f, "bad.pt", torched({"w": torch.rand(50)})[:300])},
        "damaged",
    ),
    "pickled weights": (
        None,
        lambda f: {"weights": written(f, "bad.pt", pickle.dumps({"run": Path}))},
        "never loaded",
    ),
    "weights of another network": (
        None,
        lambda f: {"weights": written(f, "other.pt", torched({"9.weight": torch.rand(2, 2)}))},
        "does not fit Sequential: it lacks 4",
    ),
    "a data set that is not here": (
        None,
        lambda f: {"members": "cifar10", "data_dir": f["empty"]},
        "cifar10",
    ),
    "users and items for non-members": (
        None,
        lambda f: {"nonmembers": written(f, "pairs.csv", "user,item\n1,2\n2,3\n")},
        "got a table of users and items",
    ),
    "an attribute that is the label": (
        None,
        lambda f: {
            "members": table(f, SECRET, header="a,b,c,label"),
            "nonmembers": written(f, "others.csv", "\n".join(["a,b,c,label", *SECRET])),
            "attributes": "c,label",
        },
        "label says the same as the label of every record",
    ),
    "attributes where gradients are shared": (
        None,
        lambda f: {"access": "gradients", "attributes": "a"},
        "--attributes: used where posteriors are audited",
    ),
    "no such file": (None, lambda f: {"members": f["nowhere"]}, "nowhere"),
    "a report where a file stands": (
        None,
        lambda f: {"out": f"{written(f, 'file', 'x')}/report"},
        "is not a folder. Choose a folder that you can write to",
    ),
    "a run folder where a file stands": (
        api(run_dir="FILE"),
        lambda f: {"run_dir": written(f, "file", "x")},
        "expected a run folder|not a|Not a",
    ),
    "a run folder of another version": (
        api(run_dir="OLD"),
        bad_store,
        "expected version 1 of the run store, got version 999",
    ),
    "an unknown budget": (api(budget="huge"), None, "expected one of quick, standard, thorough, got 'huge'"),
    "an unknown defense": (api(defense="droput"), lambda f: {"defense": "droput"}, "the nearest is 'dropout'"),
    "an unknown defense to try": (
        api(budget="standard", defenses=["top-k", "droput"]),
        lambda f: {"budget": "standard", "defenses": "top-k,droput"},
        "the nearest is 'dropout'",
    ),
    "defenses to try where nothing may be trained": (
        api(defenses="top-k"),
        lambda f: {"defenses": "top-k"},
        "train shadow models, but the quick budget trains nothing",
    ),
    "a seed below zero": (api(seed=-1), None, "seed: expected 0 or more, got -1"),
    "a recipe with a typing error": (
        None,
        lambda f: {"recipe": written(f, "r.toml", "epoch = 3")},
        "the nearest is 'epochs'",
    ),
    "a recipe that is no TOML": (None, lambda f: {"recipe": written(f, "r.toml", b"\xff\xfe")}, "expected a TOML file"),
    "early stopping with nothing to stop by": (
        api(budget="standard", defense="dropout"),
        lambda f: {"budget": "standard", "defense": "dropout"},
        r"expected 100 non-members or more, got (40|60)",
    ),
    "a model and an endpoint": (None, lambda f: {"endpoint": "http://127.0.0.1:1"}, "not both"),
    "an endpoint without a name": (
        None,
        lambda f: {"model": None, "weights": None, "endpoint": "http://127.0.0.1:1"},
        "needs --endpoint-model",
    ),
    "a class instead of a model": (api(model=nn.Linear), None, "Make an instance"),
    "a number instead of a model": (api(model=3), None, "got int"),
    "classes of other names": (
        api(members=named(INPUTS, "abc"), nonmembers=named(OTHERS, "cba")),
        None,
        "Number the classes of both in the same order",
    ),
}


@pytest.mark.parametrize("case", [case for case, (arguments, _, _) in CASES.items() if arguments])
def test_python(case, tmp_path):
    arguments, _, message = CASES[case]
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "store.json").write_text(json.dumps({"schema": 999}))
    (tmp_path / "file").write_text("x")
    places = {"FILE": tmp_path / "file", "OLD": tmp_path / "old"}
    run_dir = places.get(arguments.get("run_dir"), tmp_path / "run")
    with pytest.raises(DivulgeError, match=message) as caught:
        divulge.audit(**{**arguments, "run_dir": run_dir, "engine": LocalEngine(1)})
    assert "expected" in str(caught.value) or len(str(caught.value)) > 40


@pytest.mark.parametrize("case", [case for case, (_, make, _) in CASES.items() if make])
def test_command_line(case, files, cli):
    _, make, message = CASES[case]
    status, out, err = cli(*files.audit(**make(files)))
    said = [line for line in err.splitlines() if line.startswith("divulge: ")]
    assert status == 2, err
    assert out == ""
    assert len(said) == 1
    assert err.splitlines()[-1] == said[0]
    assert re.search(message, said[0]), said[0]
    assert "Traceback" not in err
    assert not (files.root / "report").exists(), "a report of nothing"


@pytest.mark.parametrize(
    "arguments",
    [["audit"], ["audit", "--nonmembers", "x"], ["audit", "--seed", "-1"], ["audit", "--budget", "huge"], ["fly"]],
)
def test_wrong_usage_ends_with_status_2_and_no_traceback(arguments, cli):
    status, out, err = cli(*arguments)
    assert (status, out) == (2, "")
    assert "Usage" in err
    assert "Traceback" not in err


def test_a_model_in_training_mode_is_handled_and_noted(files, cli):
    status, _, err = cli(*files.audit())
    assert status == 0, err
    assert "training mode" in (files.root / "report" / "report.html").read_text()
