"""Labels in any form, brought to the class numbers of the data."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from divulge.errors import BadInputError


def class_numbers(labels: np.ndarray, classes: Sequence[str], *, what: str) -> tuple[list[int], tuple[str, ...]]:
    """Class number of each label: by name where every label is a class name, else by number.

    Names that are as many as the classes, where those have no names but numbers, are taken in sorted order, as label
    encoders number them.

    Args:
        labels: strings or whole numbers `(n,)`.
        classes: class names in the order of their numbers.
        what: what to call the labels in an error.

    Returns:
        The numbers, and what a reader of the report must know.

    Raises:
        BadInputError: a label that is neither a class name nor a class number.

    Example:
        >>> class_numbers(np.array(["dog", "cat"]), ("cat", "dog"), what="labels")
        ([1, 0], ())
        >>> class_numbers(np.array([0.0, 2.0]), ("cat", "dog", "owl"), what="labels")
        ([0, 2], ())
    """
    known = {name: number for number, name in enumerate(classes)}
    written = [_written(label) for label in labels.tolist()]
    if all(label in known for label in written):
        return [known[label] for label in written], ()
    unnamed = list(classes) == [str(number) for number in range(len(classes))]
    if not unnamed and all(label.isdecimal() and int(label) < len(classes) for label in written):
        return [int(label) for label in written], ()
    distinct = sorted(set(written))
    if unnamed and len(distinct) == len(classes) and not any(label.lstrip("-").isdecimal() for label in distinct):
        ranks = {label: rank for rank, label in enumerate(distinct)}
        return [ranks[label] for label in written], (
            f"its classes {', '.join(distinct[:5])}{', ...' if len(distinct) > 5 else ''} were numbered in sorted "
            "order: the data names none",
        )
    stranger = next(
        label for label in written if label not in known and not (label.isdecimal() and int(label) < len(classes))
    )
    raise BadInputError(
        f"{what}: {stranger!r} is neither a class name nor a class number of the data, which has {len(classes)} "
        f"classes ({', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''}). Name the classes in the Dataset "
        "(classes=...)."
    )


def _written(label: Any) -> str:
    text = str(int(label)) if isinstance(label, bool) else str(label).strip()
    return text.removesuffix(".0") if text.removesuffix(".0").isdecimal() else text
