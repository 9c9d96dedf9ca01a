"""A small model, its weights and its records as files, and the command line in this process."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from divulge.models.mlp import MLP

FACTORY = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 3))

def broken():
    raise RuntimeError("no GPU\\nhere")

def normed():
    torch.manual_seed(0)  # the same model in every process
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 3))
"""


@dataclass(frozen=True)
class Files:
    """Where things lie."""

    root: Path

    def __getitem__(self, name):
        return str(self.root / name)

    def audit(self, **changes):
        """Arguments of a quick audit of the model, some of them changed; None leaves one out."""
        plain = {
            "model": f"{self['model.py']}:build",
            "weights": self["weights.safetensors"],
            "members": self["members.npz"],
            "nonmembers": self["nonmembers.npz"],
            "budget": "quick",
            "run_dir": self["run"],
            "out": self["report"],
            "workers": "1",
        }
        told = ["audit"]
        for key, value in (plain | changes).items():
            if value is not None:
                told += [f"--{key.replace('_', '-')}", str(value)]
        return told


@pytest.fixture
def files(tmp_path):
    from safetensors.torch import save_file

    rng = np.random.default_rng(0)
    for name, count in (("members", 60), ("nonmembers", 60)):
        inputs = rng.random((count, 1, 4, 4), dtype=np.float32)
        np.savez(tmp_path / f"{name}.npz", inputs=inputs, targets=rng.integers(3, size=count))
    (tmp_path / "model.py").write_text(FACTORY)
    save_file(MLP((24,)).build((1, 4, 4), 3, seed=0).state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "recipe.toml").write_text("epochs = 3\nbatch_size = 16\n")
    for name in ("members", "nonmembers"):
        table = rng.dirichlet(np.ones(3), size=60)
        labels = rng.integers(3, size=60)
        np.savez(tmp_path / f"{name}_table.npz", posteriors=table, labels=labels)
        lines = ["id,a,b,c,label"]
        for row, (p, label) in enumerate(zip(table, labels, strict=True)):
            lines.append(f"r{row},{p[0]!r},{p[1]!r},{1 - p[0] - p[1]!r},{'abc'[label]}".replace("np.float64", ""))
        (tmp_path / f"{name}_table.csv").write_text("\n".join(lines).replace("(", "").replace(")", ""))
    return Files(tmp_path)


@pytest.fixture
def cli(monkeypatch, capsys):
    """Runs the command line in this process; gives its exit status and what it wrote to either stream."""
    from divulge.cli import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["divulge", *map(str, arguments)])
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
        written = capsys.readouterr()
        return status, written.out, written.err

    return run
