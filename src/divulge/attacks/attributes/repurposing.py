"""Re-purposing: a network fine-tuned to tell an attribute that it was not trained for."""

import copy
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from divulge.attacks.attributes.base import AttributeGuesses, require_attribute
from divulge.attacks.base import Attack
from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.releases import Weights
from divulge.training import Recipe, fit, logits


@dataclass(frozen=True)
class Repurposing(Attack):
    """Gives a released network a new last layer for the attribute, and trains all of it on a few known records.

    Song and Shmatikov 2020 (arXiv 1905.11742). Its control is the same on a network with its first weights: what the
    few records teach without what the release has learned.

    Args:
        recipe: how it is trained on.
        seed: of the new layer and the order of records.
    """

    name: ClassVar[str] = "repurposing"
    source: ClassVar[str] = "Song and Shmatikov 2020, arXiv 1905.11742"

    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=30, batch_size=64))
    seed: int = 0

    def run(self, release: Weights, known: Tensor, attribute: np.ndarray, records: Tensor) -> AttributeGuesses:
        """Guess the attribute of records.

        Args:
            release: the network, left as it was.
            known: the adversary's own records, float32 `(m, *shape)`.
            attribute: their values, int64 `(m,)` from 0.
            records: those to guess, float32 `(n, *shape)`.

        Raises:
            BadInputError: a network without a linear layer, records and attributes of different counts, values that are
                no whole numbers from 0, or an attribute that never varies.
        """
        return self.guessed(self.tuned(release, known, attribute), records)

    def tuned(self, release: Weights, known: Tensor, attribute: np.ndarray) -> nn.Module:
        """The network that tells the attribute; arguments and errors as of `run`."""
        attribute = np.asarray(attribute)
        if len(known) != len(attribute):
            raise BadInputError(
                f"repurposing: expected an attribute for each known record, got {len(attribute)} for {len(known)}."
            )
        values = require_attribute(attribute, where="repurposing")
        model = with_new_answer(release.model, int(values.max()) + 1, seed=self.seed)
        fit(model, Dataset(known, torch.from_numpy(attribute.astype(np.int64))), self.recipe, seed=self.seed)
        return model

    def guessed(self, tuned: nn.Module, records: Tensor) -> AttributeGuesses:
        """What the network of `tuned` guesses."""
        return AttributeGuesses(torch.from_numpy(logits(tuned, records)).double().softmax(dim=1).numpy())


def with_new_answer(model: nn.Module, values: int, *, seed: int) -> nn.Module:
    """A copy of `model` whose last linear layer is a fresh one that gives `values` numbers.

    Raises:
        BadInputError: no linear layer.
    """
    model = copy.deepcopy(model)
    linear = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise BadInputError(
            "repurposing: expected a network that ends in a linear layer, got none in it. Read its layers instead."
        )
    name, last = linear[-1]
    with seeded(seed):
        fresh = nn.Linear(last.in_features, values)
    if not name:
        return fresh
    place, _, own = name.rpartition(".")
    setattr(model.get_submodule(place), own, fresh)
    return model.requires_grad_(True)
