"""Settings are frozen dataclasses; one schema serves Python, TOML and the command line."""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from divulge.errors import BadInputError

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """Make the settings dataclass `cls` out of a mapping that comes from outside.

    Args:
        cls: a dataclass.
        values: field values as TOML or JSON gives them; lists become tuples where the field is one, and the word
            `none` None where that is meant, since TOML has no other way to say it.
        where: what to call the source in an error, such as a file name.

    Raises:
        BadInputError: a key that `cls` does not have (the nearest known key is named), a missing one, or a value of
            the wrong type.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Thing:
        ...     epochs: int = 3
        ...     patience: int | None = 5
        >>> build(Thing, {"epochs": 5, "patience": "none"})
        Thing(epochs=5, patience=None)
        >>> build(Thing, {"epoch": 5})
        Traceback (most recent call last):
        ...
        divulge.errors.BadInputError: Thing has no setting 'epoch'; the nearest is 'epochs'. It has: epochs, patience.
    """
    from pydantic import TypeAdapter, ValidationError

    known = [field.name for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]
    label = f"{where}: {cls.__name__}" if where else cls.__name__
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"; the nearest is {near[0]!r}" if near else ""
            raise BadInputError(f"{label} has no setting {key!r}{hint}. It has: {', '.join(known) or 'none'}.")
    hints = get_type_hints(cls)
    meant = {key: None if value == "none" and _optional(hints[key]) else value for key, value in values.items()}
    try:
        return TypeAdapter(cls).validate_python(meant)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadInputError(f"{label}, setting {place!r}: {first['msg']}; got {first['input']!r}.") from None


def _optional(hint: Any) -> bool:
    """Whether a field takes None and no text."""
    return type(None) in get_args(hint) and str not in get_args(hint)


def labelled(name: str, values: Any) -> str:
    """A name with those settings of a dataclass that are not the defaults, such as `top-k (k=1)`."""
    told = [
        f"{field.name}={getattr(values, field.name)}"
        for field in dataclasses.fields(values)
        if getattr(values, field.name) != field.default
    ]
    return f"{name} ({', '.join(told)})" if told else name


def canonical(value: Any) -> Any:
    """Turn settings into plain JSON values, the same for equal settings, dataclasses marked by their type's name.

    Fields declared with `compare=False` are no part of a dataclass's identity and are left out.

    Raises:
        BadInputError: a value with no stable written form, such as a function or a tensor.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field for field in dataclasses.fields(value) if field.compare]
        named = {field.name: canonical(getattr(value, field.name)) for field in fields}
        return {"type": type(value).__name__, **named}
    if isinstance(value, Mapping):
        return {str(key): canonical(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(canonical(item) for item in value)
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise BadInputError(f"settings hold a {type(value).__name__}, which has no stable written form; use plain values.")


def fingerprint(value: Any) -> str:
    """Hash settings to 20 hexadecimal digits, the same on every machine for equal settings.

    Example:
        >>> fingerprint({"a": 1, "b": (2, 3)}) == fingerprint({"b": [2, 3], "a": 1})
        True
    """
    written = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(written.encode()).hexdigest()[:20]
