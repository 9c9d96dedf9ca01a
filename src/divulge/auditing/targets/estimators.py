"""The target as a scikit-learn classifier."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from divulge.auditing.targets.answers import examine
from divulge.auditing.targets.base import Target
from divulge.auditing.targets.labels import class_numbers
from divulge.data import Dataset
from divulge.errors import BadInputError
from divulge.releases import FLOOR, Posteriors


def estimator_target(
    model: Any, *, classes: Sequence[str], probe: Tensor, name: str = "", budget: int | None = None
) -> Target:
    """A fitted classifier with `predict_proba`, or else `decision_function`, as a target.

    Records are flattened to rows. Columns are brought from the order of `classes_` to that of the data's classes; a
    class that the classifier never saw gets the smallest posterior there is.

    Args:
        model: the classifier.
        classes: class names of the data, in the order of their numbers.
        probe: a few records to try it on, float32 `(n, *shape)`.
        name: what to call it; its class's name if empty.
        budget: how many records may be asked about.

    Raises:
        BadInputError: not fitted, fitted to records of another width, labels that are none of the data's classes, or
            more than one output.
    """
    import joblib  # type: ignore[import-untyped]

    label = type(model).__name__
    fitted = getattr(model, "classes_", None)
    if fitted is None:
        raise BadInputError(
            f"{label} has no classes_: it is not fitted. Call fit(inputs, labels) on its training data first."
        )
    if isinstance(fitted, list):
        raise BadInputError(f"{label} has {len(fitted)} outputs; expected one. Audit one classifier for each output.")
    width, expected = probe[0].numel(), getattr(model, "n_features_in_", None)
    if expected not in (None, width):
        raise BadInputError(
            f"{label} was fitted to {expected} features a record and the records have {width} (shape "
            f"{tuple(probe.shape[1:])}, flattened). Give the records as the classifier was given them."
        )
    columns, notes = class_numbers(np.asarray(fitted), classes, what=f"classes_ of {label}")
    ask = asking(model, columns=columns, classes=len(classes))
    scores = not hasattr(model, "predict_proba")
    examined = examine(ask, probe, classes=len(classes), logits=scores, budget=budget)
    notes += examined.notes
    if scores:
        notes += (
            "it has no predict_proba: decision_function was read as logits, scores that are no calibrated posteriors",
        )
    missing = [classes[number] for number in range(len(classes)) if number not in columns]
    if missing:
        notes += (
            f"it never saw {len(missing)} of {len(classes)} classes ({', '.join(missing[:5])}): posterior {FLOOR:g}",
        )
    release = Posteriors(ask, classes=len(classes), logits=scores, batch_size=4096, budget=budget)
    return Target(
        name=name or label,
        kind="scikit-learn classifier",
        release=release,
        fingerprint=joblib.hash([model, list(classes)])[:20],
        estimator=model,
        refit=partial(refitted, model),
        notes=notes,
    )


def asking(model: Any, *, columns: Sequence[int], classes: int) -> Callable[[Tensor], np.ndarray]:
    """What asks a classifier and returns probabilities, or logits without `predict_proba`, `(n, classes)` in class
    order.

    Args:
        model: the classifier.
        columns: class number of each of its columns.
        classes: how many classes the data has.
    """

    def ask(records: Tensor) -> np.ndarray:
        rows = records.reshape(len(records), -1).numpy().copy()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            if hasattr(model, "predict_proba"):
                known = np.asarray(model.predict_proba(rows), dtype=np.float64)
                table = np.zeros((len(rows), classes))
            else:
                known = np.asarray(model.decision_function(rows), dtype=np.float64)
                if known.ndim == 1:
                    known = np.stack([np.zeros_like(known), known], axis=1)
                floor = np.logaddexp.reduce(known, axis=1, keepdims=True) + np.log(FLOOR)
                table = np.repeat(floor, classes, axis=1)
        if known.shape != (len(rows), len(columns)):
            raise BadInputError(
                f"{type(model).__name__} answers with shape {known.shape}, expected ({len(rows)}, {len(columns)}), a "
                "column for each of its classes_. For an SVC, set decision_function_shape='ovr'."
            )
        table[:, columns] = known
        return table

    return ask


def refitted(model: Any, data: Dataset, *, seed: int) -> Posteriors:
    """Query access to an untrained clone of `model`, fitted to `data`.

    Args:
        model: a classifier that `sklearn.base.clone` can copy.
        data: the training records.
        seed: given to every `random_state` of the clone.

    Raises:
        BadInputError: it cannot be cloned.
    """
    from sklearn.base import clone

    try:
        fresh = clone(model)
    except TypeError as error:
        raise BadInputError(f"shadow models need a clone of {type(model).__name__}: {error}") from error
    seeds = {key: seed for key in fresh.get_params() if key == "random_state" or key.endswith("__random_state")}
    fresh.set_params(**seeds).fit(data.inputs.reshape(len(data), -1).numpy(), data.targets.numpy())
    columns = [int(number) for number in fresh.classes_]
    return Posteriors(
        asking(fresh, columns=columns, classes=data.num_classes),
        classes=data.num_classes,
        logits=not hasattr(fresh, "predict_proba"),
        batch_size=4096,
    )
