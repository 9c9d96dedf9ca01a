"""Sixteen fully connected shadow models: all at once against one after another."""

import copy

import torch
from torch import nn

from benchmarks import ordinary
from benchmarks.measure import Row, compare
from benchmarks.records import places
from divulge.attacks.membership import assignment
from divulge.models.mlp import MLP
from divulge.training import Recipe, fit, fit_stacked
from divulge.training.loop import has_fast_bfloat16

COUNT = 16


def mlp_shadows() -> list[Row]:
    """`fit_stacked` against the ordinary loop and against `fit`, each one after another; both in either precision."""
    data, which = places()
    members = assignment(len(data), COUNT, seed=0)
    parts = [data[mask] for mask in members]
    fresh = [MLP((256,)).build(data.shape, data.num_classes, seed=seed) for seed in range(COUNT)]
    fast = has_fast_bfloat16(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    rows = []
    for precision in ("fast", "float32"):
        recipe = Recipe(epochs=3, precision=precision)

        def stacked(recipe: Recipe = recipe) -> None:
            fit_stacked(fresh, data, members, recipe, seed=0)

        def ordinarily(recipe: Recipe = recipe) -> None:
            for model, part in zip(_copies(fresh), parts, strict=True):
                ordinary.loop(model, part, recipe)

        def one_by_one(recipe: Recipe = recipe) -> None:
            for model, part in zip(_copies(fresh), parts, strict=True):
                fit(model, part, recipe, seed=0)

        target = 2.5 if precision == "fast" and fast else None
        note = f"{COUNT} MLPs 446-256-30, {recipe.epochs} epochs of {len(parts[0]):,} of {len(data):,} records, {which}"
        for against, other in (("the ordinary loop", ordinarily), ("fit", one_by_one)):
            name = f"{COUNT} MLP shadows: fit_stacked ({precision}) against {against} one after another"
            rows.append(compare(name, stacked, other, repeats=5, target=target, note=note))
    return rows


def _copies(models: list[nn.Module]) -> list[nn.Module]:
    return [copy.deepcopy(model) for model in models]
