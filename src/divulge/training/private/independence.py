"""Whether the loss and the gradient of an example are its own alone, which clipping relies on."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.training.private.losses import Loss

CONVERT = "Convert the model with divulge.models.convert.to_private, which puts GroupNorm in its place."


def require_per_example(model: nn.Module, inputs: Tensor | None = None) -> None:
    """Refuse a model in which one example changes the answer or the gradient of another.

    Args:
        model: left as it was.
        inputs: some examples `(N, *shape)`, to see it also of layers whose kind does not tell: the answer to the first
            and its gradient must be the same whatever the others are.

    Raises:
        BadInputError: names the layer where its kind tells, the reason and the replacement.

    Example:
        >>> require_per_example(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
    """
    for name, layer in model.named_modules():
        reason = _mixing(layer)
        if reason:
            raise BadInputError(f"clipping: layer {name or 'the model itself'!r}, a {type(layer).__name__}, {reason}")
    if inputs is not None:
        require_own_answers(model, inputs)


def require_own_answers(model: nn.Module, inputs: Tensor, *, learns: bool = True) -> None:
    """Refuse a model that is seen to mix examples, whatever the kinds of its layers.

    Args:
        model: left as it was.
        inputs: some examples `(N, *shape)`; of a single one nothing is seen.
        learns: whether gradients go through it, which are then looked at too.

    Raises:
        BadInputError: the first answer or its gradient changes with the other examples.
    """
    if len(inputs) > 1 and not _same_beside_others(model, inputs, learns):
        raise BadInputError(
            "clipping: the model's answer to an example, or its gradient, changes with the other examples of the "
            "batch, so no example has a gradient of its own to clip. Replace what computes across the first axis: "
            "batch statistics by GroupNorm or LayerNorm (divulge.models.convert.to_private converts batch norm), "
            "attention over the batch by attention within an example (batch_first=True)."
        )


def require_own_losses(loss: Loss, answers: Tensor, targets: Tensor) -> None:
    """Refuse a loss that gives something other than one value an example, or one that depends on other examples.

    Args:
        loss: the loss.
        answers: those of some examples, `(N, ...)`.
        targets: their targets, `(N, ...)`.

    Raises:
        BadInputError: says what came.
    """
    answers = answers.detach().nan_to_num(0.5, 0.5, 0.5).requires_grad_()
    with torch.enable_grad():
        losses = loss(answers, targets)
    if losses.shape != targets.shape[:1]:
        raise BadInputError(
            f"clipping: expected a loss that gives one value an example, shape {tuple(targets.shape[:1])}, got "
            f"{tuple(losses.shape)}. Use reduction='none', and average over what is within an example."
        )
    (own,) = torch.autograd.grad(losses[0], answers, materialize_grads=True)
    alone = loss(answers[:1].detach(), targets[:1])[0]
    if own[1:].any() or not torch.allclose(alone, losses[0], rtol=1e-4, atol=1e-6, equal_nan=True):
        raise BadInputError(
            "clipping: the loss of an example depends on the other examples of its batch, so no example has a gradient "
            "of its own to clip. Use a loss that is computed from each example alone."
        )


def _mixing(layer: nn.Module) -> str | None:
    """Why a layer's kind is refused, and what to use instead."""
    if isinstance(layer, nn.modules.batchnorm._BatchNorm) and not isinstance(
        layer, nn.modules.instancenorm._InstanceNorm
    ):
        return f"mixes the examples of a batch, so no example has a gradient of its own to clip. {CONVERT}"
    if isinstance(layer, nn.modules.instancenorm._InstanceNorm) and layer.track_running_stats:
        return (
            "keeps running statistics of the private examples, which no noise protects. Set track_running_stats=False, "
            "or convert the model with divulge.models.convert.to_private."
        )
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.scale_grad_by_freq:
        return "scales gradients by how often a token occurs in the whole batch. Set scale_grad_by_freq=False."
    return None


def _same_beside_others(model: nn.Module, inputs: Tensor, learns: bool) -> bool:
    """Whether the first example's answer, and the gradient at it, are the same beside other examples."""
    others = inputs.clone()
    others[1:] = inputs[:1] if not inputs.is_floating_point() else 0.75 - 1.5 * inputs[1:]
    (answer, gradient), (answer_too, gradient_too) = (_first(model, batch, learns) for batch in (inputs, others))
    return torch.allclose(answer, answer_too, rtol=1e-4, atol=1e-5, equal_nan=True) and torch.allclose(
        gradient, gradient_too, rtol=1e-3, atol=1e-5 * float(gradient.nan_to_num().abs().max()), equal_nan=True
    )


def _first(model: nn.Module, batch: Tensor, learns: bool) -> tuple[Tensor, Tensor]:
    """The answer to the first example and a gradient at it, if any, with the same random draws at each call."""
    state = {name: value.detach() for name, value in model.named_parameters()}
    state |= {name: value.clone() for name, value in model.named_buffers()}
    batch = batch.detach().clone().requires_grad_(batch.is_floating_point())
    with seeded(0), torch.set_grad_enabled(learns):
        answers = functional_call(model, state, (batch,))
        direction = torch.randn(answers.shape[1:], device=answers.device)
        total = (answers * direction).sum()
        if not total.requires_grad:
            return answers[0].detach(), torch.zeros(1)
        (gradient,) = torch.autograd.grad(total, batch, materialize_grads=True)
    return answers[0].detach(), gradient[0]
