"""From whatever a person has to a target."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from divulge.auditing.targets.base import Target
from divulge.auditing.targets.callables import callable_target
from divulge.auditing.targets.endpoint import Endpoint, endpoint_target
from divulge.auditing.targets.estimators import estimator_target
from divulge.auditing.targets.modules import module_target
from divulge.errors import BadInputError


def as_target(
    model: Any,
    *,
    classes: int | Sequence[str],
    probe: Tensor,
    logits: bool | None = None,
    name: str = "",
    budget: int | None = None,
) -> Target:
    """Take a model in any of the usual forms, and try it on a few records.

    Args:
        model: a `torch.nn.Module`, a fitted scikit-learn classifier, an `Endpoint`, a callable from records to
            posteriors, or a `Target`, which is taken as it is.
        classes: how many classes the data has, or their names in the order of their numbers.
        probe: a few records of the data, float32 `(n, *shape)`.
        logits: whether the model returns logits; found out if None.
        name: what to call it in reports.
        budget: how many records it may be asked about. Callables and endpoints count those they are tried on.

    Raises:
        BadInputError: none of these, or a model that cannot answer the probe with one finite row of posteriors a
            record.

    Example:
        >>> import torch
        >>> target = as_target(nn.Linear(4, 3), classes=3, probe=torch.rand(8, 4))
        >>> target.kind, target.parameters, target.release.logits(torch.rand(2, 4)).shape
        ('torch module', 15, (2, 3))
    """
    names = tuple(str(number) for number in range(classes)) if isinstance(classes, int) else tuple(classes)
    if isinstance(model, type):
        raise BadInputError(f"expected a model, got the class {model.__name__}. Make an instance of it.")
    if isinstance(model, Target):
        return _taken(model, len(names), logits=logits, budget=budget)
    if isinstance(model, nn.Module):
        return module_target(model, classes=len(names), probe=probe, logits=logits, name=name, budget=budget)
    if isinstance(model, Endpoint):
        return endpoint_target(model, classes=len(names), probe=probe, logits=logits, name=name, budget=budget)
    if hasattr(model, "predict_proba") or hasattr(model, "decision_function"):
        return estimator_target(model, classes=names, probe=probe, name=name, budget=budget)
    if callable(model):
        return callable_target(model, classes=len(names), probe=probe, logits=logits, name=name, budget=budget)
    if hasattr(model, "predict"):
        raise BadInputError(
            f"{type(model).__name__} has neither predict_proba nor decision_function. Give a classifier with one of "
            "them, or a function that turns predicted classes into one-hot rows."
        )
    raise BadInputError(
        "expected a torch.nn.Module, a fitted scikit-learn classifier, a function from records to posteriors, an "
        f"Endpoint or a Target, got {type(model).__name__}."
    )


def _taken(target: Target, classes: int, *, logits: bool | None, budget: int | None) -> Target:
    if target.release.classes != classes:
        raise BadInputError(
            f"target {target.name!r} answers for {target.release.classes} classes, the data has {classes}."
        )
    if logits is not None or budget is not None:
        raise BadInputError(f"target {target.name!r} is made already: give logits and budget to what made it.")
    return target
