"""The target as a torch module."""

import hashlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from divulge import settings
from divulge.auditing.targets.answers import Reading, examine
from divulge.auditing.targets.base import Target
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.releases import Posteriors


class Reader(nn.Module):
    """A module seen as one that returns log-posteriors `(n, classes)`, however it replies.

    Args:
        inner: the module.
        reading: how its replies are read.
    """

    def __init__(self, inner: nn.Module, reading: Reading) -> None:
        super().__init__()
        self.inner = inner
        self.reading = reading

    def forward(self, x: Tensor) -> Tensor:
        """Log-posteriors up to a constant per row."""
        return self.reading.log_posteriors(call(self.inner, x))


def module_target(
    model: nn.Module,
    *,
    classes: int,
    probe: Tensor,
    logits: bool | None = None,
    name: str = "",
    budget: int | None = None,
) -> Target:
    """A torch module as a target: asked in evaluation mode and without gradients, handed back as it was.

    Args:
        model: float32 records `(n, *shape)` in; out comes a tensor `(n, classes)`, a tuple or mapping with one in it,
            or an object with `logits`; logits, log-probabilities or probabilities; for two classes also one number a
            record.
        classes: how many classes the records have.
        probe: a few records to try it on, float32 `(n, *shape)`.
        logits: whether it returns logits; found out if None.
        name: what to call it; its class's name if empty.
        budget: how many records may be asked about.

    Raises:
        BadInputError: it cannot answer the probe, or `examine` finds its answers unusable.
    """
    lazy = [key for key, value in model.named_parameters() if isinstance(value, nn.parameter.UninitializedParameter)]
    if lazy:
        raise BadInputError(
            f"model {type(model).__name__}: {lazy[0]} has no weights yet (a lazy layer). Call the model on a batch and "
            "load its weights first."
        )
    ask = asking(model)
    with seeded(0):
        examined = examine(ask, probe, classes=classes, logits=logits, budget=budget, hint=_batch_norms(model))
    reading = examined.reading
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    total = sum(parameter.numel() for parameter in model.parameters())
    notes = list(examined.notes)
    if any(module.training for module in model.modules()):
        notes.insert(0, "it came in training mode, was asked in evaluation mode, and was handed back as it came")
    if trained and len(trained) < sum(1 for _ in model.parameters()):
        kept = total - sum(parameter.numel() for parameter in trained)
        notes.append(f"{kept:,} of its {total:,} parameters are frozen; shadow models keep those as they are")
    plain = reading == Reading(classes, logits=True) and not _keyword(model) and _precision(model) == torch.float32
    release = Posteriors(
        lambda batch: reading.table(ask(batch)).double(), classes=classes, logits=reading.logits, budget=budget
    )
    return Target(
        name=name or type(model).__name__,
        kind="torch module",
        release=release,
        fingerprint=settings.fingerprint([module_fingerprint(model), logits]),
        module=model if plain else Reader(model, reading),
        parameters=total,
        notes=tuple(notes),
    )


def asking(model: nn.Module) -> Callable[[Tensor], Any]:
    """What asks `model` about float32 records, without gradients, and returns its bare reply.

    The model's mode and the records stay as they are.

    Raises (when asked):
        BadInputError: the model raises; its words and the shapes are in the message.
    """
    place = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))

    def ask(records: Tensor) -> Any:
        with evaluating(model), torch.no_grad():
            try:
                # A copy, for a model may begin with an operation in place.
                return call(model, records.to(place, copy=True))
            except Exception as error:
                raise BadInputError(
                    f"model {type(model).__name__} could not answer {len(records)} records of shape "
                    f"{tuple(records.shape[1:])}: {type(error).__name__}: {error}{_expected(model, records)}"
                ) from error

    return ask


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; after it, every submodule in the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def call(model: nn.Module, records: Tensor) -> Any:
    """Call a module in its own precision, by the keyword `pixel_values` if it has one, as transformers' models do."""
    keyword, records = _keyword(model), records.to(_precision(model))
    return model(**{keyword: records}) if keyword else model(records)


def module_fingerprint(model: nn.Module) -> str:
    """A hash of a module: its layers, their plain attributes and code, parameters and buffers, but not its mode."""
    digest = hashlib.blake2b(digest_size=10)
    if isinstance(model, torch.jit.ScriptModule):
        digest.update(str(model.inlined_graph).encode())
    for key, layer in model.named_modules():
        kind, code = type(layer), getattr(getattr(type(layer), "forward", None), "__code__", None)
        plain = {name: value for name, value in vars(layer).items() if name != "training" and _is_plain(value)}
        constants = [value for value in code.co_consts if _is_plain(value)] if code else []
        digest.update(repr((key, kind.__qualname__, layer.extra_repr(), sorted(plain.items()), constants)).encode())
        digest.update(code.co_code if code else b"")
    for key, value in model.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor):
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(repr((key, value.dtype, tuple(value.shape), value.requires_grad)).encode())
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _is_plain(value: Any) -> bool:
    return (
        value is None
        or isinstance(value, (bool, int, float, str))
        or (isinstance(value, (tuple, list)) and all(_is_plain(part) for part in value))
    )


def _keyword(model: nn.Module) -> str:
    if isinstance(model, torch.jit.ScriptModule):
        return ""
    return "pixel_values" if "pixel_values" in inspect.signature(model.forward).parameters else ""


def _precision(model: nn.Module) -> torch.dtype:
    return next((value.dtype for value in model.parameters() if value.is_floating_point()), torch.float32)


def _batch_norms(model: nn.Module) -> str:
    """Which layers normalize by the batch even in evaluation mode, in words; empty if none."""
    names = [
        key
        for key, layer in model.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is None
    ]
    if not names:
        return ""
    return (
        f"Batch norm {', '.join(repr(name) for name in names[:3])} keeps no running statistics and uses those of the "
        "batch as in training: set track_running_stats=True."
    )


def _expected(model: nn.Module, records: Tensor) -> str:
    """What the first layer with a fixed width expects, in words; empty if there is none or it fits."""
    for key, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            width, size = layer.in_features, records[0].numel()
            if records.shape[-1] == width:
                return ""
            hint = " Put nn.Flatten() first." if size == width else ""
            return f". Its first layer {key or 'itself'} expects {width} features, the records have {size}.{hint}"
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            if records.ndim == 4 and records.shape[1] == layer.in_channels:
                return ""
            return (
                f". Its first layer {key or 'itself'} expects {layer.in_channels} channels, the records have shape "
                f"{tuple(records.shape[1:])}."
            )
    return ""
