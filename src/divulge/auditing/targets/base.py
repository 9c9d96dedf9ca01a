"""The one noun for what is audited, whatever form it came in."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.releases import Posteriors


@dataclass(frozen=True, eq=False)
class Target:
    """The model under audit.

    Args:
        name: what to call it in reports.
        kind: its form in words, such as `torch module`.
        release: query access to it.
        fingerprint: its identity in a run's keys; equal only for targets that answer alike.
        module: it, as a module from float32 `(n, *shape)` to logits `(n, classes)`, where it is a torch module.
        estimator: it, where it is a scikit-learn classifier.
        refit: fits an untrained clone of the estimator for shadow models, `refit(data, seed=...)`, and gives query
            access to it; None without an estimator.
        parameters: how many trained numbers it has, where that is known.
        notes: what a reader of the report must know about how it was asked.
        has_inputs: whether its records can be looked at; False where only a table of posteriors was given and the
            records' inputs are row numbers.
    """

    name: str
    kind: str
    release: Posteriors
    fingerprint: str
    module: nn.Module | None = None
    estimator: Any = None
    refit: Callable[..., Posteriors] | None = None
    parameters: int | None = None
    notes: tuple[str, ...] = ()
    has_inputs: bool = True

    def architecture(self) -> Callable[[], nn.Module] | None:
        """What makes an untrained copy of the module, for shadow models; None where there is nothing to train.

        The copy is on the CPU, in float32 and training mode, and its initial weights are drawn from PyTorch's global
        random state (`divulge.models.seeded`). Where only some parameters are frozen, those keep their values: they
        were not learned from the private records. The maker can be sent to other processes.

        Raises:
            BadInputError: the module cannot be copied, or some parameters have no `reset_parameters` above them.
        """
        if self.module is None or not any(parameter.is_floating_point() for parameter in self.module.parameters()):
            return None
        maker = Untrained(self.module)
        with seeded(0):
            maker()
        return maker


@dataclass(frozen=True, eq=False)
class Untrained:
    """Makes copies of a module with initial weights, wherever it is sent: the module travels by value."""

    module: nn.Module

    def __call__(self) -> nn.Module:
        """A fresh copy in training mode on the CPU, in float32."""
        try:
            fresh = copy.deepcopy(self.module).cpu().float()
        except (RuntimeError, TypeError) as error:
            raise BadInputError(
                f"shadow models need an untrained copy of {type(self.module).__name__}, and it cannot be copied: "
                f"{error}"
            ) from error
        parameters = {name: value for name, value in fresh.named_parameters() if value.is_floating_point()}
        learned = {name: value for name, value in parameters.items() if value.requires_grad} or parameters
        with torch.no_grad():
            for value in learned.values():
                value.fill_(torch.nan)
            _reset(fresh, {id(value) for value in learned.values()})
        stale = [name for name, value in fresh.named_parameters() if name in learned and bool(value.isnan().any())]
        if stale:
            shown = ", ".join(stale[:5]) + (f" and {len(stale) - 5} more" if len(stale) > 5 else "")
            raise BadInputError(
                f"shadow models need an untrained copy of {type(self.module).__name__}, but nothing gives new initial "
                f"values to {shown}. Give the layer that owns them a reset_parameters() method, or audit without "
                "shadow models (--budget quick)."
            )
        if len(learned) == len(parameters):
            fresh.requires_grad_(True)
        return fresh.train()

    def __reduce__(self) -> tuple[type["Untrained"], tuple[Any]]:
        """By value: the module's class may live in a file that another process cannot import."""
        from joblib import wrap_non_picklable_objects  # type: ignore[import-untyped]

        return Untrained, (wrap_non_picklable_objects(self.module, keep_wrapper=False),)


def _reset(module: nn.Module, learned: set[int]) -> None:
    """Reset layers from the inside out, so that an outer layer's own scheme has the last word; frozen parts stay."""
    for layer in reversed(list(module.modules())):
        values = [id(value) for value in layer.parameters()]
        if values and not learned.intersection(values):
            continue
        reset = getattr(layer, "reset_parameters", None) or getattr(layer, "_reset_parameters", None)
        if callable(reset):
            kept = {name: value.clone() for name, value in layer.named_parameters() if id(value) not in learned}
            reset()
            for name, value in kept.items():
                layer.get_parameter(name).copy_(value)
