"""What a client of federated learning shares: the gradient of a private batch."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.models.stochastic import draw_noise, penalties, stochastic_layers

Reduction = Literal["mean", "sum"]
REDUCTIONS: dict[Reduction, Callable[[Tensor], Tensor]] = {"mean": torch.mean, "sum": torch.sum}
NOTHING: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class GradientRecord:
    """All that an attacker gets of one private batch, with the public facts about it.

    Args:
        gradients: by parameter name, in the model's order, each of its parameter's shape. What a client withholds is
            zero.
        batch_size: records in the batch.
        classes: columns of the model's answer.
        shape: of a record.
        reduction: how the losses of the batch become one.
        training: whether the client's model was in training mode.
        kind: `gradient` of one batch, or `update` of the weights over `local_steps` steps, divided by `-lr`.
        local_steps: how many steps the client took.
        step_sizes: records in each of them, where a step does not take the whole batch; empty where all do.
        lr: of those steps; needed for an update.

    Raises:
        BadInputError: facts that contradict each other.
    """

    gradients: Mapping[str, Tensor]
    batch_size: int
    classes: int
    shape: tuple[int, ...]
    reduction: Reduction = "mean"
    training: bool = False
    kind: Literal["gradient", "update"] = "gradient"
    local_steps: int = 1
    lr: float | None = None
    step_sizes: tuple[int, ...] = ()

    @property
    def steps(self) -> tuple[slice, ...]:
        """The records of each step, in an order of the batch in which it goes through them step by step.

        Nobody tells which records a step took. Where none is in two steps, that is a matter of what order a batch is
        rebuilt in, and so of none.

        Raises:
            BadInputError: some records are in several steps but not in all, which depends on who is in which.
        """
        if not self.step_sizes:
            return (slice(0, self.batch_size),) * self.local_steps
        if sum(self.step_sizes) != self.batch_size:
            raise BadInputError(
                f"gradient record: the client took {self.local_steps} steps of {sum(self.step_sizes)} records in all "
                f"on a batch of {self.batch_size}: it met some of them in several steps, nobody knows whom in which, "
                "so it cannot be played again. Attack an update of one pass, or of steps on the whole batch."
            )
        ends = list(itertools.accumulate(self.step_sizes, initial=0))
        return tuple(itertools.starmap(slice, itertools.pairwise(ends)))

    @property
    def facts(self) -> tuple[Any, ...]:
        """The public facts, without the gradients: records with the same ones can be attacked together."""
        return (
            *(self.batch_size, self.classes, self.shape, self.reduction, self.training),
            *(self.kind, self.local_steps, self.lr, self.step_sizes),
        )

    def __post_init__(self) -> None:
        if min(self.batch_size, self.classes, self.local_steps, *self.shape) < 1:
            raise BadInputError(
                f"gradient record: expected sizes of 1 or more, got a batch of {self.batch_size} records of shape "
                f"{self.shape}, {self.classes} classes and {self.local_steps} local steps."
            )
        if self.kind == "gradient" and self.local_steps > 1:
            raise BadInputError(
                f"gradient record: a gradient belongs to one step, got {self.local_steps}. Say kind='update'."
            )
        if self.step_sizes and not (
            len(self.step_sizes) == self.local_steps
            and min(self.step_sizes) >= 1
            and max(self.step_sizes) <= self.batch_size <= sum(self.step_sizes)
        ):
            raise BadInputError(
                f"gradient record: expected for each of {self.local_steps} steps how many of {self.batch_size} records "
                f"it took, all of them in one step or another, got step_sizes={self.step_sizes}."
            )
        if self.kind == "update" and not (self.lr and self.lr > 0):
            raise BadInputError(f"gradient record: an update needs the positive lr of its steps, got {self.lr}.")

    def require(self, model: nn.Module) -> None:
        """See that this can be a record of `model`.

        Raises:
            BadInputError: tensors that are missing, reordered or not of the model, of another shape or device, not
                floating point, not finite, or all zero.
        """
        expected = {name: p for name, p in model.named_parameters() if p.requires_grad}
        given = list(self.gradients)
        if missing := [name for name in expected if name not in self.gradients]:
            raise BadInputError(
                f"gradient record: the model learns {len(expected)} tensors and no gradient came for "
                f"{_some(missing)}. Put zeros where a client withholds one."
            )
        if unknown := [name for name in given if name not in expected]:
            raise BadInputError(
                f"gradient record: {_some(unknown)} are not parameters that the model learns, which are "
                f"{_some(list(expected))}. The record is of another architecture."
            )
        if given != list(expected):
            raise BadInputError(
                f"gradient record: expected the order of model.named_parameters(), {_some(list(expected))}, got "
                f"{_some(given)}."
            )
        for name, parameter in expected.items():
            gradient = self.gradients[name]
            if gradient.shape != parameter.shape:
                raise BadInputError(
                    f"gradient record: {name} has shape {tuple(parameter.shape)} in the model and "
                    f"{tuple(gradient.shape)} in the record. The record is of another architecture."
                )
            if gradient.device != parameter.device:
                raise BadInputError(
                    f"gradient record: {name} is on {gradient.device} and the model on {parameter.device}. Move one."
                )
            if not gradient.is_floating_point():
                raise BadInputError(f"gradient record: expected floating point, got {gradient.dtype} for {name}.")
            if not torch.isfinite(gradient).all():
                raise BadInputError(f"gradient record: {name} holds NaN or infinity; no attack can use it.")
        if not any(gradient.any() for gradient in self.gradients.values()):
            raise BadInputError("gradient record: every gradient is zero, so there is nothing to attack.")


@dataclass(frozen=True)
class Tampering:
    """What is publicly known of how a defense changes the gradients that are shared; the default says nothing was.

    It is all that an adaptive adversary needs of a mechanism: what not to believe, and how far to believe the rest.

    Args:
        withheld: parameters whose shared gradients are not to be believed, by their names or those of their modules.
        partial: parameters, likewise, whose entries count only part of a batch of several, nobody tells which: not to
            be believed unless the batch is of one.
        zeros: whether an entry that is exactly zero was withheld and says nothing.
        scaled: whether the gradient as a whole may have been shrunk by a factor that is not told.
        noise: the law of what was added to every entry.
        std: the standard deviation of that noise, in the units of the shared gradient.
        rounding: how an entry was rounded: to its sign times a magnitude told for each tensor, or to steps of a size
            told for each tensor.

    Raises:
        BadInputError: noise without a size, or a size without noise.
    """

    withheld: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()
    zeros: bool = False
    scaled: bool = False
    noise: Literal["none", "gaussian", "laplace"] = "none"
    std: float = 0.0
    rounding: Literal["none", "sign", "steps"] = "none"

    def __post_init__(self) -> None:
        if (self.noise == "none") != (self.std == 0) or self.std < 0:
            raise BadInputError(f"tampering: noise {self.noise!r} and a standard deviation of {self.std} contradict.")

    def of_batch(self, size: int) -> "Tampering":
        """The same for batches of one size, with nothing `partial` left.

        Example:
            >>> Tampering(partial=("fc.weight",)).of_batch(2).withheld
            ('fc.weight',)
        """
        return replace(self, withheld=self.withheld + (self.partial if size > 1 else ()), partial=())

    def withholds(self, name: str) -> bool:
        """Whether the parameter of that name is among those withheld.

        Example:
            >>> known = Tampering(withheld=("fc1",))
            >>> known.withholds("fc1.weight"), known.withholds("fc10.weight")
            (True, False)
        """
        return any(name == one or name.startswith(one.removesuffix(".") + ".") for one in self.withheld)


def share(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    reduction: Reduction = "mean",
    training: bool = False,
    loss: Callable[..., Tensor] = functional.cross_entropy,
    seed: int = 0,
    noise: Mapping[str, Tensor] = NOTHING,
) -> GradientRecord:
    """The gradient of a batch as an honest client of federated learning computes it.

    What layers of the model add to the loss, such as the divergence of a variational bottleneck, is part of it, and
    stochastic layers draw in either mode. The model, its mode, its buffers, gradients that it holds, and the global
    random state are left as they were.

    Args:
        model: maps `(N, *shape)` to logits `(N, classes)`.
        inputs: `(N, *shape)`.
        targets: class numbers `(N,)`.
        reduction: how the losses of the batch become one.
        training: whether the model is in training mode, in which batch norm takes the statistics of the batch.
        loss: called as `loss(logits, targets, reduction=reduction)`.
        seed: of what the model draws: its stochastic layers in either mode, others such as dropout in training mode.
        noise: what some stochastic layers use instead of drawing, by name; see `divulge.models.stochastic`.

    Raises:
        BadInputError: an empty batch, targets that do not fit it, noise for what is no stochastic layer, a model whose
            answer has no gradient, or one with stochastic layers whose forward pass has side effects.
    """
    if len(inputs) == 0 or targets.shape != inputs.shape[:1]:
        raise BadInputError(
            f"share: expected a batch of 1 or more with a target for each, got {len(inputs)} records and targets of "
            f"shape {tuple(targets.shape)}."
        )
    stochastic = stochastic_layers(model)
    if unknown := sorted(noise.keys() - stochastic.keys()):
        raise BadInputError(
            f"share: expected noise for {_some(list(stochastic)) or 'no layer, as none is stochastic'}, got it for "
            f"{_some(unknown)}."
        )
    if stochastic.keys() - noise.keys():
        noise = draw_noise(model, inputs, generator=torch.Generator().manual_seed(seed)) | dict(noise)
    learned = {name: p.detach().requires_grad_() for name, p in model.named_parameters() if p.requires_grad}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    modes = {module: module.training for module in model.modules()}
    try:
        model.train(training)
        with seeded(seed), torch.enable_grad(), penalties(model) as extra:
            logits = functional_call(model, {**learned, **buffers, **noise}, (inputs,))
            if logits.ndim != 2 or not (targets.min() >= 0 and targets.max() < logits.shape[1]):
                raise BadInputError(
                    f"share: expected logits (N, classes) and targets below the classes, got {tuple(logits.shape)} and "
                    f"targets from {int(targets.min())} to {int(targets.max())}."
                )
            if not logits.requires_grad:
                raise BadInputError(
                    "share: the model's answer has no gradient: it learns nothing, or computes outside of autograd."
                )
            value = sum(map(REDUCTIONS[reduction], extra), start=loss(logits, targets, reduction=reduction))
            gradients = torch.autograd.grad(value, list(learned.values()), materialize_grads=True)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return GradientRecord(
        dict(zip(learned, gradients, strict=True)),
        batch_size=len(inputs),
        classes=logits.shape[1],
        shape=tuple(inputs.shape[1:]),
        reduction=reduction,
        training=training,
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
