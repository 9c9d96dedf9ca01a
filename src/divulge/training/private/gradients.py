"""The clipped sum of one batch, in microbatches of bounded memory."""

from collections import OrderedDict
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import torch
from torch import Tensor, nn

from divulge.data import Dataset
from divulge.training.augment import transforms
from divulge.training.private.bound import Bound
from divulge.training.private.clipping import clipper
from divulge.training.private.independence import require_own_answers
from divulge.training.private.settings import Privacy
from divulge.training.recipe import Recipe


@dataclass
class Total:
    """What one batch adds up to.

    Args:
        sums: of clipped gradients, one a trainable parameter.
        within: see `Bound.within`.
        loss: of the records, where it was finite.
        counted: how many of those there were.
        dropped: records whose gradient was not finite, counted as zero.
    """

    sums: list[Tensor]
    within: float = 0.0
    loss: float = 0.0
    counted: int = 0
    dropped: int = 0


class Gradients:
    """Sums the clipped gradients of a model on any of the records it holds.

    Leading modules of an `nn.Sequential` that learn nothing, such as a scattering transform or a frozen backbone, are
    put into evaluation mode and no gradient goes through them.

    Args:
        model: is moved to `place`.
        data: the records; they are copied to `place` if they lie elsewhere, and a microbatch at a time from then on.
        recipe: names the augmentation and the precision.
        privacy: how many records at a time, and how many augmentations of each.
        place: where to compute.

    Raises:
        BadInputError: a layer that mixes records, a model that learns nothing, or augmentation of what are no images.
    """

    def __init__(self, model: nn.Module, data: Dataset, recipe: Recipe, privacy: Privacy, place: torch.device) -> None:
        self.augment, self.copies = transforms(recipe.augment, data.shape), privacy.multiplicity
        self.fixed, learned = _divided(model)
        self._clipped = clipper(learned, precision=recipe.precision)
        model.to(place).train()
        self.fixed.eval()
        self.parameters: list[Tensor] = [parameter for parameter in learned.parameters() if parameter.requires_grad]
        self.inputs, self.targets = data.inputs.to(place), data.targets.to(place)
        require_own_answers(self.fixed, self.inputs[:2], learns=False)
        self.microbatch = max(1, privacy.microbatch // privacy.multiplicity)

    def __call__(self, rows: np.ndarray, bound: Bound, generator: torch.Generator) -> Total:
        """The sum over the records numbered `rows`, which may be none."""
        total = Total([torch.zeros_like(parameter) for parameter in self.parameters])
        for start in range(0, len(rows), self.microbatch):
            part = torch.from_numpy(rows[start : start + self.microbatch]).to(self.inputs.device)
            batch, targets = self._copies(part, generator), self.targets.index_select(0, part)
            clipped = self._clipped(batch, targets, bound.rule, augmented=self.copies > 1)
            torch._foreach_add_(total.sums, clipped.sums)
            finite = clipped.losses[clipped.losses.isfinite()]
            total.within += bound.within(clipped.norms)
            total.loss += float(finite.sum())
            total.counted += len(finite)
            total.dropped += clipped.dropped
        return total

    @torch.no_grad()
    def _copies(self, part: Tensor, generator: torch.Generator) -> Tensor:
        """The inputs `(B, *shape)`, or `(B, K, *shape)` where each has K augmentations, past the fixed modules."""
        batch = self.inputs.index_select(0, part)
        if self.copies > 1:
            batch = batch.repeat_interleave(self.copies, dim=0)
        for transform in self.augment:
            batch = transform(batch, generator)
        batch = self.fixed(batch)
        return batch.unflatten(0, (len(part), self.copies)) if self.copies > 1 else batch


def _divided(model: nn.Module) -> tuple[nn.Sequential, nn.Module]:
    """The leading modules that learn nothing, and the rest; dropout stays with the rest, which is in training mode."""
    if type(model) is not nn.Sequential:
        return nn.Sequential(), model
    layers = list(model.named_children())
    fixed = list(takewhile(lambda named: _learns_nothing(named[1]), layers))
    return nn.Sequential(OrderedDict(fixed)), nn.Sequential(OrderedDict(layers[len(fixed) :]))


def _learns_nothing(module: nn.Module) -> bool:
    return not isinstance(module, nn.modules.dropout._DropoutNd) and not any(
        parameter.requires_grad for parameter in module.parameters()
    )
