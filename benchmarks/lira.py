"""LiRA end to end against two peers: the same target, the same records, the same number of shadow models."""

import json
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.measure import Row, alternate, summarize
from benchmarks.peer_environment import NotRunError, ask, environment
from divulge.attacks.membership import Signals, View, assignment
from divulge.attacks.membership.lira import Lira
from divulge.attacks.membership.shrinkage import Shrinkage
from divulge.auditing.targets.estimators import estimator_target
from divulge.data import Dataset, concatenate, load, split
from divulge.errors import MissingDataError
from divulge.metrics import auc

PEERS = {"sacroml": "sacroml 2.0.1 (online LiRA)", "art": "ART 1.20.1 (black-box, random forest)"}
SHADOWS = 16
SETTINGS = {"hidden_layer_sizes": [64], "max_iter": 60, "random_state": 0}


def lira() -> list[Row]:
    """One row a peer; both are measured against divulge's LiRA, and the shrinkage attack's AUC is in the note."""
    from sklearn.exceptions import ConvergenceWarning

    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    data, count, which = _records()
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.npz"
        np.savez(
            task,
            records=data.inputs.flatten(1).numpy(),
            labels=data.targets.numpy(),
            members=count,
            shadows=SHADOWS,
            settings=json.dumps(SETTINGS),
        )
        try:
            python = environment()
            told = ask(python, "peers.py", "target", str(task))
        except NotRunError as error:
            return [Row(f"LiRA against {peer}", note=f"not run: {error}") for peer in PEERS.values()]
        target = _target(data, count)
        same = np.abs(np.exp(target.release.logits(data.inputs)) - told["posteriors"]).max()
        if same > 1e-3:
            reason = f"not run: the peers' environment trains another target (posteriors differ by {same:.2g})"
            return [Row(f"LiRA against {peer}", note=reason) for peer in PEERS.values()]
        rows = []
        for peer, name in PEERS.items():
            try:
                rows.append(_row(peer, python, task, data, count, which))
            except NotRunError as error:
                rows.append(Row(f"LiRA against {name}", note=f"not run: {error}"))
        return rows


def _row(peer: str, python: Path, task: Path, data: Dataset, count: int, which: str) -> Row:
    truth = np.arange(len(data)) < count
    aucs: dict[str, list[float]] = {"ours": [], "other": [], "shrinkage": []}
    target = _target(data, count)

    def ours() -> float:
        start = time.perf_counter()
        view = _shadowed(target, data)
        scores = Lira().run(view).scores
        spent = time.perf_counter() - start
        aucs["ours"].append(auc(scores, truth).value)
        aucs["shrinkage"].append(auc(Shrinkage().run(view).scores, truth).value)
        return spent

    def other() -> float:
        answer = ask(python, "peers.py", peer, str(task))
        aucs["other"].append(auc(np.asarray(answer["scores"]), truth).value)
        return float(answer["seconds"])

    row = summarize(f"LiRA against {PEERS[peer]}", alternate(ours, other, repeats=3), target=None)
    note = (
        f"{SHADOWS} shadows of MLPClassifier({SETTINGS['hidden_layer_sizes'][0]}), {count:,} members and "
        f"{len(data) - count:,} non-members of {which}; time from a fitted target to scores; divulge's "
        f"shrinkage attack on the same shadows: AUC {mean(aucs['shrinkage']):.3f}"
    )
    return replace(row, ours_auc=mean(aucs["ours"]), other_auc=mean(aucs["other"]), note=note)


def _records() -> tuple[Dataset, int, str]:
    try:
        data, each, which = load("location30"), 1000, "location30"
    except MissingDataError:
        data, each, which = load("digits"), 800, "digits"
    parts = split(data, {"members": each, "nonmembers": each}, seed=0, stratify=True)
    return concatenate([parts["members"], parts["nonmembers"]]), each, which


def _target(data: Dataset, count: int) -> Any:
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(**SETTINGS).fit(data.inputs[:count].flatten(1).numpy(), data.targets[:count].numpy())
    return estimator_target(model, classes=data.classes, probe=data.inputs[:8])


def _shadowed(target: Any, data: Dataset) -> View:
    members = assignment(len(data), SHADOWS, seed=0)
    refitted = [target.refit(data[mask], seed=number) for number, mask in enumerate(members)]
    answers = np.stack([release.logits(data.inputs) for release in refitted])
    return View(Signals(data.targets.numpy(), target.release.logits(data.inputs), answers, members))
