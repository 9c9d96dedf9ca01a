"""The plain training loop."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.models.layers import measure
from divulge.models.stochastic import penalties
from divulge.training.augment import transforms
from divulge.training.optimizer import optimizer_of
from divulge.training.pretrain import pretrain
from divulge.training.recipe import Recipe


@dataclass(frozen=True)
class Epoch:
    """What one pass over the data came to; `validation_loss` is NaN where nothing is stopped early.

    What layers add to the loss is in `loss`, and not in `validation_loss`.
    """

    loss: float
    validation_loss: float


def fit(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    validation: Dataset | None = None,
    device: str | None = None,
    watch: Callable[[int], None] = lambda epoch: None,
    loss_function: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
) -> list[Epoch]:
    """Train `model` in place by cross-entropy and what its layers add; it ends in evaluation mode on the CPU.

    Args:
        model: maps float32 `(N, *shape)` to logits `(N, classes)`; a fresh `Standardize` in it measures `data`, and
            autoencoders in it are trained on `data` first; see `divulge.training.pretrain`.
        data: the training records, all in memory.
        recipe: how to train.
        seed: of the order of records, the augmentation and dropout; the global random state is as before afterwards.
        validation: records for early stopping.
        device: where to train; CUDA if there is one, else the CPU.
        watch: called after each epoch with its number from 1, when `model` is as that epoch left it.
        loss_function: logits and targets to the mean loss, in place of cross-entropy.

    Returns:
        One entry an epoch. With `recipe.patience` the model ends with the weights of the best epoch.

    Raises:
        BadInputError: fewer than two records, early stopping without validation records, augmentation of what are no
            images, or a loss that is no longer finite.
    """
    _require(data, recipe, validation)
    augment = transforms(recipe.augment, data.shape)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    fast = recipe.precision == "fast" and has_fast_bfloat16(place)
    measure(model, data.inputs)
    model.to(place)
    inputs, targets = _resident(data.inputs, place, channels_last=fast), data.targets.to(place)
    if fast:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pretrain(model, inputs, seed=seed)
    optimizer = optimizer_of([value for value in model.parameters() if value.requires_grad], recipe)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, recipe.lr_decay)
    generator = torch.Generator().manual_seed(seed)
    history: list[Epoch] = []
    best, best_state, waited = float("inf"), None, 0

    with seeded(seed):
        for epoch in range(recipe.epochs):
            model.train()
            total = torch.zeros((), device=place)
            for rows in _batches(len(data), recipe.batch_size, generator):
                batch = inputs[rows.to(place)]
                for transform in augment:
                    batch = transform(batch, generator)
                with _autocast(place, fast), penalties(model) as extra:
                    loss = loss_function(model(batch).float(), targets[rows.to(place)])
                    loss = sum((one.mean() for one in extra), start=loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(rows)
            schedule.step()
            mean = float(total) / len(data)
            if not np.isfinite(mean):
                raise BadInputError(
                    f"training diverged in epoch {epoch + 1}: the loss is {mean}. Lower the learning rate."
                )
            held_out = float("nan")
            if recipe.patience is not None and validation is not None:
                held_out = loss_of(model, validation)
            history.append(Epoch(mean, held_out))
            watch(epoch + 1)
            if recipe.patience is not None:
                if held_out < best:
                    best, best_state, waited = held_out, {k: v.clone() for k, v in model.state_dict().items()}, 0
                else:
                    waited += 1
                if waited >= recipe.patience:
                    break
    if best_state is not None:
        model.load_state_dict(best_state)
    model.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    return history


def logits(model: nn.Module, inputs: Tensor, *, batch_size: int = 512) -> np.ndarray:
    """What `model` answers in evaluation mode, float32 `(N, classes)`, whatever precision it was trained in."""
    place = next((p.device for p in model.parameters()), torch.device("cpu"))
    mode = model.training
    model.eval()
    with torch.inference_mode():
        parts = [model(batch.to(place)).float().cpu() for batch in inputs.split(batch_size)]
    model.train(mode)
    return torch.cat(parts).numpy()


def loss_of(model: nn.Module, data: Dataset) -> float:
    """Mean cross-entropy in nats, in evaluation mode."""
    return float(functional.cross_entropy(torch.from_numpy(logits(model, data.inputs)), data.targets))


def accuracy(model: nn.Module, data: Dataset) -> float:
    """Share of records whose most likely class is theirs, in evaluation mode."""
    return float((logits(model, data.inputs).argmax(axis=1) == data.targets.numpy()).mean())


def drawn_accuracies(model: nn.Module, data: Dataset, *, draws: int, seed: int) -> np.ndarray:
    """Accuracy on all of `data` for each of several draws of what the model draws in evaluation mode, `(draws,)`."""
    with seeded(seed):
        return np.array([accuracy(model, data) for _ in range(draws)])


def has_fast_bfloat16(place: torch.device) -> bool:
    """Whether bfloat16 arithmetic is in the hardware, so that autocast gains speed rather than losing it."""
    if place.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _require(data: Dataset, recipe: Recipe, validation: Dataset | None) -> None:
    if len(data) < 2:
        raise BadInputError(f"training: expected at least 2 records, got {len(data)}.")
    if recipe.patience is not None and not validation:
        raise BadInputError(
            "training: early stopping (patience) needs validation records; give some or set patience to none."
        )


def _resident(inputs: Tensor, place: torch.device, *, channels_last: bool) -> Tensor:
    """The inputs laid out so that picking rows yields batches in the layout the model computes in."""
    if channels_last and inputs.ndim == 4:
        return inputs.to(place).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    return inputs.to(place)


def _batches(n: int, size: int, generator: torch.Generator) -> list[Tensor]:
    """Row numbers of each batch of one pass; a last batch of a single record joins the one before, for batch norm."""
    batches = list(torch.randperm(n, generator=generator).split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _autocast(place: torch.device, fast: bool) -> AbstractContextManager:
    return torch.autocast(place.type, dtype=torch.bfloat16) if fast else nullcontext()
