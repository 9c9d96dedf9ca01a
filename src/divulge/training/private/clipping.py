"""Exact sums of per-example clipped gradients, by the fastest exact way for each model."""

import math
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.training.loop import has_fast_bfloat16
from divulge.training.private.closed_form import ClosedForm
from divulge.training.private.exactness import Trial, attempted, require_exact, stirred
from divulge.training.private.ghost import Ghost
from divulge.training.private.independence import require_per_example
from divulge.training.private.losses import Loss, cross_entropy
from divulge.training.private.parts import Gradients, Method, UnsupportedError
from divulge.training.private.rules import Clipped, Rule, automatic, flat
from divulge.training.private.vmapped import Vmapped

__all__ = ["Clipped", "Clipper", "Rule", "automatic", "clipper", "flat", "require_per_example"]

Way = Literal["linear", "ghost", "vmap"]
MEMORY = {"cpu": 1 << 25, "cuda": 1 << 31}
"""Bytes that the examples computed at once may take; on a CPU few enough to be found in its cache again."""
FEWEST, MOST = 8, 1024
"""Examples at once, whatever they take: fewer waste time on what every block costs, more save none."""


class Clipper:
    """Sums the clipped gradients of one model; made by `clipper`."""

    def __init__(self, model: nn.Module, ways: tuple[Way, ...], loss: Loss, chunk: int | None, fast: bool) -> None:
        self.model, self.loss, self.chunk, self.fast = model, loss, chunk, fast
        self._ways, self._block = ways, 1
        self._method: Method
        self._prepared: Any = None

    def __call__(self, inputs: Tensor, targets: Tensor, rule: Rule, *, augmented: bool = False) -> Clipped:
        """The clipped sum over a batch. What is in `.grad` stays there, and the model is as it was.

        Args:
            inputs: examples `(B, *shape)`, of which there may be none; with `augmented` `(B, K, *shape)`: `K` copies of
                each, whose gradients are averaged before clipping.
            targets: of the examples, `(B, ...)`.
            rule: from norms to coefficients.
            augmented: whether the second axis of `inputs` is that of copies.

        Raises:
            BadInputError: examples that depend on each other, in the model or in the loss, or a model that the method
                asked for is not exact for.
        """
        if len(inputs) != len(targets):
            raise BadInputError(f"clipping: expected as many targets as inputs, got {len(targets)} and {len(inputs)}.")
        if not augmented:
            inputs = inputs.unsqueeze(1)
        learned = _learned(self.model)
        self._prepare(inputs, targets, learned)
        if len(inputs) <= self._block:
            return self._clipped(inputs, targets, rule, learned)
        blocks = math.ceil(len(inputs) / self._block)
        each: list[Clipped] = []
        for block in zip(inputs.chunk(blocks), targets.chunk(blocks), strict=True):
            found = self._clipped(*block, rule, learned)
            if each:
                torch._foreach_add_(each[0].sums, found.sums)
                found = replace(found, sums=[])
            each.append(found)
        norms, losses = (torch.cat([getattr(one, name) for one in each]) for name in ("norms", "losses"))
        return Clipped(each[0].sums, norms, losses, sum(one.dropped for one in each))

    def _clipped(self, inputs: Tensor, targets: Tensor, rule: Rule, learned: list[nn.Parameter]) -> Clipped:
        """The clipped sum over examples that are computed at once."""
        if len(inputs) == 0:
            none = torch.zeros(0, device=inputs.device)
            return Clipped([_zeros(parameter) for parameter in learned], none, none, 0)
        gradients = self._gradients(inputs, targets, learned)
        norms = gradients.norms()
        if not math.isfinite(norms.sum()):
            finite = norms.isfinite()
            if not finite.all():
                kept = self._clipped(inputs[finite], targets[finite], rule, learned)
                norms = torch.zeros_like(norms).masked_scatter_(finite, kept.norms)
                return Clipped(kept.sums, norms, gradients.losses, kept.dropped + int((~finite).sum()))
        coefficients = rule(norms)
        sums = [
            gradients.parts[place].total(coefficients) if place in gradients.parts else _zeros(parameter)
            for place, parameter in enumerate(learned)
        ]
        return Clipped(sums, norms, gradients.losses, 0)

    def _gradients(self, inputs: Tensor, targets: Tensor, learned: list[nn.Parameter]) -> Gradients:
        try:
            return self._method(inputs, targets)
        except UnsupportedError as error:
            self._discard(error)
            self._prepare(inputs, targets, learned)
            return self._gradients(inputs, targets, learned)

    def _prepare(self, inputs: Tensor, targets: Tensor, learned: list[nn.Parameter]) -> None:
        """Choose the method and how many examples at once, after checking what both rely on."""
        kind = (inputs.shape[1:], inputs.device, [id(parameter) for parameter in learned])
        if kind == self._prepared or len(inputs) == 0:
            return
        with stirred(self.model):
            trial = attempted(self.model, self.loss, inputs[:2], targets[:2])
            require_per_example(self.model, inputs[:2].flatten(0, 1))
            found = self._tried(trial)
        self._method = self._made(fast=self.fast and has_fast_bfloat16(inputs.device))
        each = (trial.saved + found.held) // len(trial.inputs) + 1
        self._block = self.chunk or min(max(MEMORY[inputs.device.type] // each, FEWEST), MOST)
        if trial.finite.all() and len(trial.inputs) > 1:  # else the check has not seen everything
            self._prepared = kind

    def _tried(self, trial: Trial) -> Gradients:
        """What the first exact method finds for a trial."""
        try:
            with seeded(0):  # the random draws of the trial
                found = self._made(fast=False)(trial.inputs, trial.targets)
            if self._ways[0] != "vmap":  # exact by construction, and its draws are others
                require_exact(found, trial)
            return found
        except UnsupportedError as error:
            self._discard(error)
            return self._tried(trial)

    def _made(self, *, fast: bool) -> Method:
        match self._ways[0]:
            case "linear":
                if self.loss is not cross_entropy:
                    raise UnsupportedError("the loss is not the default one")
                return ClosedForm(self.model)
            case "ghost":
                return Ghost(self.model, self.loss, fast=fast)
        return Vmapped(self.model, self.loss, fast=fast)

    def _discard(self, error: UnsupportedError) -> None:
        """Go on with the next method, if there is one."""
        tried, self._ways = self._ways[0], self._ways[1:]
        self._prepared = None
        if not self._ways:
            raise BadInputError(f"clipping: method {tried!r} is not exact here: {error}. Use 'auto'.") from error


def clipper(
    model: nn.Module,
    *,
    method: Literal["auto", "linear", "ghost", "vmap"] = "auto",
    loss: Loss = cross_entropy,
    chunk: int | None = None,
    precision: Literal["fast", "float32"] = "float32",
) -> Clipper:
    """What sums the clipped gradients of `model`, whose weights and mode it reads at each call.

    Dropout and other random layers draw for each example and copy anew, from the global random state.

    Args:
        model: maps float32 `(N, *shape)` to answers `(N, ...)`. Gradients are those of parameters with `requires_grad`.
        method: `linear`, the closed form of one linear layer under cross-entropy; `ghost`, from the inputs and outputs
            of layers; `vmap`, each gradient by itself; `auto`, the first of them that is exact for the model. The first
            batch is checked against PyTorch's own backward pass.
        loss: answers and targets to one loss an example, `(N,)`.
        chunk: examples at once; None for as many as bounded memory allows, which is also the fastest.
        precision: `fast` computes the forward and backward pass in bfloat16 and channels-last memory where the machine
            does both in hardware; norms and sums are of float32 always, and so is all of the closed form.

    Raises:
        BadInputError: a model that mixes examples or learns nothing.
    """
    require_per_example(model)
    if not _learned(model):
        raise BadInputError("clipping: expected a model with parameters to learn, got none with requires_grad.")
    ways = get_args(Way) if method == "auto" else (method,)
    return Clipper(model, ways, loss, chunk, precision == "fast")


def _learned(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _zeros(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter, dtype=torch.float32)
